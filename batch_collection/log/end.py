"""Where a log ends, for whoever is about to append to it: a hole is not taken for its end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import ExpiredError, LogError
from batch_collection.log.entries import (
    PUT_BACK,
    End,
    digest,
    newest_cycle,
    newest_seen,
    not_following,
    read_content,
    read_link,
)
from batch_collection.log.expiry import Looked, first_cycle, newest_expiry
from batch_collection.paths import (
    CARRY,
    DATA,
    DEAD_LETTERS,
    EXPIRED,
    IDS,
    LOG,
    WINDOWS,
    entry_cycle,
    entry_path,
)

if TYPE_CHECKING:
    from batch_collection.log.entries import Link
    from batch_collection.storage.contract import Storage

__all__ = ["end_of_log"]


_OF_COLLECTIONS = {CARRY, DATA, DEAD_LETTERS, EXPIRED, IDS, WINDOWS}
"""Where nothing lies before a collection is begun."""


def end_of_log(storage: Storage) -> End | None:
    """Return the newest entry, None if nothing of a collection is there; others may append.

    It is asked once a start, by whoever appends: the names behind the newest entry that probing
    finds are listed (of a bucket one request), and the entry before it is read. Neither is done for
    each cycle: whoever appends then knows by ``previous`` whether the log is still the same one.

    Raises:
        LogError: an entry is missing, or the newest does not follow the one before it.
    """
    while True:
        newest, looked = newest_seen(storage)
        if newest is not None:
            found = _end(storage, newest)
            if found is not None:
                return End(*found, looked or Looked.at(storage))
            continue
        left = _left(storage)
        if left is None:
            return None
        if newest_cycle(storage) is None:  # else somebody has begun it meanwhile
            message = (
                f"{entry_path(0)} is missing in {storage.uri}, though {left} is there; {PUT_BACK}, "
                "or use another --output"
            )
            raise LogError(message)


def _left(storage: Storage) -> str | None:
    """Return what is there of a collection without a log, or with the end of one; None: nothing."""
    left = min(storage.list(LOG), default=None)
    if left is not None:
        return left
    there = sorted(_OF_COLLECTIONS.intersection(storage.folders()))  # beside others, of any size
    return next((path for folder in there for path in storage.list(folder)), None)


def _end(storage: Storage, newest: int) -> Link | None:
    """Return the newest entry from one on that was the newest; None: look again."""
    names = storage.list(LOG, entry_path(newest + 1))
    behind = sorted(cycle for cycle in map(_cycle, names) if cycle is not None and cycle > newest)
    for cycle in behind:
        if cycle > newest + 1:
            _check_missing(storage, newest + 1, cycle)
            return None
        newest = cycle
    try:
        found = read_link(storage, newest)
        return found if _is_linked(storage, found) else None
    except ExpiredError:
        return None


def _cycle(path: str) -> int | None:
    """Return the cycle of an entry's path, None for a name that no entry has."""
    cycle = entry_cycle(path)
    return cycle if cycle is not None and path == entry_path(cycle) else None


def _check_missing(storage: Storage, cycle: int, later: int) -> None:
    """Refuse a log that has a hole; one that was filled, or expired meanwhile, is none."""
    if cycle >= first_cycle(storage) and storage.size(entry_path(cycle)) is None:
        message = (
            f"{entry_path(cycle)} is missing in {storage.uri}, though {entry_path(later)} is "
            f"there; {PUT_BACK}: until then nothing is added, for it could be there twice"
        )
        raise LogError(message)


def _is_linked(storage: Storage, link: Link) -> bool:
    """Hold an entry against the one before it; False: that one was expired meanwhile."""
    cycle, previous = link.entry.cycle, link.entry.previous
    if cycle == 0:
        before = None
    else:
        try:
            before = digest(read_content(storage, cycle - 1))
        except ExpiredError:
            expiry = newest_expiry(storage)
            folded = None if expiry is None else expiry.folded
            if folded is None or folded.last.cycle != cycle - 1:
                return False
            before = folded.sha256
        except LogError:
            _check_missing(storage, cycle - 1, cycle)
            return False
    if previous != before:
        raise not_following(storage, cycle)
    return True
