"""What workers install below the package, in an environment that is made once."""

from __future__ import annotations

import hashlib
import os
import sys
import venv
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING

from packaging.requirements import Requirement

from tests.services.made import Made, run

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BELOW", "LOCK", "PIP", "below_the_package", "outside"]

ROOT = Path(__file__).parent.parent.parent
LOCK = ROOT / "requirements" / f"py{sys.version_info.major}{sys.version_info.minor}.txt"
PIP = ("-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--retries=10")


def below_the_package(say: Callable[[str], None] | None = None) -> Path:
    """Return an environment with all that the package needs; ``say`` is told when it is made.

    Raises:
        UnavailableError: it can't be installed, such as without a package index.
    """
    return BELOW.get(say)


def outside() -> dict[str, str]:
    """Return the environment variables without what would lead to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


def _install(folder: Path) -> Path:
    made = folder / "venv"
    venv.create(made, with_pip=True)
    run([str(made / "bin" / "python"), *PIP, *_wanted()], folder, outside())
    return made


def _wanted() -> list[str]:
    """Return what pip is told: the lock, or what it would be made from."""
    if LOCK.exists():
        return ["--require-hashes", "-r", str(LOCK)]
    asked = map(Requirement, requires("batch-collection") or [])
    names = [each.name for each in asked if _is_for_dataflow(each)]
    return [*names, "-r", str(ROOT / "requirements.txt"), "-c", str(ROOT / "requirements-dev.txt")]


def _is_for_dataflow(asked: Requirement) -> bool:
    return asked.marker is not None and asked.marker.evaluate({"extra": "dataflow"})


def _digest() -> str:
    """Return what tells environments apart: the Python, and what is installed."""
    source = LOCK if LOCK.exists() else ROOT / "requirements-dev.txt"
    text = f"{sys.version} {sys.base_prefix} ".encode() + source.read_bytes()
    return hashlib.sha256(text).hexdigest()[:12]


BELOW = Made(
    f"below-the-package-{_digest()}", "environment of workers", "about a minute", (), _install
)
