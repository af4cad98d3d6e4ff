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

__all__ = ["build_in_place", "built", "can_compile", "check_built", "needed"]

ROOT = Path(__file__).parent.parent.parent
_SOURCES = [
    source for top in ("batch_collection", "transforms") for source in (ROOT / top).rglob("*.c")
]
_HEADERS = list((ROOT / "transforms").glob("*.h"))
_COMPILER = "cc"


def built(folder: Path, variables: Mapping[str, str] | None = None) -> list[Path]:
    """Build what is compiled as setup.py does; return what of it there is then."""
    where = [f"--build-lib={folder / 'lib'}", f"--build-temp={folder / 'temp'}"]
    subprocess.run(
        [sys.executable, "setup.py", "--quiet", "build_ext", *where],
        cwd=ROOT,
        env={**os.environ, **(variables or {})},
        capture_output=True,
        check=True,
    )
    return list((folder / "lib").rglob("*.so"))


def build_in_place() -> None:
    """Build what is missing, or older than its source; without a compiler do nothing."""
    if all(map(_is_new, _SOURCES)):
        return
    with tempfile.TemporaryDirectory(dir=ROOT / "transforms") as folder:
        lib = Path(folder) / "lib"
        for found in built(Path(folder)):
            found.replace(ROOT / found.relative_to(lib))  # all at once: several may build


def _is_new(source: Path) -> bool:
    made = next(source.parent.glob(f"{source.stem}.*so"), None)
    newest = max(each.stat().st_mtime for each in (source, *_HEADERS))
    return made is not None and made.stat().st_mtime >= newest


def can_compile() -> bool:
    """Tell whether there is a compiler, with which all must be there."""
    return shutil.which(_COMPILER) is not None


def check_built(source: str, *, is_built: bool) -> None:
    """Skip where what is compiled of a source can't be had, fail where it could."""
    if is_built:
        return
    if not can_compile():
        pytest.skip(f"{source} is not compiled: {_COMPILER} is not installed")
    pytest.fail(f"{source} was not compiled")


def needed(reader: ReaderName) -> ReaderName:
    """Return a reader; skip where it can't be had, fail where it could."""
    from transforms.sources.kafka.columnar import why_not  # noqa: PLC0415 - once it is built

    if reader == "columnar" and why_not():
        if not can_compile():
            pytest.skip(f"no columnar reader: {_COMPILER} is not installed")
        pytest.fail(why_not())
    return reader
