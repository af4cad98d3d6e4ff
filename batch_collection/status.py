"""What a look at a collection tells: from its log alone, and the dead letters' reasons."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, fields, is_dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.collection import no_collection, open_published
from batch_collection.errors import StorageError
from batch_collection.log import newest_entry, read_entries
from batch_collection.maintenance import take_letters
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batch_collection.entry import BatchFile, DeadLetterFile, Entry, Source
    from batch_collection.storage import Storage

__all__ = [
    "CycleStatus",
    "Latency",
    "OpenWindow",
    "Quantiles",
    "Status",
    "Totals",
    "reasons_of",
    "status",
]

_SAMPLES = 101  # of a file's row times, spread evenly


@dataclass(frozen=True, slots=True)
class CycleStatus:
    """One cycle. ``messages`` were read; ``rows``, ``files``, ``bytes`` are of its batches."""

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


@dataclass(frozen=True, slots=True)
class OpenWindow:
    """A window that is not closed: ``rows`` are in early panes, ``waiting_rows`` in the carry."""

    window_start: datetime
    window_end: datetime
    rows: int
    waiting_rows: int


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over the whole log. ``closed_windows`` had rows, ``empty_windows`` had none.

    ``dead_letters`` are those that still are; ``redriven`` messages were dead letters, of which
    rows were made since.
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


class Quantiles(NamedTuple):
    """Median and 99th percentile."""

    median: timedelta
    p99: timedelta


@dataclass(frozen=True, slots=True)
class Latency:
    """Time until the entry that made rows visible, over the last cycles; None without such rows.

    ``window_end`` counts from the end of the window of each on-time batch, ``row_time`` from the
    time of each row; that one is estimated: a file's row times are taken to be spread evenly. What
    was redriven is left out.
    """

    window_end: Quantiles | None
    row_time: Quantiles | None


@dataclass(frozen=True, slots=True)
class Status:
    """A collection at its newest entry; ``lag``: messages by partition, None if not asked for."""

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

    def to_json(self) -> str:
        """Return one JSON object; instants are RFC 3339, durations seconds."""
        return json.dumps(_plain(self), indent=1)


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
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    seen = _Seen(newest)
    for entry in read_entries(storage, 0, newest.cycle):
        seen.add(entry, is_last=entry.cycle > newest.cycle - last)
    try:
        reasons = seen.reasons(storage)
    except StorageError:
        later = newest_entry(storage, newest.cycle)
        if later is None or later.cycle == newest.cycle:
            raise
        return status(storage, last, end_offsets)  # they were redriven meanwhile
    return Status(
        uri=storage.uri,
        source=newest.source,
        interval=newest.interval,
        row_time=newest.row_time,
        cycle=newest.cycle,
        committed_at=newest.committed_at,
        boundary=newest.boundary,
        totals=seen.totals(),
        cycles=tuple(_cycle(entry) for entry in seen.last),
        open_windows=seen.open_windows(),
        latency=Latency(_window_latency(seen.last), _row_latency(seen.last)),
        dead_letters_by_reason=dict(reasons.most_common()),
        lag=None if end_offsets is None else _lag(newest, end_offsets),
    )


class _Seen:
    """What has been summed up so far."""

    def __init__(self, newest: Entry) -> None:
        self._newest = newest
        self._counts: Counter[str] = Counter()
        self._early: Counter[datetime] = Counter()
        self._closed: set[datetime] = set()
        self._letters: dict[str, DeadLetterFile] = {}
        self.last: list[Entry] = []

    def add(self, entry: Entry, *, is_last: bool) -> None:
        self._counts.update(_counted(entry))
        for pane in entry.panes:
            if pane.timing == "early":
                self._early[pane.window_start] += pane.rows
            elif pane.timing == "on_time":
                self._closed.add(pane.window_start)
        take_letters(self._letters, entry)
        if is_last:
            self.last.append(entry)

    def reasons(self, storage: Storage) -> Counter[str]:
        """Count the dead letters that still are by why they are there."""
        reasons: Counter[str] = Counter()
        for file in self._letters.values():
            reasons.update(reasons_of(storage, file.path, file.staged))
        return reasons

    def totals(self) -> Totals:
        names = [field.name for field in fields(Totals)]
        counts: dict[str, Any] = {name: self._counts[name] for name in names}
        counts["waiting_rows"] = sum(file.rows for file in self._newest.carry)
        counts["closed_windows"] = len(self._closed)
        counts["rows_per_file"] = counts["rows"] / counts["files"] if counts["files"] else 0.0
        return Totals(**counts)

    def open_windows(self) -> tuple[OpenWindow, ...]:
        waiting: Counter[datetime] = Counter()
        for file in self._newest.carry:
            waiting[file.window_start] += file.rows
        return tuple(
            OpenWindow(start, start + self._newest.interval, self._early[start], waiting[start])
            for start in sorted({*waiting, *self._newest.open})
        )


def _counted(entry: Entry) -> dict[str, int]:
    counts = {
        name: sum(getattr(read, name) for read in entry.reads)
        for name in ("messages", "dead_letters", "tombstones", "empty", "lost")
    }
    again = sum(read.messages - read.dead_letters for read in entry.became)
    counts["dead_letters"] -= again
    counts["empty"] += sum(read.empty for read in entry.became)
    return counts | {
        "redriven": again,
        "rows": sum(pane.rows for pane in entry.panes),
        "late_rows": sum(pane.rows for pane in entry.panes if pane.timing == "late"),
        "files": len(entry.files),
        "bytes": sum(file.bytes for file in entry.files),
        "empty_windows": sum((end - start) // entry.interval for start, end in entry.closed_empty),
    }


def _cycle(entry: Entry) -> CycleStatus:
    counts = _counted(entry)
    return CycleStatus(
        cycle=entry.cycle,
        committed_at=entry.committed_at,
        cause=entry.cause,
        boundary=entry.boundary,
        messages=counts["messages"],
        rows=counts["rows"],
        late_rows=counts["late_rows"],
        files=counts["files"],
        bytes=counts["bytes"],
        windows=len({pane.window_start for pane in entry.panes}),
        dead_letters=sum(file.messages for file in entry.dead_letters),
    )


def reasons_of(storage: Storage, path: str, staged: str) -> Counter[str]:
    """Count the messages of a file of dead letters by why they are there."""
    try:
        with open_published(storage, path, staged) as source, pq.ParquetFile(source) as file:
            counts = file.read(columns=["error"]).column("error").value_counts().to_pylist()
    except (pa.ArrowException, KeyError) as error:
        message = f"cannot read dead letters {path}: {error}; run `batch-collection audit`"
        raise StorageError(message) from error
    return Counter({str(item["values"]): item["counts"] for item in counts})


def _lag(newest: Entry, end_offsets: Mapping[int, int]) -> dict[int, int]:
    return {
        partition: max(0, end - newest.ends.get(partition, 0))
        for partition, end in sorted(end_offsets.items())
    }


def _window_latency(entries: Iterable[Entry]) -> Quantiles | None:
    seconds = [
        (entry.committed_at - pane.window_end).total_seconds()
        for entry in entries
        for pane in entry.panes
        if pane.timing == "on_time" and pane.rows
    ]
    return _quantiles(np.array(seconds), np.ones(len(seconds)))


def _row_latency(entries: Iterable[Entry]) -> Quantiles | None:
    collected = (entry for entry in entries if not entry.is_maintenance)
    pairs = [(entry, file) for entry in collected for file in entry.files]
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
