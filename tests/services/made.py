"""What tests need and nobody has at hand: made once, kept in the user's cache, never inside a test.

``python -m tests.services`` makes all of it; pytest makes what the chosen tests need before the
first of them runs. What could not be made is not tried again by tests, which say why: a build that
waits for a network would else take its time once a test.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["Made", "UnavailableError", "run"]

_AGAIN = "`make test` or `python -m tests.services` tries again"
_BUILD_SECONDS = 1800  # a network that hangs; nothing here takes a quarter of it
_UNUSED_SECONDS = 90 * 24 * 3600


class UnavailableError(Exception):
    """A service can't be had here; the text says why."""


@dataclass(frozen=True)
class Made:
    """Something that is made once.

    Attributes:
        name: its name in the cache, with all that it depends on, such as its version.
        title: what people call it.
        takes: how long making it takes.
        programs: what must be installed for that.
        make: is given an empty folder, and returns what of it is to be kept; raises
            UnavailableError.
    """

    name: str
    title: str
    takes: str
    programs: tuple[str, ...]
    make: Callable[[Path], Path]

    @property
    def path(self) -> Path:
        """Where it is, once it is made."""
        return _cache() / self.name

    def get(self, say: Callable[[str], None] | None = None) -> Path:
        """Return where it is; make it, and say so, if it is nowhere.

        Of several processes one makes it, and the others wait.

        Raises:
            UnavailableError: a program is missing, or making it failed, now or before.
        """
        if self._is_there():
            return self.path
        for program in self.programs:
            if shutil.which(program) is None:
                message = f"no {self.title}: {program} is not installed"
                raise UnavailableError(message)
        with _locked(self.path.with_name(f"{self.name}.lock")):
            if self._is_there():
                return self.path
            if self._failure.exists():
                message = f"{self._failure.read_text(encoding='utf-8')}; {_AGAIN}"
                raise UnavailableError(message)
            if say is not None:
                say(f"building {self.title}, once: {self.takes}")
            self._make()
        return self.path

    def forget_failure(self) -> None:
        """Let the next ``get`` try again."""
        self._failure.unlink(missing_ok=True)

    @property
    def _failure(self) -> Path:
        return self.path.with_name(f"{self.name}.failed")

    def _is_there(self) -> bool:
        with contextlib.suppress(FileNotFoundError):
            os.utime(self.path)  # it is used, so it stays
            return True
        return False

    def _make(self) -> None:
        with tempfile.TemporaryDirectory(dir=self.path.parent) as folder:
            try:
                made = self.make(Path(folder))
            except UnavailableError as error:
                text = f"no {self.title}: {error}"
                self._failure.write_text(text, encoding="utf-8")
                raise UnavailableError(text) from error
            made.rename(self.path)
        _remove_unused(self.path.parent)


def run(command: Sequence[str], folder: Path, environment: Mapping[str, str] | None = None) -> None:
    """Run a command that makes something in a folder.

    Raises:
        UnavailableError: it failed.
    """
    try:
        done = subprocess.run(
            command,
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=_BUILD_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        message = f"{command[0]} took longer than {_BUILD_SECONDS}s"
        raise UnavailableError(message) from error
    if done.returncode:
        output = f"{done.stdout}\n{done.stderr}".strip() or "no output"
        message = f"{command[0]} failed: {' '.join(output[-300:].split())}"
        raise UnavailableError(message)


def _cache() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return cache / "batch-collection-tests"


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _remove_unused(cache: Path) -> None:
    """Remove what no run has used for long, such as older versions."""
    for path in cache.iterdir():
        if path.stat().st_mtime < time.time() - _UNUSED_SECONDS:
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
