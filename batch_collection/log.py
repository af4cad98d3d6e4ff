"""The log: entries numbered from 0, each created once and chained to the last by its hash."""

from __future__ import annotations

import contextlib
import hashlib
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.entry import Entry
from batch_collection.errors import AlreadyExistsError, ExpiredError, LogError
from batch_collection.expiry import first_cycle
from batch_collection.names import entry_path
from batch_collection.parallel import each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_collection.storage import Storage

__all__ = [
    "create_entry",
    "digest",
    "newest_cycle",
    "newest_entry",
    "read_content",
    "read_contents",
    "read_entries",
    "read_entry",
    "read_kept",
    "read_since",
]


def digest(content: bytes) -> str:
    """Return what the next entry's ``previous`` says of an entry's bytes: their SHA-256."""
    return hashlib.sha256(content).hexdigest()


def newest_cycle(storage: Storage, hint: int = 0) -> int | None:
    """Return the newest entry's cycle, None if the log is empty.

    Probes by doubling steps from ``hint`` (a cycle known to be there, or 0), then halves: about
    ``2 log2(newest - hint)`` look-ups, and never a listing of the log. What expiring leaves or is
    just making are holes in which probing would end; so all but ``hint`` itself is held against the
    newest stub.

    Raises:
        LogError: the first entry that expiring left is not there.
    """
    start = hint
    while True:
        newest = _probed(storage, start)
        if newest is not None and newest == hint > 0:
            return newest
        first = first_cycle(storage)
        if newest is not None and newest >= first:
            return newest
        if start == first > 0:
            message = f"{entry_path(first)} is missing in {storage.uri}; run batch-collection audit"
            raise LogError(message)
        if start == first:
            return None
        start = first


def _probed(storage: Storage, start: int) -> int | None:
    """Return the last of the entries that follow ``start`` without a hole, None if it is none."""
    if storage.size(entry_path(start)) is None:
        return None
    low, step = start, 1
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


def read_content(storage: Storage, cycle: int) -> bytes:
    """Return the bytes of a cycle's entry.

    Raises:
        ExpiredError: it was there once.
        LogError: it isn't there.
    """
    try:
        return storage.read(entry_path(cycle))
    except FileNotFoundError as error:
        _check_kept(storage, cycle)
        message = f"no log entry {entry_path(cycle)} in {storage.uri}"
        raise LogError(message) from error


def _check_kept(storage: Storage, cycle: int) -> None:
    first = first_cycle(storage)
    if cycle < first:
        message = (
            f"cycle={cycle} of {storage.uri} was expired; the first one in the log is cycle={first}"
        )
        raise ExpiredError(message)


def read_entry(storage: Storage, cycle: int) -> Entry:
    """Return the entry of a cycle.

    Raises:
        ExpiredError: it was there once.
        LogError: it isn't there or can't be read.
    """
    content = read_content(storage, cycle)
    try:
        return Entry.from_json(content)
    except LogError as error:
        message = f"cannot read {storage.uri}/{entry_path(cycle)}: {error}"
        raise LogError(message) from error


def newest_entry(storage: Storage, hint: int = 0) -> Entry | None:
    """Return the newest entry, None if the log is empty."""
    cycle = newest_cycle(storage, hint)
    return None if cycle is None else read_entry(storage, cycle)


def read_entries(storage: Storage, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries ``first`` to ``last``, both included; where each is far, some ahead."""
    return each(storage, partial(read_entry, storage), range(first, last + 1))


def read_since(storage: Storage, cycle: int, newest: int) -> tuple[Entry, ...]:
    """Return the entries that came after a cycle, up to the newest, as far as they are kept."""
    try:
        return tuple(read_entries(storage, cycle + 1, newest))
    except ExpiredError:
        return tuple(read_entries(storage, first_cycle(storage), newest))


def read_contents(storage: Storage, first: int, last: int) -> Iterator[bytes]:
    """Yield the bytes of the entries ``first`` to ``last``, as ``read_entries`` does."""
    return each(storage, partial(read_content, storage), range(first, last + 1))


def read_kept(storage: Storage, cycles: Iterable[int]) -> Iterator[Entry]:
    """Yield the entries of some cycles, without those that are expired meanwhile."""
    entries = each(storage, partial(_entry_or_none, storage), cycles)
    return (entry for entry in entries if entry is not None)


def _entry_or_none(storage: Storage, cycle: int) -> Entry | None:
    try:
        return read_entry(storage, cycle)
    except ExpiredError:
        return None


def create_entry(storage: Storage, entry: Entry) -> Entry:
    """Create an entry if its cycle has none, and return the one that is there afterwards.

    An answer that was lost on the way looks like a lost race: whoever calls compares ``run``.

    Raises:
        ExpiredError: its cycle had one, which was expired since: its place was free again. Stubs
            are made before entries are deleted, so whoever meets such a place meets the stub.
    """
    path, is_new = entry_path(entry.cycle), False
    with contextlib.suppress(AlreadyExistsError):
        storage.create(path, entry.to_json())
        is_new = True
    try:
        _check_kept(storage, entry.cycle)
    except ExpiredError:
        if is_new:  # what is there goes last: until then it tells what else must go
            storage.delete([path])
        raise
    return read_entry(storage, entry.cycle)
