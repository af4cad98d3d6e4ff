"""Where a reader runs: this environment, or one beside it that has what it needs more."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
import sysconfig
from importlib.metadata import distributions
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.made import Made, UnavailableError, run

if TYPE_CHECKING:
    from bench.readers.contract import Reader

__all__ = ["beside", "environment"]

_ROOT = Path(__file__).parents[2]


def beside(package: str, version: str) -> Made:
    """Return a package with all that it needs and this environment lacks.

    It is kept in the user's cache, for this environment as it is; nothing is added to that.
    """

    def make(folder: Path) -> Path:
        made = folder / "made"
        run([sys.executable, "-m", "venv", "--without-pip", str(made)], folder)
        ours = sysconfig.get_path("purelib")
        (_packages(made) / "project.pth").write_text(ours, encoding="utf-8")  # pip sees what it has
        pip = [sys.executable, "-m", "pip", f"--python={made}/bin/python", "install", "-q"]
        run([*pip, f"{package}=={version}"], folder)
        return made

    name = f"reader-{package}-{version}-{_fingerprint()}"
    return Made(name, package, "a minute", (), make)


def environment(reader: Reader, scratch: Path) -> dict[str, str]:
    """Return the variables of a process that runs a reader; what it writes goes to ``scratch``.

    Raises:
        UnavailableError: something is not installed, or can't be.
    """
    paths = [str(_ROOT)]
    for module in reader.modules if reader.made is None else reader.modules[:-1]:
        if importlib.util.find_spec(module.partition(".")[0]) is None:
            message = f"{module.partition('.')[0]} is not installed"
            raise UnavailableError(message)
    if reader.made is not None:
        made = reader.made.get(lambda text: print(text, file=sys.stderr))
        paths.insert(0, str(_packages(made)))
    return {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(paths),
        "CUDA_VISIBLE_DEVICES": "",
        "HF_HOME": str(scratch),
        "HF_HUB_OFFLINE": "1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "TMPDIR": str(scratch),
    }


def _packages(made: Path) -> Path:
    (found,) = (made / "lib").glob("python*/site-packages")
    return found


def _fingerprint() -> str:
    """Return what is installed here, in short."""
    names = {f"{each.metadata['Name']}=={each.version}" for each in distributions()}
    return hashlib.sha256("\n".join([sys.version, *sorted(names)]).encode()).hexdigest()[:12]
