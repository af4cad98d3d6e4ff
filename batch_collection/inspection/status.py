"""What a look at a collection tells: from its log alone, and the dead letters' reasons."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow.compute as pc

from batch_collection.checkpoints.batch_table import batches_in
from batch_collection.checkpoints.dead_letters import (
    entries_with_letters,
    grouped,
    live_dead_letters,
    reasons_of,
)
from batch_collection.checkpoints.gathered import gathered
from batch_collection.checkpoints.listing import hidden, listing, recalled
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.checkpoints.totals import WindowCounts, folded_sums, summed, window_counts
from batch_collection.errors import StorageError
from batch_collection.log.entries import newest_entry, no_collection, read_entries
from batch_collection.log.entry import Source
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.log.sums import Sums
from batch_collection.publishing.publish import unpublished
from batch_collection.windows import LAST_INSTANT, format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.log.entry import BatchFile, Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = [
    "CycleStatus",
    "ExpiredStatus",
    "Latency",
    "OpenWindow",
    "Quantiles",
    "Status",
    "Totals",
    "status",
]


_SAMPLES = 101  # of a file's row times, spread evenly


@dataclass(frozen=True, slots=True)
class CycleStatus:
    """One cycle. ``messages`` were read; ``rows``, ``files``, ``bytes`` are of its batches.

    ``repeated_rows`` are those of panes whose place had given others before (``Origin``).
    """

    cycle: int
    committed_at: datetime
    cause: str
    boundary: datetime | None
    messages: int
    rows: int
    late_rows: int
    files: int
    bytes: int
    windows: int
    dead_letters: int
    repeated_rows: int


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window that is not closed: ``rows`` are in early panes, ``waiting_rows`` in the carry."""

    window_start: datetime
    window_end: datetime
    rows: int
    waiting_rows: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums of a collection.

    ``rows``, ``late_rows``, ``files`` and ``bytes`` are of the batches that are there. All else is
    of what was ever collected, expired or not: ``closed_windows`` had rows, ``empty_windows`` none;
    ``dead_letters`` have not become rows; ``redriven`` messages did, after they had been some.
    """

    messages: int
    rows: int
    late_rows: int
    waiting_rows: int
    files: int
    bytes: int
    rows_per_file: float
    closed_windows: int
    empty_windows: int
    dead_letters: int
    tombstones: int
    empty: int
    lost: int
    redriven: int


@dataclass(frozen=True, slots=True)
class ExpiredStatus:
    """What was collected and is there no more; ``entries`` were folded into the stub."""

    before: datetime
    expired_at: datetime
    rows: int
    late_rows: int
    files: int
    bytes: int
    dead_letters: int
    entries: int


@dataclass(frozen=True, slots=True)
class IdsStatus:
    """What is remembered of messages that a leased source may hand out again.

    ``kept`` are all ids, ``unanswered`` those of lists whose acknowledgement is not answered whole;
    ``repeated`` are the messages that came again in the last cycles, and were left out.
    """

    kept: int
    unanswered: int
    bytes: int
    repeated: int


class Quantiles(NamedTuple):
    """Median and 99th percentile."""

    median: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True)
class Latency:
    """Time until the entry that made rows visible, over the last cycles; None without such rows.

    ``window_end`` counts from the end of the window of each on-time batch, ``row_time`` from the
    time of each row; that one is estimated: a file's row times are taken to be spread evenly. What
    was redriven or caught up with is left out: see ``_live_panes``.
    """

    window_end: Quantiles | None
    row_time: Quantiles | None


@dataclass(frozen=True, slots=True)
class Status:
    """A collection at its newest entry.

    ``dead_letters_by_reason`` are those that are there; of reasons that differ in values alone
    one stands for all. ``expired`` is None if nothing was, ``lag``
    (messages by partition) if it is not asked for or, for the reason ``lag_unknown``, not known.
    ``unpublished_files`` of the newest entry are committed, and not visible (yet). ``ids`` is None
    where none are kept, as of a source with addresses.
    """

    uri: str
    source: Source
    interval: timedelta
    row_time: str
    cycle: int
    committed_at: datetime
    boundary: datetime | None
    totals: Totals
    cycles: tuple[CycleStatus, ...]
    open_windows: tuple[OpenWindow, ...]
    latency: Latency
    dead_letters_by_reason: dict[str, int]
    lag: dict[int, int] | None = None
    expired: ExpiredStatus | None = None
    unpublished_files: int = 0
    lag_unknown: str | None = None
    ids: IdsStatus | None = None

    def plain(self) -> dict[str, Any]:
        """Return JSON values; instants are RFC 3339, durations seconds."""
        found: dict[str, Any] = _plain(self)
        return found

    def to_json(self) -> str:
        """Return them as one JSON object."""
        return json.dumps(self.plain(), indent=1)


def status(
    storage: Storage, last: int = 10, end_offsets: Mapping[int, int] | None = None
) -> Status:
    """Sum a collection's log up.

    Args:
        last: How many of the last cycles to list, and to take the latency from.
        end_offsets: By partition, where the topic ends now; gives the lag.

    Raises:
        LogError: there is no collection.
    """
    return undisturbed(storage, lambda expiry: _status(storage, expiry, last, end_offsets))


def _status(
    storage: Storage, expiry: Expiry | None, last: int, end_offsets: Mapping[int, int] | None
) -> Status:
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    first = max(first_kept(expiry), newest.cycle - last)  # one more, that tells what came before
    kept = tuple(read_entries(storage, first, newest.cycle))
    live = [*_live_panes(kept, last)]
    sums = summed(storage, newest, expiry)
    windows = window_counts(storage, newest, expiry, sums)
    try:
        reasons = _reasons(storage, newest, expiry, sums)
    except StorageError:
        later = newest_entry(storage, newest.cycle)
        if later is None or later.cycle == newest.cycle:
            raise
        return _status(storage, expiry, last, end_offsets)  # they were redriven meanwhile
    expired = _expired(storage, newest, expiry)
    return Status(
        uri=storage.uri,
        source=newest.source,
        interval=newest.interval,
        row_time=newest.row_time,
        cycle=newest.cycle,
        committed_at=newest.committed_at,
        boundary=newest.boundary,
        totals=_totals(sums, windows, newest, expired),
        cycles=tuple(_cycle(entry) for entry in kept[-last:]),
        open_windows=_open_windows(storage, newest, expiry),
        latency=Latency(_window_latency(live), _row_latency(live)),
        dead_letters_by_reason=dict(grouped(reasons).most_common()),
        lag=None if end_offsets is None else _lag(newest, end_offsets),
        expired=expired,
        unpublished_files=len(unpublished(storage, newest)),
        ids=_ids(newest, kept[-last:]),
    )


def _ids(newest: Entry, last: Sequence[Entry]) -> IdsStatus | None:
    if not newest.ids:
        return None
    return IdsStatus(
        kept=sum(file.ids for file in newest.ids),
        unanswered=sum(file.ids for file in newest.ids if not file.acknowledged),
        bytes=sum(file.bytes for file in newest.ids),
        repeated=sum(entry.repeated for entry in last),
    )


def _reasons(storage: Storage, newest: Entry, expiry: Expiry | None, sums: Sums) -> Counter[str]:
    """Count the dead letters that are there by their reason."""
    first = first_kept(expiry)
    if sums.taken_up:  # which of them still are is told by entries alone
        live = live_dead_letters(entries_with_letters(storage, first, newest.cycle))
        return reasons_of(storage, live.values())

    def of_checkpoint(summary: Summary) -> Counter[str] | None:
        return None if summary.reasons is None else Counter(summary.reasons)

    def of_entries(entries: Iterable[Entry]) -> Counter[str]:
        return reasons_of(storage, (file for entry in entries for file in entry.dead_letters))

    found = Counter[str]()
    for part in gathered(storage, first, newest.cycle, of_checkpoint, of_entries):
        found.update(part)
    return found


def _expired(storage: Storage, newest: Entry, expiry: Expiry | None) -> ExpiredStatus | None:
    if expiry is None:
        return None
    folded = folded_sums(expiry)
    kept = listing(storage, expiry.first, newest.cycle, Narrowing(end=expiry.before))
    gone = kept.filter(hidden(expiry))
    return ExpiredStatus(
        before=expiry.before,
        expired_at=expiry.expired_at,
        rows=folded.rows + _summed(gone, "rows"),
        late_rows=folded.late_rows + _summed(gone.filter(pc.field("timing") == "late"), "rows"),
        files=folded.files + gone.num_rows,
        bytes=folded.bytes + _summed(gone, "bytes"),
        dead_letters=folded.dead_letters - folded.taken_up,
        entries=expiry.first,
    )


def _summed(table: pa.Table, column: str) -> int:
    return pc.sum(table.column(column)).as_py() or 0


def _totals(
    sums: Sums, windows: WindowCounts, newest: Entry, expired: ExpiredStatus | None
) -> Totals:
    counts = sums._asdict()
    if expired is not None:
        for name in ("rows", "late_rows", "files", "bytes"):
            counts[name] -= getattr(expired, name)
    counts |= {"closed_windows": windows.closed, "empty_windows": windows.empty}
    counts["dead_letters"] -= counts.pop("taken_up")
    return Totals(
        **counts,
        waiting_rows=sum(file.rows for file in newest.carry),
        rows_per_file=counts["rows"] / counts["files"] if counts["files"] else 0.0,
    )


def _open_windows(storage: Storage, newest: Entry, expiry: Expiry | None) -> tuple[OpenWindow, ...]:
    if newest.forgotten is not None:
        newest = recalled(storage, newest, LAST_INSTANT)
    waiting: Counter[datetime] = Counter()
    for file in newest.carry:
        waiting[file.window_start] += file.rows
    starts = sorted({*waiting, *newest.open})
    early: Counter[datetime] = Counter()
    if starts:  # none of them is expired
        narrowing = Narrowing(starts[0], starts[-1] + newest.interval)
        first = first_kept(expiry)
        table = listing(storage, first, newest.cycle, narrowing)
        for batch in batches_in(storage, table.filter(pc.field("timing") == "early")):
            early[batch.window_start] += batch.rows
    return tuple(
        OpenWindow(start, start + newest.interval, early[start], waiting[start]) for start in starts
    )


def _cycle(entry: Entry) -> CycleStatus:
    sums = Sums.of(entry)
    return CycleStatus(
        cycle=entry.cycle,
        committed_at=entry.committed_at,
        cause=entry.cause,
        boundary=entry.boundary,
        messages=sums.messages,
        rows=sums.rows,
        late_rows=sums.late_rows,
        files=sums.files,
        bytes=sums.bytes,
        windows=len({pane.window_start for pane in entry.panes}),
        dead_letters=sums.dead_letters,
        repeated_rows=sum(origin.rows for origin in entry.origins if origin.repeated),
    )


def _lag(newest: Entry, end_offsets: Mapping[int, int]) -> dict[int, int]:
    return {
        partition: max(0, end - newest.ends.get(partition, 0))
        for partition, end in sorted(end_offsets.items())
    }


def _live_panes(entries: Sequence[Entry], last: int) -> Iterator[tuple[Entry, Pane]]:
    """Yield each pane, with its entry, that one of the last cycles made which kept up.

    One that closes more than an interval catches up with what came before it: of that only the
    newest window counts, and of a part of a backlog nothing.
    """
    for before, entry in [*zip((None, *entries), entries, strict=False)][-last:]:
        passed, boundary = before.boundary if before else None, entry.boundary
        if entry.is_maintenance or entry.cause == "backlog":
            continue
        jumped = boundary is not None and (passed is None or boundary - passed > entry.interval)
        for pane in entry.panes:
            if not jumped or boundary is None or pane.window_end >= boundary:
                yield entry, pane


def _window_latency(panes: Iterable[tuple[Entry, Pane]]) -> Quantiles | None:
    seconds = [
        (entry.committed_at - pane.window_end).total_seconds()
        for entry, pane in panes
        if pane.timing == "on_time" and pane.rows
    ]
    return _quantiles(np.array(seconds), np.ones(len(seconds)))


def _row_latency(panes: Iterable[tuple[Entry, Pane]]) -> Quantiles | None:
    pairs = [(entry, file) for entry, pane in panes for file in pane.files]
    seconds = [_row_seconds(entry, file) for entry, file in pairs]
    weights = [np.full(_SAMPLES, file.rows / _SAMPLES) for _, file in pairs]
    return _quantiles(np.array(seconds).ravel(), np.array(weights).ravel())


def _row_seconds(entry: Entry, file: BatchFile) -> Any:
    longest = (entry.committed_at - file.min_time).total_seconds()
    shortest = (entry.committed_at - file.max_time).total_seconds()
    return np.linspace(shortest, longest, _SAMPLES)


def _quantiles(values: Any, weights: Any) -> Quantiles | None:
    """Return the lowest values that half, and 99 % of the weight, do not exceed."""
    if not len(values):
        return None
    order = np.argsort(values)
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.array([0.5, 0.99]) * reached[-1])
    median, p99 = values[order][np.minimum(places, len(values) - 1)]
    return Quantiles(timedelta(seconds=float(median)), timedelta(seconds=float(p99)))


def _plain(value: Any) -> Any:
    """Turn records into JSON values."""
    if isinstance(value, Source):
        return value.plain()
    if is_dataclass(value):
        value = {field.name: getattr(value, field.name) for field in fields(value)}
    elif isinstance(value, Quantiles):
        value = value._asdict()
    if isinstance(value, dict):
        return {str(key): _plain(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(part) for part in value]
    if isinstance(value, datetime):
        return format_instant(value)
    return value.total_seconds() if isinstance(value, timedelta) else value
