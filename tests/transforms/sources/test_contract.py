"""What every addressed source holds to: Kafka on each broker, and one from outside."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from datetime import timedelta
from itertools import product, starmap
from typing import TYPE_CHECKING, Any, Protocol

import pyarrow as pa
import pytest

from batch_collection.errors import CollectionError, DataLossError
from batch_collection.log.entry import PartitionRead
from tests import toy_source
from tests.builders import at, first_entry
from tests.collecting import Sending, Stream
from tests.services.extension import needed
from transforms.sources.contract import MESSAGES, Bounds, Gap, Slice
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from transforms.sources.contract import AddressedSource, Reader, SourceSettings
    from transforms.sources.kafka.reader_name import ReaderName

SECOND = timedelta(seconds=1)
BEGIN = at("10:30:00")


class Harness(Protocol):
    """A stream of four partitions, which a test fills."""

    @property
    def name(self) -> str:
        """Its name."""

    def settings(self) -> SourceSettings:
        """Return the settings that lead to it."""

    def put(self, partition: int, *messages: tuple[datetime, bytes | None]) -> None:
        """Append messages."""

    def retain(self, partition: int, first: int) -> None:
        """Let what is before an offset be gone."""


class _Folder:
    name = "stream"

    def __init__(self, path: Path) -> None:
        self.path = path
        for partition in range(4):
            self.put(partition)

    def settings(self) -> SourceSettings:
        return toy_source.FolderSettings((self.name,), self.path)

    def put(self, partition: int, *messages: tuple[datetime, bytes | None]) -> None:
        toy_source.put(self.path, self.name, partition, *messages)

    def retain(self, partition: int, first: int) -> None:
        toy_source.retain(self.path, self.name, partition, first)


@dataclass
class _Topic:
    stream: Stream
    reader: ReaderName

    @property
    def name(self) -> str:
        return self.stream.name

    def settings(self) -> SourceSettings:
        servers = {"bootstrap.servers": self.stream.broker.bootstrap_servers, "group.id": self.name}
        return KafkaSettings((self.name,), servers, self.name, self.reader)

    def put(self, partition: int, *messages: tuple[datetime, bytes | None]) -> None:
        self.stream.send(*(Sending(value, stamp, partition) for stamp, value in messages))

    def retain(self, partition: int, first: int) -> None:
        self.stream.delete_before(partition, first)


def _of_kafka(broker: str, reader: ReaderName) -> Any:
    marks = [pytest.mark.integration] if broker == "kafka" else []
    return pytest.param((broker, reader), id=f"{broker}-{reader}", marks=marks)


@pytest.fixture(
    params=["folder", *starmap(_of_kafka, product(("embedded", "kafka"), ("columnar", "portable")))]
)
def stream(request: pytest.FixtureRequest, tmp_path: Path) -> Harness:
    """Give a stream of each source there is, and of each reader."""
    if request.param == "folder":
        return _Folder(tmp_path)
    broker, reader = request.param
    return _Topic(Stream(request.getfixturevalue(broker), partitions=4), needed(reader))


def numbered(count: int, start: int = 0) -> list[tuple[datetime, bytes | None]]:
    """Return messages a second apart, each with its number; every fifth is a tombstone."""
    numbers = range(start, start + count)
    return [(BEGIN + n * SECOND, None if n % 5 == 4 else b"%d" % n) for n in numbers]


def opened(stream: Harness) -> AddressedSource:
    """Return the source as a planner has it."""
    (source,) = stream.settings().connect().sources([stream.name])
    return source


def read(reader: Reader, *slices: Slice) -> dict[int, list[tuple[int, bytes | None]]]:
    """Return offsets and values by partition, in the order in which they came."""
    found: dict[int, list[tuple[int, bytes | None]]] = {}
    for batch in reader.read(slices, skip_lost=False):
        assert isinstance(batch, pa.RecordBatch)
        assert batch.schema == MESSAGES
        for row in batch.to_pylist():
            found.setdefault(row["partition"], []).append((row["offset"], row["value"]))
    return found


def test_what_is_between_the_bounds_can_be_read_once_and_in_order(stream: Harness) -> None:
    """All of it, by a reader that was pickled, and again by another."""
    stream.put(0, *numbered(10))
    stream.put(1, *numbered(7))
    source = opened(stream)
    assert source.name == stream.name
    assert source.partitions == (0, 1, 2, 3)
    assert source.bounds() == dict(
        enumerate([Bounds(0, 10), Bounds(0, 7), Bounds(0, 0), Bounds(0, 0)])
    )
    slices = [Slice(stream.name, p, *there) for p, there in source.bounds().items()]
    reader: Reader = pickle.loads(pickle.dumps(stream.settings().reader()))  # noqa: S301 - ours
    expected = {
        partition: list(enumerate(value for _, value in numbered(count)))
        for partition, count in ((0, 10), (1, 7))
    }
    assert read(reader, *slices) == read(stream.settings().reader(), *slices) == expected


@pytest.mark.parametrize("cut", [0, 1, 4, 10])
def test_parts_of_a_partition_meet(stream: Harness, cut: int) -> None:
    """Wherever it is cut, and when it was appended to since."""
    stream.put(0, *numbered(10))
    reader = stream.settings().reader()
    before = read(reader, Slice(stream.name, 0, 0, cut)).get(0, [])
    stream.put(0, *numbered(2, 10))
    behind = read(reader, Slice(stream.name, 0, cut, 10)).get(0, [])
    assert before + behind == list(enumerate(value for _, value in numbered(10)))
    assert opened(stream).bounds()[0] == Bounds(0, 12)


def test_the_time_index_gives_the_first_message_stamped_then_or_later(stream: Harness) -> None:
    """None where there is none."""
    if isinstance(stream, _Topic) and not hasattr(stream.stream.broker, "admin"):
        pytest.skip("the embedded broker has no time index")
    stream.put(0, *numbered(5))
    source = opened(stream)
    for instant, offset in (
        (BEGIN - SECOND, 0),
        (BEGIN, 0),
        (BEGIN + timedelta(milliseconds=2500), 3),
        (BEGIN + 4 * SECOND, 4),
    ):
        answers = source.at(instant)
        assert answers[0].offset == offset
        assert answers[1].offset is None
    assert source.at(BEGIN + 5 * SECOND)[0] == (None, None)
    assert source.at(BEGIN + SECOND)[0].timestamp == BEGIN + SECOND


def test_a_stream_that_is_not_there_is_named(stream: Harness) -> None:
    """With what was asked for."""
    with pytest.raises(CollectionError, match="nobody-has-it"):
        stream.settings().connect().sources(["nobody-has-it"])


def test_it_is_the_same_stream_each_time(stream: Harness) -> None:
    """Whoever asks, and however often."""
    source = opened(stream)
    assert source.identity() == source.identity() == source.refresh() == opened(stream).identity()
    assert source.identity().topic == stream.name


def test_what_was_released_is_remembered(stream: Harness) -> None:
    """Released twice it is the same; a new stream remembers nothing."""
    stream.put(0, *numbered(5))
    source = opened(stream)
    assert source.remembered() == {}
    published = first_entry(reads=(PartitionRead(0, 0, 3), PartitionRead(1, 0, 0)))
    source.release(published)
    source.release(published)
    assert {p: end for p, end in opened(stream).remembered().items() if end} == {0: 3}


def test_what_is_gone_is_a_gap_or_an_error(stream: Harness) -> None:
    """Never silence."""
    if isinstance(stream, _Topic) and not hasattr(stream.stream.broker, "admin"):
        pytest.skip("the embedded broker deletes nothing")
    stream.put(0, *numbered(8))
    stream.retain(0, 5)
    source, reader = opened(stream), stream.settings().reader()
    assert source.bounds()[0] == Bounds(5, 8)
    with pytest.raises(DataLossError):
        list(reader.read([Slice(stream.name, 0, 3, 8)], skip_lost=False))
    found = list(reader.read([Slice(stream.name, 0, 3, 8)], skip_lost=True))
    assert [each for each in found if isinstance(each, Gap)] == [Gap(0, 3, 5)]
    batches = [each for each in found if isinstance(each, pa.RecordBatch)]
    assert _offsets(batches) == [5, 6, 7]
    assert read(reader, Slice(stream.name, 0, 3, 8, lost=2))[0][0][0] == 5


def test_nothing_asked_is_nothing_read(stream: Harness) -> None:
    """Slices may all be empty."""
    stream.put(0, *numbered(3))
    reader = stream.settings().reader()
    assert list(reader.read([Slice(stream.name, 0, 2, 2)], skip_lost=False)) == []
    assert list(reader.read([], skip_lost=False)) == []


def _offsets(batches: Sequence[pa.RecordBatch]) -> list[int]:
    return [offset for batch in batches for offset in batch.column("offset").to_pylist()]
