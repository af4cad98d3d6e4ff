"""Reads slices of a Kafka topic into Arrow record batches. No Beam in it.

A slice ends by position: at a message, or a partition's end, that lies at or beyond the slice's
end. Its last offset may be a hole (compaction, a transaction's marker, an aborted message), for
which no message ever comes.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, TopicPartition

from batch_collection.errors import DataLossError, SourceError, StoppedError
from transforms.process.process import current
from transforms.sources.contract import Gap
from transforms.sources.kafka.client import consumer_lent, listed
from transforms.sources.kafka.columnar import client_of

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

    import pyarrow as pa

    from transforms.sources.contract import Slice
    from transforms.sources.kafka.client import ReadingClient
    from transforms.sources.kafka.intake import Event, Intake, Taken
    from transforms.sources.kafka.reader_name import ReaderName

__all__ = ["KafkaReader", "read_slices"]


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
_OF_GROUPS = (KafkaError.GROUP_AUTHORIZATION_FAILED, KafkaError.INVALID_GROUP_ID)
"""What a group's coordinator refuses: no group is joined, though librdkafka asks for its own."""
_WAIT_SECONDS = 0.2
_FIRST_REQUEST = 1  # it doubles; the size of messages is not known yet
_MOST_REQUESTED = 2_000  # their objects stay in a CPU's cache, and their memory is used again
_SPARED = 9  # times that a broker which answers may stay silent for the whole stall


@dataclass(frozen=True, slots=True)
class KafkaReader:
    """A ``Reader`` of Kafka topics, of librdkafka's settings alone.

    Attributes:
        config: the settings.
        reader: which one it is; what it gives is the same.
    """

    config: Mapping[str, object]
    reader: ReaderName = "auto"

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Read slices of one topic; see ``read_slices``."""
        return read_slices(self.config, slices, skip_lost=skip_lost, reader=self.reader)


def read_slices(
    config: Mapping[str, object],
    slices: Sequence[Slice],
    *,
    skip_lost: bool,
    reader: ReaderName = "auto",
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
        reader: columnar, portable, or the first of them that can be had; the same comes.
        chunk_messages: a batch holds no more messages than this.
        chunk_bytes: a batch of more than one message holds about this many bytes at most.
        stall: how long the source may stay silent; ten times this if it answers, but sends no
            message, or is in the midst of a long answer.

    Raises:
        CollectionError: the reader that is asked for can't be had.
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
    lent = consumer_lent(config, f"topic={wanted[0].topic}", client_of(reader))
    with lent as client, closing(client.intake()) as intake:
        reading = _Reading(client, intake, wanted, _Pace(chunk_messages, chunk_bytes))
        yield from reading.run(stall.total_seconds(), skip_lost=skip_lost)


class _Reading:
    """How far each partition of one call is."""

    def __init__(
        self, client: ReadingClient, intake: Intake, slices: Sequence[Slice], pace: _Pace
    ) -> None:
        self._client, self._intake, self._pace = client, intake, pace
        self._topic = slices[0].topic
        self._ends = {each.partition: each.end for each in slices}
        self._positions = {each.partition: each.first for each in slices}  # of those not done
        self._gone: set[int] = set()  # partitions whose position the broker doesn't have

    def run(self, stall: float, *, skip_lost: bool) -> Iterator[pa.RecordBatch | Gap]:
        """Read until no partition is left; ``stall`` in seconds."""
        self._client.learn(self._topic)
        self._assign(self._positions)
        silence = _Silence(self._client, self._topic, stall)
        while self._positions:
            _stop_if_asked(self._topic)
            before = dict(self._positions)
            if self._read() or not self._positions:
                yield from self._batch()
            for partition in sorted(self._gone):
                gap = self._gap(partition)
                if gap is not None and not skip_lost:
                    raise DataLossError(_loss(self._topic, gap))
                if gap is not None:
                    yield from self._batch()
                    yield gap
            silence.watch(self._positions, progress=before != self._positions)

    def _read(self) -> bool:
        """Take what has come; return whether what is kept is to be handed on."""
        left = sum(self._ends[each] - position for each, position in self._positions.items())
        wanted = self._pace.request(left)
        taken = self._intake.take(wanted, _WAIT_SECONDS)
        self._pace.note(taken)
        for partition, position in taken.positions.items():
            self._advance(partition, position)
        for event in taken.events:
            self._heed(event)
        return taken.came < wanted or self._pace.is_full

    def _batch(self) -> Iterator[pa.RecordBatch]:
        """Yield what is kept as one batch, if anything is."""
        batch = self._intake.batch()
        if batch is not None:
            yield batch
        self._pace.forget()

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

    def _heed(self, event: Event) -> None:
        """Act on what came instead of a message."""
        error, partition, offset = event
        if error.code() == KafkaError._PARTITION_EOF:  # noqa: SLF001
            if offset is not None and offset >= self._end_if_open(partition):
                self._advance(partition, offset)
        elif error.code() in _OF_GROUPS:
            return
        elif partition not in self._positions:  # of the client at large, or of one that is done
            self._client.log.failed(error)
        elif error.code() in _OUT_OF_RANGE:
            self._gone.add(partition)
        elif error.code() in _PASSING:
            self._client.log.failed(error)
        else:
            is_refused = error.code() == KafkaError.TOPIC_AUTHORIZATION_FAILED
            cure = "; allow this user to read it" if is_refused else ""
            where = f"topic={self._topic}, partition={partition}"
            message = f"cannot read {where}: {error.str()}{cure}"
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
        self._assign([partition])
        if position < present:
            self._advance(partition, min(present, end))
            return Gap(partition, position, min(present, end))
        return None

    def _assign(self, partitions: Iterable[int]) -> None:
        """Let partitions be fetched from their positions on."""
        places = [TopicPartition(self._topic, each, self._positions[each]) for each in partitions]
        for each in places:
            self._intake.expect(each.partition, each.offset, self._ends[each.partition])
        self._client.consumer.incremental_assign(places)


class _Pace:
    """How many messages to ask for at once, and when those that are kept make a record batch."""

    def __init__(self, most_messages: int, most_bytes: int) -> None:
        self._most_messages, self._most_bytes = most_messages, most_bytes
        self._messages = self._bytes = 0
        self._request = _FIRST_REQUEST
        self._average = 0.0  # bytes a message, of the last that came

    @property
    def is_full(self) -> bool:
        """Whether another message of average size has no place."""
        return (
            self._messages >= self._most_messages or self._bytes + self._average > self._most_bytes
        )

    def request(self, left: int) -> int:
        """Return how many messages to ask for, where ``left`` are to come at most."""
        room = (self._most_bytes - self._bytes) / max(self._average, 1.0)
        return int(max(1, min(self._request, self._most_messages - self._messages, room, left)))

    def note(self, taken: Taken) -> None:
        """Take note of what came; the more come, the more are asked for next time."""
        messages, size = taken.messages - self._messages, taken.bytes - self._bytes
        self._messages, self._bytes = taken.messages, taken.bytes
        if not messages:
            return
        self._average = size / messages
        if messages >= self._request:
            self._request = min(2 * self._request, _MOST_REQUESTED)

    def forget(self) -> None:
        """Begin the next record batch."""
        self._messages = self._bytes = 0


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


def _loss(topic: str, gap: Gap) -> str:
    return (
        f"messages were deleted before they were read: topic={topic}, partition={gap.partition}, "
        f"offsets {gap.start} to {gap.end - 1}; --on_data_loss=skip records the gap and goes on"
    )


def _stop_if_asked(topic: str) -> None:
    if current().stop.is_set():
        message = f"stopped while reading topic={topic}"
        raise StoppedError(message)
