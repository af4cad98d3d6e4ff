"""Reads slices of a Kafka topic into Arrow record batches. No Beam in it.

A slice ends by position: at a message, or a partition's end, that lies at or beyond the slice's
end. Its last offset may be a hole (compaction, a transaction's marker, an aborted message), for
which no message ever comes.
"""

from __future__ import annotations

import gc
import time
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from confluent_kafka import (
    TIMESTAMP_NOT_AVAILABLE,
    KafkaError,
    KafkaException,
    Message,
    TopicPartition,
)

from batch_collection.errors import DataLossError, SourceError, StoppedError
from transforms.process.process import current
from transforms.sources.contract import MESSAGES, Gap
from transforms.sources.kafka.client import consumer_lent, listed

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    from confluent_kafka._types import HeadersType

    from transforms.sources.contract import Slice
    from transforms.sources.kafka.client import ReadingClient

__all__ = ["UNREADABLE", "KafkaReader", "read_slices"]


_OUT_OF_RANGE = (
    KafkaError._AUTO_OFFSET_RESET,  # noqa: SLF001 - their names
    KafkaError._LOG_TRUNCATION,  # noqa: SLF001
    KafkaError.OFFSET_OUT_OF_RANGE,
)
_PASSING = (
    KafkaError._TRANSPORT,  # noqa: SLF001
    KafkaError._TIMED_OUT,  # noqa: SLF001
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.OFFSET_NOT_AVAILABLE,
    KafkaError.REQUEST_TIMED_OUT,
)
UNREADABLE = "(header names are not UTF-8)"
"""The one header, without a value, of a message whose headers can't be had."""

_WAIT_SECONDS = 0.2
_FIRST_REQUEST = 1  # it doubles; the size of messages is not known yet
_MOST_REQUESTED = 2_000  # their objects stay in a CPU's cache, and their memory is used again
_SPARED = 9  # times that a broker which answers may stay silent for the whole stall


@dataclass(frozen=True, slots=True)
class KafkaReader:
    """A ``Reader`` of Kafka topics, of librdkafka's settings alone."""

    config: Mapping[str, object]

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Read slices of one topic; see ``read_slices``."""
        return read_slices(self.config, slices, skip_lost=skip_lost)


def read_slices(
    config: Mapping[str, object],
    slices: Sequence[Slice],
    *,
    skip_lost: bool,
    chunk_messages: int = 40_000,
    chunk_bytes: int = 16 << 20,
    stall: timedelta = timedelta(seconds=30),
) -> Generator[pa.RecordBatch | Gap, None, None]:
    """Slices of a topic in, record batches of schema ``MESSAGES`` out, a ``Gap`` for what is gone.

    Every message of every slice, from its ``first`` on, comes exactly once, those of a partition in
    the order of their offsets; partitions are interleaved, also within a batch. A broker that is
    away for less than ``stall`` costs nothing. The process keeps its consumers between calls;
    threads may read at the same time.

    Args:
        config: librdkafka's settings; those that correctness rests on are replaced.
        slices: at most one a partition; an empty one is skipped.
        skip_lost: yield a ``Gap`` for deleted messages instead of raising.
        chunk_messages: a batch holds no more messages than this.
        chunk_bytes: a batch of more than one message holds about this many bytes at most.
        stall: how long the source may stay silent; ten times this if it answers, but sends no
            message, or is in the midst of a long answer.

    Raises:
        DataLossError: messages of a slice were deleted before they were read.
        SourceError: the source was silent for ``stall``, or says that it can't be read.
        StoppedError: this process is to stop.
    """
    wanted = [each for each in slices if each.first < each.end]
    if not wanted:
        return
    if (
        len({each.partition for each in wanted}) < len(wanted)
        or len({each.topic for each in wanted}) > 1
    ):
        message = f"slices must be of one topic and one a partition, got {wanted}"
        raise ValueError(message)
    with consumer_lent(config, f"topic={wanted[0].topic}") as client:
        reading = _Reading(client, wanted, chunk_messages, chunk_bytes)
        yield from reading.run(stall.total_seconds(), skip_lost=skip_lost)


class _Reading:
    """How far each partition of one call is."""

    def __init__(
        self, client: ReadingClient, slices: Sequence[Slice], chunk_messages: int, chunk_bytes: int
    ) -> None:
        self._client, self._topic = client, slices[0].topic
        self._ends = {each.partition: each.end for each in slices}
        self._positions = {each.partition: each.first for each in slices}  # of those not done
        self._gone: set[int] = set()  # partitions whose position the broker doesn't have
        self._chunk = _Chunk(chunk_messages, chunk_bytes)

    def run(self, stall: float, *, skip_lost: bool) -> Iterator[pa.RecordBatch | Gap]:
        """Read until no partition is left; ``stall`` in seconds."""
        self._client.learn(self._topic)
        self._client.consumer.incremental_assign(self._places(self._positions))
        silence = _Silence(self._client, self._topic, stall)
        while self._positions:
            _stop_if_asked(self._topic)
            before = dict(self._positions)
            with _uncollected():
                ready = self._read()
            if ready or not self._positions:
                yield from self._chunk.take()
            for partition in sorted(self._gone):
                gap = self._gap(partition)
                if gap is not None and not skip_lost:
                    raise DataLossError(_loss(self._topic, gap))
                if gap is not None:
                    yield from self._chunk.take()
                    yield gap
            silence.watch(self._positions, progress=before != self._positions)

    def _read(self) -> bool:
        """Take what has come; return whether the chunk is to be handed on."""
        left = sum(self._ends[each] - position for each, position in self._positions.items())
        wanted = self._chunk.request(left)
        messages = self._client.consumer.consume(wanted, _WAIT_SECONDS)
        timed_out = len(messages) < wanted
        if any(map(Message.error, messages)):
            events = [message for message in messages if message.error() is not None]
            messages = [message for message in messages if message.error() is None]
        else:
            events = []
        if messages:
            self._take(messages)
        for event in events:
            self._heed(event)
        return timed_out or self._chunk.full

    def _take(self, messages: list[Message]) -> None:
        """Move the positions past the messages and keep those that lie in a slice."""
        partitions, offsets = _places_of(messages)
        last = dict(zip(partitions, offsets, strict=True))  # the highest: offsets rise
        if not all(offset < self._end_if_open(each) for each, offset in last.items()):
            messages = [
                message
                for message, partition, offset in zip(messages, partitions, offsets, strict=True)
                if self._positions.get(partition, offset + 1) <= offset < self._ends[partition]
            ]
            partitions, offsets = _places_of(messages)
        self._chunk.add(messages, partitions, offsets)
        for partition, offset in last.items():
            self._advance(partition, offset + 1)

    def _end_if_open(self, partition: int | None) -> int:
        return self._ends[partition] if partition in self._positions else 0

    def _advance(self, partition: int | None, position: int) -> None:
        """Note a partition's position; let go of it if it is done."""
        if partition not in self._positions:
            return
        self._positions[partition] = position
        if position >= self._ends[partition]:
            del self._positions[partition]
            self._gone.discard(partition)
            self._client.consumer.incremental_unassign([TopicPartition(self._topic, partition)])

    def _heed(self, event: Message) -> None:
        """Act on what came instead of a message."""
        error, partition, offset = event.error(), event.partition(), event.offset()
        if error is None:
            return
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            if offset is not None and offset >= self._end_if_open(partition):
                self._advance(partition, offset)
        elif partition not in self._positions:  # of the client at large, or of one that is done
            self._client.log.failed(error)
        elif error.code() in _OUT_OF_RANGE:
            self._gone.add(partition)
        elif error.code() in _PASSING:
            self._client.log.failed(error)
        else:
            message = f"cannot read topic={self._topic}, partition={partition}: {error.str()}"
            raise SourceError(message)

    def _gap(self, partition: int) -> Gap | None:
        """Find out what of a partition is gone and go on behind it; None: nothing, or ask again."""
        position, end = self._positions[partition], self._ends[partition]
        place = TopicPartition(self._topic, partition)
        try:
            low, high = self._client.consumer.get_watermark_offsets(place, timeout=1.0)
        except KafkaException as error:
            self._client.log.failed(error.args[0])
            return None
        self._gone.discard(partition)
        present = low if position < low else position if position <= high else end
        self._client.consumer.incremental_unassign([place])
        self._positions[partition] = min(present, end)
        self._client.consumer.incremental_assign(self._places([partition]))
        if position < present:
            self._advance(partition, min(present, end))
            return Gap(partition, position, min(present, end))
        return None

    def _places(self, partitions: Iterable[int]) -> list[TopicPartition]:
        return [TopicPartition(self._topic, each, self._positions[each]) for each in partitions]


class _Chunk:
    """Messages gathered until they make a record batch."""

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._batches: list[pa.RecordBatch] = []
        self._messages = self._bytes = 0
        self._request = _FIRST_REQUEST
        self._average = 0.0  # bytes a message, of the last batch

    @property
    def full(self) -> bool:
        """Whether another message of average size has no place."""
        return (
            self._messages >= self._most_messages or self._bytes + self._average > self._most_bytes
        )

    def request(self, left: int) -> int:
        """Return how many messages to ask for, where ``left`` are to come at most."""
        room = (self._most_bytes - self._bytes) / max(self._average, 1.0)
        return int(max(1, min(self._request, self._most_messages - self._messages, room, left)))

    def add(self, messages: list[Message], partitions: list[int], offsets: list[int]) -> None:
        """Gather messages; the more come, the more are asked for next time."""
        if not messages:
            return
        batch = _batch(messages, partitions, offsets)
        self._batches.append(batch)
        self._messages += len(messages)
        self._bytes += batch.nbytes
        self._average = batch.nbytes / len(messages)
        if len(messages) >= self._request:
            self._request = min(2 * self._request, _MOST_REQUESTED)

    def take(self) -> Iterator[pa.RecordBatch]:
        """Yield what was gathered as one batch, if anything was."""
        batches = self._batches
        self._batches, self._messages, self._bytes = [], 0, 0
        if len(batches) > 1:
            yield pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        elif batches:
            yield batches[0]


class _Silence:
    """Raises when nothing has come for too long; time between reads is not counted."""

    def __init__(self, client: ReadingClient, topic: str, stall: float) -> None:
        self._client, self._topic, self._stall = client, topic, stall
        self._doing = f"read topic={topic}"
        self._began: float | None = None
        self._spared = 0

    def watch(self, positions: Mapping[int, int], *, progress: bool) -> None:
        """Take note of one read."""
        if progress:
            self._began, self._spared = None, 0
            return
        if self._client.log.refused:
            raise self._client.error(self._doing)
        now = time.monotonic()
        self._began = now - _WAIT_SECONDS if self._began is None else self._began
        if now - self._began < self._stall:
            return
        if self._spared >= _SPARED or not self._lives(next(iter(positions))):
            where = f"{self._doing}, partition={listed(positions)}"
            seconds = self._stall * (self._spared + 1)
            silent = f"{where}, silent for {seconds:g}s"
            raise self._client.error(silent)
        self._began, self._spared = None, self._spared + 1

    def _lives(self, partition: int) -> bool:
        """Tell a slow source from one that is away.

        A long row of aborted messages is silent, too; so the broker is asked for something else,
        unless it is in the midst of an answer, behind which the next one would have to wait.
        """
        if self._client.is_receiving:
            return True
        place = TopicPartition(self._topic, partition)
        try:
            self._client.consumer.get_watermark_offsets(place, timeout=min(self._stall, 5.0))
        except KafkaException:
            return False
        return True


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold Python's cycle collector off: messages make no cycles, and it halves the speed."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _places_of(messages: list[Message]) -> tuple[list[int], list[int]]:
    """Return the partitions and the offsets of messages; only an error's may be None."""
    partitions = cast("list[int]", list(map(Message.partition, messages)))
    return partitions, cast("list[int]", list(map(Message.offset, messages)))


def _headers(messages: list[Message]) -> list[HeadersType | None]:
    """Return the messages' headers, each asked for once.

    confluent-kafka 2.16 fails over a name that isn't UTF-8; asked again, it returns a broken list.
    """
    found: list[HeadersType | None] = []
    waiting = iter(messages)
    while len(found) < len(messages):
        try:
            found.extend(map(Message.headers, waiting))
        except (SystemError, UnicodeDecodeError):  # what came before is in the list
            found.append([(UNREADABLE, None)])
    return found


def _batch(messages: list[Message], partitions: list[int], offsets: list[int]) -> pa.RecordBatch:
    """Turn messages into columns; no Python runs per message but confluent-kafka's getters."""
    stamped = list(map(Message.timestamp, messages))
    stamps: list[int | None] = list(map(itemgetter(1), stamped))
    if TIMESTAMP_NOT_AVAILABLE in map(itemgetter(0), stamped):
        stamps = [None if kind == TIMESTAMP_NOT_AVAILABLE else stamp for kind, stamp in stamped]
    columns: tuple[Sequence[Any], ...] = (
        partitions,
        offsets,
        stamps,
        list(map(Message.value, messages)),
        list(map(Message.key, messages)),
        _headers(messages),
    )
    arrays = [
        # most messages have no headers, and building a map costs twice what a value does
        pa.nulls(len(messages), field.type)
        if field.name == "headers" and not any(column)
        else pa.array(column, field.type)
        for column, field in zip(columns, MESSAGES, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=MESSAGES)


def _loss(topic: str, gap: Gap) -> str:
    return (
        f"messages were deleted before they were read: topic={topic}, partition={gap.partition}, "
        f"offsets {gap.start} to {gap.end - 1}; --on_data_loss=skip records the gap and goes on"
    )


def _stop_if_asked(topic: str) -> None:
    if current().stop.is_set():
        message = f"stopped while reading topic={topic}"
        raise StoppedError(message)
