"""Whether another collector of this machine is at work on a collection: cron may start two."""

from __future__ import annotations

import fcntl
import os
from contextlib import ExitStack, contextmanager, suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

__all__ = ["held"]


@contextmanager
def held(collections: Iterable[Path]) -> Iterator[list[Path]]:
    """Hold collections' directories as long as the block lasts; yield those that others hold.

    The system lets go of them when a process ends, however it ends. Those that are not there, or on
    a file system without locks, are not held: no guarantee rests on it, since the log has its own.
    """
    with ExitStack() as ends:
        busy = []
        for path in collections:
            with suppress(OSError):
                handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
                ends.callback(os.close, handle)
                try:
                    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                except BlockingIOError:
                    busy.append(path)
        yield busy
