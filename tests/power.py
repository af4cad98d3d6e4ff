"""A disk whose power fails: files that were deleted, but not for good yet, may be there again."""

from __future__ import annotations

import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.paths import STAGING
from tests.storages import Died

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator

__all__ = ["FailingPower"]


@dataclass
class FailingPower:
    """The process dies before its ``k``-th call below ``root`` that unlinks, removes or syncs.

    What was unlinked is gone for good once the folder that it was in is synced, or, if that was
    removed, the one above. Nothing is remembered of ``staging``, whose files may come and go.

    Attributes:
        calls: those so far.
        unsynced: what may come back, by path.
    """

    root: Path
    k: int
    calls: int = 0
    unsynced: dict[Path, bytes] = field(default_factory=dict)

    @contextmanager
    def on(self) -> Iterator[None]:
        """Let this process use it."""
        unlink, rmdir, fsync = Path.unlink, Path.rmdir, os.fsync

        def unlinking(path: Path, **options: Any) -> None:
            self._pass(path)
            if path.exists() and STAGING not in path.parts:
                self.unsynced[path] = path.read_bytes()
            unlink(path, **options)

        def syncing(handle: int) -> None:
            folder = Path(f"/proc/self/fd/{handle}").readlink()
            self._pass(folder)
            fsync(handle)
            for path in [path for path in self.unsynced if _lowest_left(path) == folder]:
                del self.unsynced[path]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Path, "unlink", unlinking)
            patch.setattr(Path, "rmdir", self._passing(rmdir))
            patch.setattr(os, "fsync", syncing)
            yield

    def bring_back(self, rng: random.Random) -> None:
        """Let some of what was not deleted for good be there again."""
        for path, content in self.unsynced.items():
            if rng.random() < 0.5:
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)

    def _passing(self, works: Callable[[Path], None]) -> Callable[[Path], None]:
        def call(path: Path) -> None:
            self._pass(path)
            works(path)

        return call

    def _pass(self, path: Path) -> None:
        if path.is_relative_to(self.root):
            if self.calls >= self.k:
                raise Died
            self.calls += 1


def _lowest_left(path: Path) -> Path:
    """Return the lowest folder above a path that is there."""
    return next(folder for folder in path.parents if folder.exists())
