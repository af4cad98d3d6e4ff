"""A disk whose calls fail or take long, for this process or for a collector of its own.

``python -m tests.campaign.broken_disk ROOT CALL K SECONDS -- FLAGS`` runs the collector with
``os.CALL`` failing below ``ROOT`` at its ``K``-th time (-1: never) and taking ``SECONDS`` each.
"""

from __future__ import annotations

import errno
import os
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from pipeline import cli

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["CALLS", "BrokenDisk"]

CALLS = ("fsync", "rename", "link", "unlink", "mkdir")
"""All that changes a disk but ``replace``, which a short log has only of notes and checkpoints."""


@dataclass
class BrokenDisk:
    """Of the calls below ``root``, the ``k``-th (from 0) fails with EIO, once; None: none does.

    Attributes:
        count: calls so far.
        failed: the path of the one that failed; empty before.
    """

    root: Path
    call: str
    k: int | None = None
    seconds: float = 0.0
    count: int = 0
    failed: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @contextmanager
    def plugged_in(self) -> Iterator[BrokenDisk]:
        """Let ``os`` use it."""
        with pytest.MonkeyPatch.context() as patch:
            if self.call == "rename":  # Python 3.10's Path keeps the function
                patch.setattr(Path, "rename", _renamed)
            patch.setattr(os, self.call, self._broken(getattr(os, self.call)))
            yield self

    def _broken(self, works: Callable[..., Any]) -> Callable[..., Any]:
        def call(place: Any, *more: Any, **named: Any) -> Any:
            self._pass(_path(place))
            return works(place, *more, **named)

        return call

    def _pass(self, path: str) -> None:
        if not Path(path).is_relative_to(self.root):
            return
        time.sleep(self.seconds)
        with self._lock:
            self.count += 1
            if self.count - 1 == self.k:
                self.failed = path
                raise OSError(errno.EIO, os.strerror(errno.EIO), path)


def _renamed(path: Path, target: Path) -> None:
    os.rename(path, target)  # noqa: PTH104 - the call that is broken


def _path(place: Any) -> str:
    link = Path(f"/proc/self/fd/{place}")
    return str(link.readlink()) if isinstance(place, int) else os.fspath(place)


def _main() -> int:
    root, call, k, seconds, _, *flags = sys.argv[1:]
    disk = BrokenDisk(Path(root), call, None if k == "-1" else int(k), float(seconds))
    with disk.plugged_in():
        return cli.main(flags)


if __name__ == "__main__":
    sys.exit(_main())
