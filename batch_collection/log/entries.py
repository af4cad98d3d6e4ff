"""The log: entries numbered from 0, each created once and chained to the last by its hash."""

from __future__ import annotations

import hashlib
from functools import partial
from itertools import islice, takewhile
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import AlreadyExistsError, ExpiredError, LogError
from batch_collection.log.entry import Entry
from batch_collection.log.expiry import Looked, first_cycle, newest_stub
from batch_collection.paths import CHECKPOINT, LOG, checkpoint_range, entry_path
from batch_collection.storage.fetching import each
from batch_collection.storage.opening import open_storage

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from batch_collection.storage.contract import Storage

__all__ = [
    "PUT_BACK",
    "Chain",
    "End",
    "Link",
    "append_entry",
    "create_entry",
    "digest",
    "entry_there",
    "is_collection",
    "links_since",
    "newest_again",
    "newest_cycle",
    "newest_entry",
    "newest_seen",
    "no_collection",
    "not_following",
    "put_entry",
    "read_content",
    "read_contents",
    "read_entries",
    "read_entry",
    "read_kept",
    "read_link",
    "read_since",
]

PUT_BACK = "put it back from a backup or the bucket's older versions"
"""What cures a file that the log needs, and that somebody has damaged or taken away."""


class Link(NamedTuple):
    """An entry, and the digest of its bytes."""

    entry: Entry
    digest: str


class End(NamedTuple):
    """The newest entry, the digest of its bytes, and what had expired when it was looked for."""

    entry: Entry
    digest: str
    looked: Looked


_PAGE = 1_000
"""Names that one listing gives."""


def digest(content: bytes) -> str:
    """Return what the next entry's ``previous`` says of an entry's bytes: their SHA-256."""
    return hashlib.sha256(content).hexdigest()


def newest_cycle(storage: Storage, hint: int = 0) -> int | None:
    """Return the newest entry's cycle, None if the log is empty.

    Probes by doubling steps from ``hint`` (a cycle known to be there, or 0), then halves: about
    ``2 log2(newest - hint)`` look-ups, and never a listing of the log; without a hint and where
    each look-up is a request, three listings of a thousand names at most. What expiring leaves or
    is just making are holes in which both would end; so all but ``hint`` itself is held against the
    newest stub.

    Raises:
        LogError: the first entry that expiring left is not there.
    """
    return newest_seen(storage, hint)[0]


def newest_seen(storage: Storage, hint: int = 0) -> tuple[int | None, Looked | None]:
    """Return the newest cycle, and what a look at the stubs has found, if one was needed."""
    start = hint
    while True:
        lists = storage.is_far and not start == hint > 0
        newest = _listed(storage, start) if lists else _probed(storage, start)
        if newest is not None and newest == hint > 0:
            return newest, None
        looked = Looked.at(storage)
        if newest is not None and newest >= looked.first:
            return newest, looked
        if start == looked.first > 0:
            message = f"{entry_path(start)} is missing in {storage.uri}; run batch-collection audit"
            raise LogError(message)
        if start == looked.first:
            return None, looked
        start = looked.first


def _listed(storage: Storage, start: int) -> int | None:
    """Return what ``_probed`` does, by listings; a checkpoint tells how far a long log goes."""
    low = _end_of_page(storage, start)
    if low is None or low < start + _PAGE - 1:
        return low
    spans = map(checkpoint_range, storage.list(LOG, CHECKPOINT, f"{CHECKPOINT}~"))
    near = max([low, *(span[1] for span in spans if span is not None)])
    last = _end_of_page(storage, near)
    if last is not None and last < near + _PAGE - 1:
        return last
    return _probed(storage, low if last is None else last)


def _end_of_page(storage: Storage, start: int) -> int | None:
    """Return the last entry that follows ``start`` without a hole, of those that one page lists."""
    names = set(storage.list(LOG, entry_path(start), entry_path(start + _PAGE - 1)))
    following = takewhile(lambda cycle: entry_path(cycle) in names, range(start, start + _PAGE))
    return max(following, default=None)


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
        _check_kept(storage, cycle, Looked.at(storage))
        message = f"no log entry {entry_path(cycle)} in {storage.uri}"
        raise LogError(message) from error


def _check_kept(storage: Storage, cycle: int, looked: Looked) -> None:
    if cycle < looked.first:
        message = (
            f"cycle={cycle} of {storage.uri} was expired; the first one in the log is "
            f"cycle={looked.first}"
        )
        raise ExpiredError(message)


def read_link(storage: Storage, cycle: int) -> Link:
    """Return the entry of a cycle, and the digest of its bytes.

    Raises:
        ExpiredError: it was there once.
        LogError: it isn't there or can't be read.
    """
    content = read_content(storage, cycle)
    try:
        entry = Entry.from_json(content)
    except LogError as error:
        message = f"cannot read {storage.uri}/{entry_path(cycle)}: {error}"
        raise LogError(message) from error
    if entry.cycle != cycle:
        message = f"{storage.uri}/{entry_path(cycle)} holds the entry of cycle={entry.cycle}"
        raise LogError(message)
    return Link(entry, digest(content))


def read_entry(storage: Storage, cycle: int) -> Entry:
    """Return the entry of a cycle; see ``read_link``."""
    return read_link(storage, cycle).entry


def not_following(storage: Storage, cycle: int) -> LogError:
    """Return the error of an entry that does not name the one before it, and so of a fork."""
    return LogError(
        f"{entry_path(cycle)} of {storage.uri} does not follow the entry before it: one of them "
        f"was changed, or put there after the other was lost; run `batch-collection audit "
        f"{storage.uri}`"
    )


class Chain:
    """A log that is read from one part to the next, each of which must follow the one before.

    ``before`` is the digest of what was read last, None as long as nothing was.
    """

    def __init__(self, storage: Storage, before: str | None = None) -> None:
        """Begin to read behind an entry, or anywhere."""
        self._storage, self.before = storage, before

    def links(self, first: int, last: int) -> Iterator[Link]:
        """Yield the entries ``first`` to ``last``, both included; where each is far, some ahead.

        Raises:
            LogError: one is missing, can't be read, or does not follow the one before.
        """
        for link in each(self._storage, partial(read_link, self._storage), range(first, last + 1)):
            self.go_on(link.entry.cycle, link.entry.previous, link.digest)
            yield link

    def go_on(self, first: int, previous: str | None, last: str) -> None:
        """Take in that entries from cycle ``first`` on were read.

        Args:
            first: The cycle of the first one.
            previous: What it says of the entry before it.
            last: The digest of the last one.

        Raises:
            LogError: that is not what was read before.
        """
        if self.before is not None and previous != self.before:
            raise not_following(self._storage, first)
        self.before = last


def newest_entry(storage: Storage, hint: int = 0) -> Entry | None:
    """Return the newest entry, None if the log is empty."""
    cycle = newest_cycle(storage, hint)
    return None if cycle is None else read_entry(storage, cycle)


def newest_again(storage: Storage, known: Entry | None) -> Entry | None:
    """Return the newest entry, looked for behind one that is known, which is not read again."""
    if known is None:
        return newest_entry(storage)
    cycle = newest_cycle(storage, known.cycle)
    if cycle is None:
        return None
    return known if cycle == known.cycle else read_entry(storage, cycle)


def read_entries(storage: Storage, first: int, last: int) -> Iterator[Entry]:
    """Yield the entries ``first`` to ``last``, both included; see ``Chain.links``."""
    return (link.entry for link in Chain(storage).links(first, last))


def links_since(
    storage: Storage, cycle: int, newest: int, before: str | None = None
) -> tuple[Link, ...]:
    """Return the entries that came after a cycle, up to the newest, as far as they are kept.

    Args:
        storage: Where the log lies.
        cycle: The last one that is known.
        newest: The newest one.
        before: The digest of the entry of ``cycle``; None: it is not known.

    Raises:
        LogError: they do not follow it, nor one another.
    """
    try:
        return tuple(Chain(storage, before).links(cycle + 1, newest))
    except ExpiredError:
        return tuple(Chain(storage).links(first_cycle(storage), newest))


def read_since(storage: Storage, cycle: int, newest: int) -> tuple[Entry, ...]:
    """Return the same without digests, behind a cycle whose own is not known."""
    return tuple(link.entry for link in links_since(storage, cycle, newest))


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
    """Create an entry if its cycle has none; see ``append_entry``."""
    return append_entry(storage, entry).entry


def append_entry(storage: Storage, entry: Entry) -> End:
    """Create an entry if its cycle has none, and return the one that is there afterwards.

    An answer that was lost on the way looks like a lost race: whoever calls compares ``run``.

    Raises:
        CollectionError: see ``entry_there``.
    """
    created = put_entry(storage, entry)
    looked = Looked.at(storage)
    return End(*entry_there(storage, entry, created, looked), looked)


def put_entry(storage: Storage, entry: Entry) -> Link | None:
    """Create an entry and return it, None if its cycle has one; then call ``entry_there``."""
    content = entry.to_json()
    try:
        storage.create(entry_path(entry.cycle), content)
    except AlreadyExistsError:
        return None
    # bytes of which the storage has said that they are there need not be read
    return Link(Entry.from_json(content), digest(content))


def entry_there(storage: Storage, entry: Entry, created: Link | None, looked: Looked) -> Link:
    """Return the entry that a cycle has once one was put there.

    Args:
        storage: Where the log lies.
        entry: What was put there.
        created: What ``put_entry`` has returned.
        looked: What was found expired after that.

    Raises:
        ExpiredError: its cycle had one, which was expired since: its place was free again. Stubs
            are made before entries are deleted, so whoever meets such a place meets the stub.
        LogError: who has won does not follow the entry that ours does: it is no rival, but the log
            was damaged.
    """
    try:
        _check_kept(storage, entry.cycle, looked)
    except ExpiredError:
        if created:  # what is there goes last: until then it tells what else must go
            storage.delete([entry_path(entry.cycle)])
        raise
    if created:
        return created
    found = read_link(storage, entry.cycle)
    if found.entry.previous != entry.previous:
        raise not_following(storage, entry.cycle)
    return found


_MOST_LOOKS = 100  # among folders, for a collection


def no_collection(storage: Storage) -> LogError:
    """Return the error that says so, and names those one folder below, where users forget to go."""
    below = (f"{storage.uri}/{name}" for name in sorted(islice(storage.folders(), _MOST_LOOKS)))
    logs = [uri for uri in below if is_collection(open_storage(uri))][:3]
    others = f"; did you mean {' or '.join(logs)}?" if logs else ""
    return LogError(f"no collection in {storage.uri}: it has no {entry_path(0)}{others}")


def is_collection(storage: Storage) -> bool:
    """Tell whether there is a log: its first entry, or what it was folded into."""
    return storage.size(entry_path(0)) is not None or newest_stub(storage) is not None
