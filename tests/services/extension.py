"""What is compiled of the project: in place for tests, as ``pip install -e .`` leaves it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transforms.sources.kafka.reader_name import ReaderName

__all__ = ["build_in_place", "built", "needed"]

ROOT = Path(__file__).parent.parent.parent
_SOURCE = ROOT / "transforms" / "sources" / "kafka" / "gather.c"
_COMPILER = "cc"


def built(folder: Path, variables: Mapping[str, str] | None = None) -> Path | None:
    """Build the columnar reader's library as setup.py does; return it, if there is one then."""
    where = [f"--build-lib={folder / 'lib'}", f"--build-temp={folder / 'temp'}"]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *where],
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        check=True,
    )
    return next(folder.rglob("gather.*so"), None)


def build_in_place() -> None:
    """Build it where it is missing, or older than its source; without a compiler do nothing."""
    there = next(_SOURCE.parent.glob("gather.*so"), None)
    if there is not None and there.stat().st_mtime >= _SOURCE.stat().st_mtime:
        return
    with tempfile.TemporaryDirectory(dir=_SOURCE.parent) as folder:
        found = built(Path(folder))
        if found is not None:
            found.replace(_SOURCE.parent / found.name)  # all at once: several may build


def needed(reader: ReaderName) -> ReaderName:
    """Return a reader; skip where it can't be had, fail where it could."""
    from transforms.sources.kafka.columnar import why_not  # noqa: PLC0415 - once it is built

    if reader == "columnar" and why_not():
        if shutil.which(_COMPILER) is None:
            pytest.skip(f"no columnar reader: {_COMPILER} is not installed")
        pytest.fail(why_not())
    return reader
