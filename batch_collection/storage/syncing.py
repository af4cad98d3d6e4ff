"""Makes the names in folders durable; callers that come at once share what is waited for."""

from __future__ import annotations

import os
import threading
from concurrent.futures import Future

__all__ = ["sync_folder"]


_lock = threading.Lock()
_next: dict[str, Future[None]] = {}  # by folder, the sync that has not begun yet
_turns = tuple(threading.Lock() for _ in range(64))


def sync_folder(folder: str) -> None:
    """Sync a folder: what was put into it, or taken out of it, before this call is durable.

    A file system takes one at a time, and each costs a write to the disk. So whoever comes while
    one goes on waits for the next one, together with all others.

    Raises:
        OSError: the sync that was to cover the call failed.
    """
    with _lock:
        coming = _next.get(folder)
        is_first = coming is None
        if coming is None:
            coming = _next[folder] = Future()
    if is_first:
        try:
            with _turns[hash(folder) % len(_turns)]:
                _begins(folder)
                _sync(folder)
        except BaseException as error:
            _begins(folder)
            coming.set_exception(error)
            raise
        coming.set_result(None)
    coming.result()


def _begins(folder: str) -> None:
    """Let whoever comes from now on wait for another sync."""
    with _lock:
        _next.pop(folder, None)


def _sync(folder: str) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
