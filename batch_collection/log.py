"""The log: entries numbered from 0, each created once and chained to the last by its hash."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.entry import Entry
from batch_collection.errors import AlreadyExistsError, LogError
from batch_collection.names import entry_path
from batch_collection.parallel import each

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.storage import Storage

__all__ = [
    "FIRST_CYCLE",
    "create_entry",
    "digest",
    "newest_cycle",
    "newest_entry",
    "read_entries",
    "read_entry",
]

FIRST_CYCLE = 0
"""Where the log begins: whoever reads all of it reads from here."""


def digest(content: bytes) -> str:
    """Return what the next entry's ``previous`` says of an entry's bytes: their SHA-256."""
    return hashlib.sha256(content).hexdigest()


def newest_cycle(storage: Storage, hint: int = 0) -> int | None:
    """Return the newest entry's cycle, None if the log is empty.

    Probes by doubling steps from ``hint`` (a cycle known to be there, or 0), then halves: about
    ``2 log2(newest - hint)`` look-ups, and never a listing.
    """
    if storage.size(entry_path(hint)) is None:
        return None if hint == 0 else newest_cycle(storage)
    low, step = hint, 1
    while storage.size(entry_path(low + step)) is not None:
        low, step = low + step, step * 2
    high = low + step
    while high - low > 1:
        middle = (low + high) // 2
        if storage.size(entry_path(middle)) is None:
            high = middle
        else:
            low = middle
    return low


def read_entry(storage: Storage, cycle: int) -> Entry:
    """Return the entry of a cycle.

    Raises:
        LogError: it isn't there or can't be read.
    """
    path = entry_path(cycle)
    try:
        content = storage.read(path)
    except FileNotFoundError as error:
        message = f"no log entry {path} in {storage.uri}"
        raise LogError(message) from error
    try:
        return Entry.from_json(content)
    except LogError as error:
        message = f"cannot read {storage.uri}/{path}: {error}"
        raise LogError(message) from error


def newest_entry(storage: Storage, hint: int = 0) -> Entry | None:
    """Return the newest entry, None if the log is empty."""
    cycle = newest_cycle(storage, hint)
    return None if cycle is None else read_entry(storage, cycle)


def read_entries(storage: Storage, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries ``first`` to ``last``, both included; where each is far, some ahead."""
    return each(storage, partial(read_entry, storage), range(first, last + 1))


def create_entry(storage: Storage, entry: Entry) -> Entry:
    """Create an entry if its cycle has none, and return the one that is there afterwards.

    An answer that was lost on the way looks like a lost race: whoever calls compares ``run``.
    """
    with contextlib.suppress(AlreadyExistsError):
        storage.create(entry_path(entry.cycle), entry.to_json())
    return read_entry(storage, entry.cycle)
