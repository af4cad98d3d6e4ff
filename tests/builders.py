"""Small real collections for tests, written through the real storage, log and publish functions."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.formats.known import FORMATS
from batch_collection.log.entries import create_entry, digest
from batch_collection.log.entry import (
    BatchFile,
    CarryFile,
    DeadLetterFile,
    Entry,
    Pane,
    PartitionRead,
    Source,
)
from batch_collection.paths import (
    batch_path,
    carry_path,
    dead_letters_path,
    entry_path,
    new_token,
    staged_path,
)
from batch_collection.publishing.publish import publish
from batch_collection.schema.arrow import from_arrow, to_arrow
from batch_collection.schema.columns import KINDS_WITH_IDS, LEASED_COLUMNS, METADATA_COLUMNS
from batch_collection.schema.types import merge
from batch_collection.storage.checksum import ChecksumFile
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import microseconds, window_start
from tests import tasks
from transforms.decoding.decode import DEAD_LETTERS
from transforms.elements.headers import headers_by
from transforms.elements.tables import COMPRESSED, LEASED_POSITION, POSITION
from transforms.sources.contract import LEASED_MESSAGES
from transforms.writing.dead_letters import filed

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from batch_collection.schema.types import Schema
    from batch_collection.storage.contract import Storage

__all__ = [
    "MINUTE",
    "TOPIC",
    "Collector",
    "Message",
    "at",
    "dead_letter",
    "id_of",
    "message",
    "payload_of",
    "tombstone",
    "varied",
]

MINUTE = timedelta(minutes=1)
TOPIC = Source("kafka", "batch-topic", "topic-id", "cluster-id")
_REASON = [DEAD_LETTERS.field("stage"), DEAD_LETTERS.field("error")]
_DAY = datetime(2026, 11, 22, tzinfo=timezone.utc)


def at(clock: str) -> datetime:
    """Return an instant of the tests' day: ``at("10:30:05")``."""
    hours, minutes, seconds = clock.split(":")
    return _DAY + timedelta(hours=int(hours), minutes=int(minutes), seconds=float(seconds))


@dataclass(frozen=True, slots=True)
class Message:
    """A message: row times of its rows (an array message has several), or why it has none."""

    partition: int
    offset: int
    times: tuple[datetime, ...] = ()
    is_array: bool = False
    error: str | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    id: str = ""


def message(offset: int, *clocks: str, partition: int = 0, **columns: Any) -> Message:
    """Return a message of one row, or an array message of one row for each further clock."""
    times = tuple(at(clock) for clock in clocks or ("10:30:00",))
    return Message(partition, offset, times, is_array=len(times) > 1, columns=columns)


def id_of(one: Message) -> str:
    """Return a message's id, where its source gives one."""
    return one.id or str(10**16 * (1 + one.partition) + one.offset)


def dead_letter(offset: int, error: str = "not JSON", partition: int = 0) -> Message:
    """Return a message of which no row can be made."""
    return Message(partition, offset, error=error)


def tombstone(offset: int, partition: int = 0) -> Message:
    """Return a message without a value."""
    return Message(partition, offset)


def payload_of(table: pa.Table, own: frozenset[str] = METADATA_COLUMNS["full"]) -> Schema:
    """Return the payload schema of a batch file's rows, as far as a collection has such types."""
    fields = [each for each in table.schema if each.name not in own]
    schema = from_arrow(pa.struct(fields))
    kept = [each.name for each in fields if each in to_arrow(schema)]
    return {name: schema[name] for name in kept}


@dataclass(frozen=True, slots=True)
class _Row:
    time: datetime
    partition: int
    offset: int
    index: int | None
    columns: dict[str, Any]
    id: str


def first_entry(**changes: Any) -> Entry:
    """Build entry 0 of a collection of one partition, that reads from offset 0 on."""
    entry = Entry(
        cycle=0,
        run="run-1",
        plan="plan-0",
        previous=None,
        host="test",
        pid=1,
        committed_at=at("10:30:00"),
        source=TOPIC,
        interval=MINUTE,
        row_time="record",
        cause="start",
        reads=(PartitionRead(0, 0, 0),),
    )
    return replace(entry, **changes)


@dataclass(slots=True)
class Collector:
    """A collector in miniature: one call of ``collect`` is one cycle, entry, and publishing."""

    storage: Storage
    batch_size: int = 4
    interval: timedelta = MINUTE
    format: str = "parquet"
    metadata: str = "position"
    source: Source = TOPIC
    run: str = "run-1"
    newest: Entry | None = None
    _waiting: dict[datetime, list[_Row]] = field(default_factory=lambda: defaultdict(list))
    _payload: Schema = field(default_factory=dict)

    def start(self, partitions: Sequence[int] = (0,)) -> Entry:
        """Commit entry 0, which pins where reading starts."""
        entry = first_entry(
            run=self.run,
            source=self.source,
            interval=self.interval,
            reads=tuple(PartitionRead(partition, 0, 0) for partition in partitions),
        )
        return self._commit(entry, published=True)

    def collect(
        self,
        *messages: Message,
        boundary: str | None = None,
        committed_at: str | None = None,
        published: bool = True,
    ) -> Entry:
        """Collect messages; windows that end at or before ``boundary`` are due."""
        entry = self.plan(*messages, boundary=boundary, committed_at=committed_at)
        return self._commit(entry, published=published)

    def plan(
        self, *messages: Message, boundary: str | None = None, committed_at: str | None = None
    ) -> Entry:
        """Stage a cycle and return its entry, not committed."""
        before = self.newest or self.start()
        due = at(boundary) if boundary else before.boundary
        for row in (row for one in messages for row in self._rows(one)):
            self._waiting[window_start(row.time, self.interval)].append(row)
        panes = tuple(
            pane
            for start in sorted({*self._waiting, *before.open})
            if (pane := self._pane(before, start, due)) is not None
        )
        carry = tuple(self._carry(before, start) for start in sorted(self._waiting))
        return replace(
            before,
            cycle=before.cycle + 1,
            plan=f"plan-{before.cycle + 1}",
            previous=digest(self.storage.read(entry_path(before.cycle))),
            committed_at=at(committed_at) if committed_at else (due or at("10:30:30")),
            cause="interval",
            boundary=due,
            reads=tuple(_read(read, messages) for read in before.reads),
            panes=panes,
            schema=merge(before.schema, self._payload),
            open=_open(before, panes),
            carry=carry,
            released=tuple(file.path for file in before.carry),
            dead_letters=self._dead_letters(before, messages),
            redriven=(),
            became=(),
        )

    def _commit(self, entry: Entry, *, published: bool) -> Entry:
        self.newest = create_entry(self.storage, entry)
        if published:
            publish(self.storage, self.newest)
        return self.newest

    def _rows(self, one: Message) -> list[_Row]:
        return [
            _Row(
                time,
                one.partition,
                one.offset,
                place if one.is_array else None,
                one.columns,
                id_of(one),
            )
            for place, time in enumerate(one.times)
        ]

    def _pane(self, before: Entry, start: datetime, due: datetime | None) -> Pane | None:
        """Cut what is due or full; the rest keeps waiting."""
        end, rows = start + self.interval, self._waiting[start]
        is_due = due is not None and end <= due
        is_late = before.boundary is not None and end <= before.boundary
        size = self.batch_size
        leaving = len(rows) if is_due else len(rows) // size * size
        batches = [rows[i : min(i + size, leaving)] for i in range(0, leaving, size)]
        self._waiting[start] = rows[leaving:]
        if not self._waiting[start]:
            del self._waiting[start]
        closes = is_due and start in before.open
        if not batches and not closes:
            return None
        timing = "late" if is_late else "on_time" if is_due else "early"
        files = tuple(
            self._batch(before.cycle + 1, start, i, batch) for i, batch in enumerate(batches)
        )
        earlier = before.open.get(start, ()) if timing == "on_time" else ()
        return Pane(start, end, timing, leaving, files, earlier)

    def _batch(self, cycle: int, start: datetime, number: int, rows: list[_Row]) -> BatchFile:
        file_format = FORMATS[self.format]
        compression, ending = next(iter(file_format.endings.items()))
        path = batch_path(start, cycle, 0, number, new_token(), ending)
        staged = staged_path(cycle, path)
        table = self._table(rows)
        own = LEASED_COLUMNS if self._has_ids else METADATA_COLUMNS
        self._payload = merge(self._payload, payload_of(table, own[self.metadata]))
        with ChecksumFile(self.storage.write(staged)) as sink:
            writer = file_format.writer(sink, table.schema, compression)
            writer.write(table)
            writer.close()
        times = [row.time for row in rows]
        return BatchFile(
            path, staged, len(rows), sink.bytes, sink.crc32c, min(times), max(times), _offsets(rows)
        )

    def _table(self, rows: list[_Row]) -> pa.Table:
        columns = _columns(rows)
        if self.metadata == "none":
            return pa.table(columns)
        index = {"_index": pa.array([row.index for row in rows], pa.int32())}
        if self._has_ids:
            published = pa.array([row.time for row in rows], pa.timestamp("us", "UTC"))
            ids = {"_message_id": [row.id for row in rows], "_publish_time": published}
            return pa.table(columns | ids | index)
        return pa.table(
            columns
            | {
                "_partition": pa.array([row.partition for row in rows], pa.int32()),
                "_offset": pa.array([row.offset for row in rows], pa.int64()),
                "_timestamp": pa.array([row.time for row in rows], pa.timestamp("ms", "UTC")),
            }
            | index
        )

    @property
    def _has_ids(self) -> bool:
        return self.source.kind in KINDS_WITH_IDS

    def _carry(self, before: Entry, start: datetime) -> CarryFile:
        path, rows = carry_path(before.cycle + 1, 0, 0, new_token()), self._waiting[start]
        payload = pa.table(_columns(rows)).to_struct_array().combine_chunks()
        position = pa.Table.from_pylist(
            [
                {
                    "row_time": microseconds(row.time),
                    "partition": row.partition,
                    "offset": row.offset,
                    "timestamp": row.time,
                    "index": row.index,
                    "id": row.id,
                    "published": row.time,
                }
                for row in rows
            ],
            LEASED_POSITION if self._has_ids else POSITION,
        )
        table = headers_by(before.form, position).append_column("payload", payload)
        with (
            ChecksumFile(self.storage.write(path)) as sink,
            pa.ipc.new_stream(sink, table.schema, options=COMPRESSED) as writer,
        ):
            writer.write_table(table)
        indexed = any(row.index is not None for row in rows)
        return CarryFile(path, start, len(rows), 0, sink.bytes, sink.crc32c, indexed)

    def _dead_letters(
        self, before: Entry, messages: Sequence[Message]
    ) -> tuple[DeadLetterFile, ...]:
        dead = [one for one in messages if one.error is not None]
        if not dead:
            return ()
        path = dead_letters_path(at("10:30:00"), before.cycle + 1, 0, new_token())
        staged = staged_path(before.cycle + 1, path)
        letters = pa.Table.from_pylist(
            [
                {
                    "partition": one.partition,
                    "offset": one.offset,
                    "timestamp": microseconds(at("10:30:00")) // 1000,
                    "value": b"{",
                    "stage": "decode",
                    "error": one.error,
                    "id": id_of(one),
                    "published": at("10:30:00"),
                }
                for one in dead
            ],
            pa.schema([*LEASED_MESSAGES, *_REASON]) if self._has_ids else DEAD_LETTERS,
        )
        table = filed(letters, tasks.plan(form=before.form, format=before.format))
        with ChecksumFile(self.storage.write(staged)) as sink:
            writer = FORMATS["parquet"].writer(sink, table.schema, "zstd")
            writer.write(table)
            writer.close()
        return (DeadLetterFile(path, staged, len(dead), sink.bytes, sink.crc32c),)


def _read(before: PartitionRead, messages: Sequence[Message]) -> PartitionRead:
    own = [one for one in messages if one.partition == before.partition]
    return PartitionRead(
        partition=before.partition,
        start=before.end,
        end=max((one.offset + 1 for one in own), default=before.end),
        messages=len(own),
        rows=sum(len(one.times) for one in own),
        dead_letters=sum(one.error is not None for one in own),
        tombstones=sum(one.error is None and not one.times for one in own),
    )


def _open(before: Entry, panes: tuple[Pane, ...]) -> dict[datetime, tuple[int, ...]]:
    """Return the windows that have early panes and are not closed, and their cycles."""
    windows = dict(before.open)
    for pane in panes:
        if pane.timing == "early":
            earlier = windows.get(pane.window_start, ())
            windows[pane.window_start] = (*earlier, before.cycle + 1)
        else:
            windows.pop(pane.window_start, None)
    return windows


def _columns(rows: list[_Row]) -> dict[str, Any]:
    """Return the payload of rows: their offset as a number, and what else their messages hold."""
    names = dict.fromkeys(name for row in rows for name in row.columns)
    columns = {"value": pa.array([float(row.offset) for row in rows])}
    return columns | {name: pa.array([row.columns.get(name) for row in rows]) for name in names}


def _offsets(rows: list[_Row]) -> dict[int, tuple[int, int, int]]:
    by_partition: dict[int, list[int]] = defaultdict(list)
    for row in rows:
        by_partition[row.partition].append(row.offset)
    return {
        partition: (min(offsets), max(offsets), len(offsets))
        for partition, offsets in by_partition.items()
    }


def varied(folder: Path, *letters: Message) -> Collector:
    """Collect windows closed, late and open; ``letters`` are the messages 3 to 6."""
    collector = Collector(LocalStorage(str(folder)), batch_size=2)
    collector.start((0, 1))
    collector.collect(*(message(offset, "10:30:10") for offset in range(3)), *letters)
    collector.collect(message(7, "10:31:10"), boundary="10:31:00", committed_at="10:31:02")
    collector.collect(
        *(message(8, "10:30:20"), message(9, "10:32:10"), message(10, "10:32:11")),
        message(11, "10:32:12"),
        boundary="10:32:00",
        committed_at="10:32:04",
    )
    return collector
