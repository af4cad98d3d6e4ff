"""What ``expire`` has taken away, as its stubs say: what readers go by, and what is left as proof.

A stub is created before anything is deleted, and never changed. The newest one speaks for all: what
it says is gone is gone, or about to be.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from batch_collection.errors import UNREADABLE, CollectionError, LogError
from batch_collection.log.entry import Entry, PartitionRead
from batch_collection.paths import EXPIRED, stub_number, stub_path
from batch_collection.windows import format_instant, parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from batch_collection.storage.contract import Storage

__all__ = [
    "Expiry",
    "Folded",
    "Looked",
    "first_cycle",
    "first_kept",
    "fold",
    "newest_expiry",
    "newest_stub",
    "read_stub",
    "undisturbed",
]


FORMAT = 1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Folded:
    """What stood in the entries of cycles 0 to ``last.cycle``, which the log has no longer.

    ``sha256`` is that of the last one's bytes; each had that of the one before, so whoever has kept
    copies can prove that they were these. ``last`` is the last one without its panes and dead
    letters; its ``reads`` are sums over all. ``filed`` gives, by partition, the rows of their batch
    files; those of ``reads`` that are missing in it waited in ``last.carry``. ``windows`` are from
    the start of the first to the end of the last with rows. ``place`` is that of a follower who has
    seen all of their batches: the last one's cycle, and its number plus 1. ``early`` are windows
    with early panes that later entries closed. By ``more`` the counts of closed and of empty
    windows differ from what the entries said when they closed them.
    """

    sha256: str
    last: Entry
    filed: dict[int, int]
    files: int = 0
    rows: int = 0
    late_rows: int = 0
    bytes: int = 0
    closed_windows: int = 0
    empty_windows: int = 0
    windows: tuple[datetime, datetime] | None = None
    place: tuple[int, int] = (0, 0)
    early: tuple[datetime, ...] = ()
    more: tuple[int, int] = (0, 0)


@dataclass(frozen=True, slots=True)
class Expiry:
    """One expiry, on top of all earlier ones.

    Gone are the panes of cycles up to ``through`` whose windows end by ``before``: their files and
    manifests; and the entries that are ``folded``, with their dead letters. Panes that later cycles
    give such a window are there, until the next expiry. ``previous`` is the SHA-256 of the stub
    before. All that is gone had been published.
    """

    number: int
    previous: str | None
    host: str
    pid: int
    expired_at: datetime
    before: datetime
    through: int
    folded: Folded | None = None

    @property
    def first(self) -> int:
        """The first cycle whose entry is in the log."""
        return 0 if self.folded is None else self.folded.last.cycle + 1

    def hides(self, cycle: int, window_end: datetime) -> bool:
        """Tell whether what a cycle gave a window is gone."""
        return cycle <= self.through and window_end <= self.before

    def gone(self, entry: Entry) -> list[str]:
        """List the visible files of an entry that are gone."""
        batches = [
            file.path
            for pane in entry.panes
            if self.hides(entry.cycle, pane.window_end)
            for file in pane.files
        ]
        letters = entry.dead_letters if entry.cycle < self.first else ()
        return batches + [file.path for file in letters]

    def __str__(self) -> str:
        """Say it in a few words."""
        return f"windows before {format_instant(self.before)}, of cycles up to {self.through}"

    def to_json(self) -> bytes:
        """Return the stub's bytes, the same for the same expiry."""
        fields: dict[str, Any] = {
            "format": FORMAT,
            "number": self.number,
            "previous": self.previous,
            "host": self.host,
            "pid": self.pid,
            "expired_at": format_instant(self.expired_at),
            "before": format_instant(self.before),
            "through": self.through,
            "folded": None if self.folded is None else _plain(self.folded),
        }
        return json.dumps(fields, indent=1).encode() + b"\n"

    @classmethod
    def from_json(cls, content: bytes) -> Expiry:
        """Read a stub; unknown fields are ignored.

        Raises:
            LogError: it is no stub, or of a newer format.
        """
        try:
            fields = json.loads(content)
            if fields["format"] > FORMAT:
                message = (
                    f"stub of format={fields['format']}, this version reads up to {FORMAT}; "
                    "update batch-collection"
                )
                raise LogError(message)
            return cls(
                number=fields["number"],
                previous=fields["previous"],
                host=fields["host"],
                pid=fields["pid"],
                expired_at=parse_instant(fields["expired_at"]),
                before=parse_instant(fields["before"]),
                through=fields["through"],
                folded=None if fields["folded"] is None else _folded(fields["folded"]),
            )
        except UNREADABLE as error:
            message = f"not a stub: {type(error).__name__}: {error}"
            raise LogError(message) from error


def _plain(folded: Folded) -> dict[str, Any]:
    fields = {name: getattr(folded, name) for name in Folded.__dataclass_fields__}
    start_and_end = None if folded.windows is None else [*map(format_instant, folded.windows)]
    return fields | {
        "last": json.loads(folded.last.to_json()),
        "windows": start_and_end,
        "early": [*map(format_instant, folded.early)],
    }


def _folded(fields: dict[str, Any]) -> Folded:
    known = {name: fields[name] for name in Folded.__dataclass_fields__ if name in fields}
    known["last"] = Entry.from_json(json.dumps(fields["last"]).encode())
    known["filed"] = {int(partition): rows for partition, rows in fields["filed"].items()}
    if fields["windows"] is not None:
        start, end = fields["windows"]
        known["windows"] = (parse_instant(start), parse_instant(end))
    known["place"] = tuple(fields["place"])
    known["early"] = tuple(map(parse_instant, fields.get("early", ())))
    known["more"] = tuple(fields.get("more", (0, 0)))
    return Folded(**known)


class Looked(NamedTuple):
    """What a look for stubs has found: ``expiry`` is None if nothing was expired until then.

    It may be handed on to what is done next, instead of a look of its own: between a look and what
    follows from it anything may be expired anyhow.
    """

    expiry: Expiry | None

    @property
    def first(self) -> int:
        """The first cycle whose entry expiring has left in the log."""
        return first_kept(self.expiry)

    @classmethod
    def at(cls, storage: Storage) -> Looked:
        """Look: one listing, and one file if there are any."""
        return cls(newest_expiry(storage))


def newest_stub(storage: Storage) -> int | None:
    """Return the newest stub's number, None if nothing was ever expired: one listing."""
    numbers = (stub_number(path) for path in storage.list(EXPIRED))
    return max((number for number in numbers if number is not None), default=None)


def newest_expiry(storage: Storage) -> Expiry | None:
    """Return what is expired, None if nothing ever was.

    Raises:
        LogError: the stub can't be read.
    """
    number = newest_stub(storage)
    return None if number is None else read_stub(storage, number)


def read_stub(storage: Storage, number: int) -> Expiry:
    """Return what a stub says.

    Raises:
        LogError: it isn't there or can't be read.
    """
    path = stub_path(number)
    try:
        return Expiry.from_json(storage.read(path))
    except FileNotFoundError as error:
        message = f"no stub {path} in {storage.uri}"
        raise LogError(message) from error
    except LogError as error:
        message = f"cannot read {storage.uri}/{path}: {error}"
        raise LogError(message) from error


def first_cycle(storage: Storage) -> int:
    """Return the first cycle whose entry expiring has left in the log."""
    return first_kept(newest_expiry(storage))


def first_kept(expiry: Expiry | None) -> int:
    """Return the first cycle whose entry an expiry has left in the log; None: nothing ever was."""
    return 0 if expiry is None else expiry.first


def undisturbed(storage: Storage, look: Callable[[Expiry | None], T]) -> T:
    """Return what a look at a collection finds; look again if something was expired meanwhile."""
    while True:
        expiry = newest_expiry(storage)
        number = None if expiry is None else expiry.number
        try:
            found = look(expiry)
        except CollectionError:
            if newest_stub(storage) == number:
                raise
        else:
            if newest_stub(storage) == number:
                return found


def fold(before: Folded | None, entry: Entry, sha256: str) -> Folded:
    """Return ``before`` and one entry more, whose bytes have that digest. Pure."""
    filed = dict(before.filed) if before else {}
    for file in entry.files:
        for partition, (_, _, rows) in file.offsets.items():
            filed[partition] = filed.get(partition, 0) + rows
    late = sum(pane.rows for pane in entry.panes if pane.timing == "late")
    closed = sum(pane.timing == "on_time" for pane in entry.panes)
    empty = sum((end - start) // entry.interval for start, end in entry.closed_empty)
    base = before or Folded("", entry, {})
    return Folded(
        sha256=sha256,
        last=_summed(before.last if before else None, entry),
        filed=filed,
        files=base.files + len(entry.files),
        rows=base.rows + sum(pane.rows for pane in entry.panes),
        late_rows=base.late_rows + late,
        bytes=base.bytes + sum(file.bytes for file in entry.files),
        closed_windows=base.closed_windows + closed,
        empty_windows=base.empty_windows + empty,
        windows=_span(base.windows, entry),
        place=(entry.cycle, len(entry.files)) if entry.files else base.place,
        early=_early(base.early, entry),
        more=base.more,
    )


def _early(before: tuple[datetime, ...], entry: Entry) -> tuple[datetime, ...]:
    """Return the windows with early panes that the entries up to this one have not closed."""
    starts = {*before, *(pane.window_start for pane in entry.panes if pane.timing == "early")}
    closed = entry.boundary
    return tuple(
        sorted(start for start in starts if closed is None or start + entry.interval > closed)
    )


def _summed(before: Entry | None, entry: Entry) -> Entry:
    """Return an entry without what it gave away, its counts with those of all before it."""
    return replace(
        entry,
        reads=_joined(before.reads if before and entry.cause != "start" else (), entry.reads),
        panes=(),
        closed_empty=(),
        open={},
        released=(),
        dead_letters=(),
        redriven=(),
        ids=(),
        ids_released=(),
        became=_joined(before.became if before else (), entry.became),
    )


def _joined(
    before: tuple[PartitionRead, ...], reads: tuple[PartitionRead, ...]
) -> tuple[PartitionRead, ...]:
    earlier = {read.partition: read for read in before}
    later = {read.partition: _added(earlier.get(read.partition), read) for read in reads}
    return tuple({**earlier, **later}[partition] for partition in sorted({**earlier, **later}))


def _added(before: PartitionRead | None, read: PartitionRead) -> PartitionRead:
    if before is None:
        return read
    counts = ("messages", "rows", "dead_letters", "tombstones", "empty", "lost")
    sums = {name: getattr(before, name) + getattr(read, name) for name in counts}
    return replace(read, start=before.start, **sums)


def _span(
    before: tuple[datetime, datetime] | None, entry: Entry
) -> tuple[datetime, datetime] | None:
    starts = [pane.window_start for pane in entry.panes if pane.files]
    ends = [pane.window_end for pane in entry.panes if pane.files]
    starts, ends = [*starts, *(before or ())[:1]], [*ends, *(before or ())[1:]]
    return (min(starts), max(ends)) if starts else None
