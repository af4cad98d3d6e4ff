"""Reading slices: every message once, in order, whatever is missing between the offsets."""

from __future__ import annotations

import ctypes
import random
import re
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka import KafkaError, Producer, TopicPartition

from batch_collection.errors import DataLossError, SourceError, StoppedError
from tests.services.kafka import KafkaBroker
from tests.services.mock_cluster import librdkafka
from transforms.process.process import current
from transforms.sources.contract import MESSAGES, Gap, Slice
from transforms.sources.kafka import client as kafka_client
from transforms.sources.kafka import reader as kafka_reader
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import idle_consumers
from transforms.sources.kafka.intake import UNREADABLE, Event, Taken
from transforms.sources.kafka.portable import PortableIntake

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker
    from transforms.sources.kafka.reader_name import ReaderName

    ReadSlices = Callable[..., Generator[pa.RecordBatch | Gap, None, None]]
    Read = Callable[..., tuple[list[dict[str, Any]], list[Gap]]]

    AnyBroker = KafkaBroker | EmbeddedBroker

NOBODY = "127.0.0.1:1"


def config(broker: AnyBroker) -> dict[str, object]:
    """Return the settings of a reader."""
    return {"bootstrap.servers": broker.bootstrap_servers}


def producer(broker: AnyBroker, **settings: object) -> Producer:
    """Return a producer that keeps its log to itself, and its messages in order."""
    named = {key.replace("_", "."): value for key, value in settings.items()}
    ordered = {"enable.idempotence": isinstance(broker, KafkaBroker)}
    return Producer({**config(broker), **ordered, **named}, logger=kafka_client.ClientLog())


def topic(broker: AnyBroker, partitions: int = 4, **settings: object) -> str:
    """Create a topic of its own for a test."""
    name = f"reader-{uuid.uuid4().hex[:8]}"
    if isinstance(broker, KafkaBroker):
        return broker.create_topic(name, partitions, **settings)
    return broker.create_topic(name)


def produce(broker: AnyBroker, name: str, values: Sequence[bytes], partition: int = 0) -> None:
    """Write values to one partition."""
    client = producer(broker)
    for value in values:
        client.produce(name, value, partition=partition)
    assert client.flush(30) == 0


def values(count: int, start: int = 0) -> list[bytes]:
    """Return distinct small values."""
    return [b'{"number": %d}' % number for number in range(start, start + count)]


@pytest.fixture
def read_slices(reader: ReaderName) -> ReadSlices:
    """Give each reader in turn."""
    return partial(kafka_reader.read_slices, reader=reader)


@pytest.fixture
def read(read_slices: ReadSlices) -> Read:
    """Give what reads slices to their rows and gaps, checking what holds for every batch."""

    def read(
        broker: AnyBroker, *slices: Slice, **options: Any
    ) -> tuple[list[dict[str, Any]], list[Gap]]:
        found = list(read_slices(config(broker), slices, **{"skip_lost": False, **options}))
        batches = [each for each in found if isinstance(each, pa.RecordBatch)]
        for batch in batches:
            batch.validate(full=True)
            assert batch.schema == MESSAGES
            assert batch.num_rows > 0
        rows = [row for batch in batches for row in batch.to_pylist()]
        return rows, [each for each in found if isinstance(each, Gap)]

    return read


def offsets(rows: list[dict[str, Any]], partition: int = 0) -> list[int]:
    """Return a partition's offsets in the order they were read."""
    return [row["offset"] for row in rows if row["partition"] == partition]


def delete_before(broker: KafkaBroker, name: str, offset: int) -> None:
    """Delete as retention does."""
    admin = broker.admin()
    asked = admin.delete_records([TopicPartition(name, 0, offset)])
    for answer in asked.values():
        answer.result(10)


def wait_for_end(broker: KafkaBroker, name: str, end: int) -> None:
    """Wait until the last stable offset of partition 0 is ``end``."""
    asked, deadline = Broker(config(broker)), time.monotonic() + 30
    while asked.offsets(name, [0])[0][1] != end:
        assert time.monotonic() < deadline


def test_a_slice_gives_exactly_its_offsets(embedded: EmbeddedBroker, read: Read) -> None:
    """Messages before the start and from the end on are not read."""
    name = topic(embedded)
    produce(embedded, name, values(100))
    rows, gaps = read(embedded, Slice(name, 0, 10, 90))
    assert offsets(rows) == list(range(10, 90))
    assert [row["value"] for row in rows] == values(80, 10)
    assert gaps == []


def test_an_empty_slice_is_skipped(
    embedded: EmbeddedBroker, read: Read, read_slices: ReadSlices
) -> None:
    """A slice whose start is its end asks nothing of the broker."""
    name = topic(embedded)
    produce(embedded, name, values(5), partition=1)
    rows, _ = read(embedded, Slice(name, 0, 0, 0), Slice(name, 1, 0, 5), Slice(name, 2, 7, 7))
    assert offsets(rows, 1) == list(range(5))
    assert (
        list(read_slices({"bootstrap.servers": NOBODY}, [Slice(name, 0, 3, 3)], skip_lost=False))
        == []
    )


@pytest.fixture
def refused(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Give the codes that a read is to meet as errors of partition 0, before it goes on."""
    codes: list[int] = []
    take = PortableIntake.take

    def refused_first(intake: PortableIntake, most: int, seconds: float) -> Taken:
        if codes:
            return Taken(1, 0, 0, {}, [Event(KafkaError(codes.pop()), 0, None)])
        return take(intake, most, seconds)

    monkeypatch.setattr(PortableIntake, "take", refused_first)
    return codes


def test_what_a_groups_coordinator_refuses_stops_no_read(
    embedded: EmbeddedBroker, refused: list[int]
) -> None:
    """Who may read a topic needs no group, though librdkafka asks for one; it names partition 0."""
    name = topic(embedded)
    produce(embedded, name, values(5))
    refused.append(KafkaError.GROUP_AUTHORIZATION_FAILED)
    read = kafka_reader.read_slices(
        config(embedded), [Slice(name, 0, 0, 5)], skip_lost=False, reader="portable"
    )
    assert sum(each.num_rows for each in read if isinstance(each, pa.RecordBatch)) == 5
    assert refused == []


def test_who_may_not_read_a_topic_is_told_so(embedded: EmbeddedBroker, refused: list[int]) -> None:
    """With the place, and what would help."""
    name = topic(embedded)
    refused.append(KafkaError.TOPIC_AUTHORIZATION_FAILED)
    told = f"topic={name}, partition=0: .*Topic authorization failed; allow this user to read it$"
    with pytest.raises(SourceError, match=told):
        list(
            kafka_reader.read_slices(
                config(embedded), [Slice(name, 0, 0, 5)], skip_lost=False, reader="portable"
            )
        )


def test_chunks_hold_no_more_messages_than_asked(
    embedded: EmbeddedBroker, read_slices: ReadSlices
) -> None:
    """The limit of messages holds for every batch, and what fits is put together."""
    name = topic(embedded)
    produce(embedded, name, values(1000))
    found = read_slices(
        config(embedded), [Slice(name, 0, 0, 1000)], skip_lost=False, chunk_messages=300
    )
    sizes = [batch.num_rows for batch in found if isinstance(batch, pa.RecordBatch)]
    assert sum(sizes) == 1000
    assert max(sizes) <= 300


def test_two_slices_of_one_partition_are_refused(
    embedded: EmbeddedBroker, read_slices: ReadSlices
) -> None:
    """A position belongs to one slice only."""
    slices = [Slice("any", 0, 0, 5), Slice("any", 0, 5, 9)]
    with pytest.raises(ValueError, match="one a partition"):
        list(read_slices(config(embedded), slices, skip_lost=False))


def test_a_consumer_is_kept_for_the_next_read(embedded: EmbeddedBroker, read: Read) -> None:
    """Reads of different topics one after the other share a consumer and don't mix."""
    first, second = topic(embedded), topic(embedded)
    produce(embedded, first, values(3000))
    produce(embedded, second, values(50, 9000))
    for _ in range(5):
        assert offsets(read(embedded, Slice(first, 0, 100, 900))[0]) == list(range(100, 900))
        rows, _ = read(embedded, Slice(second, 0, 0, 50))
        assert [row["value"] for row in rows] == values(50, 9000)
    assert len(idle_consumers()) == 1


def test_a_topic_is_read_at_once_the_first_time_too(embedded: EmbeddedBroker, read: Read) -> None:
    """A consumer that does not know it yet asks: librdkafka's own look comes once a second."""
    names = [topic(embedded) for _ in range(10)]
    for name in names:
        produce(embedded, name, values(4))
    read(embedded, Slice(names[0], 0, 0, 4))  # this one waits for the connection, too
    began = time.monotonic()
    for name in names[1:]:
        rows, _ = read(embedded, Slice(name, 0, 0, 4))
        assert offsets(rows) == [0, 1, 2, 3]
    assert time.monotonic() - began < 3  # it was 9


def test_threads_read_at_the_same_time(embedded: EmbeddedBroker, read: Read) -> None:
    """Every thread has a consumer of its own while it reads."""
    name = topic(embedded)
    for partition in range(4):
        produce(embedded, name, values(2000), partition)

    def one(partition: int) -> list[int]:
        return offsets(read(embedded, Slice(name, partition, 0, 2000))[0], partition)

    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(one, range(4))) == [list(range(2000))] * 4


def test_a_read_that_is_given_up_leaves_no_consumer(
    embedded: EmbeddedBroker, read_slices: ReadSlices
) -> None:
    """A consumer whose read didn't end well is closed, not kept."""
    name = topic(embedded)
    produce(embedded, name, values(100))
    found = read_slices(
        config(embedded), [Slice(name, 0, 0, 100)], skip_lost=False, chunk_messages=10
    )
    next(found)
    found.close()
    assert len(idle_consumers()) == 0


def test_headers_keys_and_nulls_arrive_as_they_are(embedded: EmbeddedBroker, read: Read) -> None:
    """Arbitrary bytes, null values, null keys and repeated header names survive."""
    name = topic(embedded)
    headers: list[Any] = [("trace", b"\xff\x00"), ("none", None), ("trace", b"2"), ("empty", b"")]
    client = producer(embedded)
    client.produce(name, None, key=b"\x80gone", partition=0)
    client.produce(name, b"", key=None, partition=0, headers=headers, timestamp=1_700_000_000_123)
    assert client.flush(30) == 0
    rows, _ = read(embedded, Slice(name, 0, 0, 2))
    assert (rows[0]["value"], rows[0]["key"], rows[0]["headers"]) == (None, b"\x80gone", None)
    assert (rows[1]["value"], rows[1]["key"]) == (b"", None)
    assert [tuple(header.values()) for header in rows[1]["headers"]] == headers
    assert rows[1]["timestamp"] == 1_700_000_000_123


def produce_raw_header(broker: AnyBroker, topic: str, header: bytes) -> None:
    """Write a message with a header name of any bytes, as only librdkafka in C takes it."""
    library = librdkafka()
    library.rd_kafka_conf_new.restype = ctypes.c_void_p
    library.rd_kafka_new.restype = ctypes.c_void_p
    library.rd_kafka_headers_new.restype = ctypes.c_void_p
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ssize_t
    settings = pointer(library.rd_kafka_conf_new())
    servers = broker.bootstrap_servers.encode()
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers, None, size(0))
    client = pointer(library.rd_kafka_new(0, settings, None, size(0)))
    headers = pointer(library.rd_kafka_headers_new(size(1)))
    library.rd_kafka_header_add(headers, header, size(len(header)), b"v", size(1))
    # topic 1, partition 3, value 4, flags 7 (2: copy the value), headers 10, end 0
    fields = (1, text(topic.encode()), 3, 0, 4, text(b"x"), size(1), 7, 2, 10, headers, 0)
    assert library.rd_kafka_producev(client, *fields) == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)


def test_a_header_name_that_is_not_text_stops_nothing(embedded: EmbeddedBroker, read: Read) -> None:
    """The message is read, its headers are marked; those around it keep theirs."""
    name = topic(embedded)
    produce(embedded, name, values(1))
    produce_raw_header(embedded, name, b"\xff\xfe")
    produce_raw_header(embedded, name, b"good")
    rows, _ = read(embedded, Slice(name, 0, 0, 3))
    marked = {"key": UNREADABLE, "value": None}
    assert [row["headers"] for row in rows] == [None, [marked], [{"key": "good", "value": b"v"}]]
    assert [row["value"] for row in rows] == [*values(1), b"x", b"x"]


def test_an_interrupt_ends_a_waiting_read_within_a_second(
    embedded: EmbeddedBroker, read: Read
) -> None:
    """A read that waits for messages that don't come stops when asked to."""
    name = topic(embedded)
    asked_at: list[float] = []

    def ask() -> None:
        asked_at.append(time.monotonic())
        current().stop.set()

    timer = threading.Timer(0.7, ask)
    timer.start()
    with pytest.raises(StoppedError, match=re.escape(f"stopped while reading topic={name}")):
        read(embedded, Slice(name, 0, 0, 10))
    assert time.monotonic() - asked_at[0] < 1
    timer.join()


def test_a_source_that_is_away_raises_after_the_stall(
    capfd: pytest.CaptureFixture[str], read_slices: ReadSlices
) -> None:
    """The error says why in one line, and librdkafka writes nothing to the terminal."""
    began = time.monotonic()
    away = {"bootstrap.servers": NOBODY}
    with pytest.raises(
        SourceError, match=r"Connection refused.*check --bootstrap_servers"
    ) as caught:
        list(
            read_slices(away, [Slice("any", 0, 0, 5)], skip_lost=False, stall=timedelta(seconds=1))
        )
    assert time.monotonic() - began < 5
    assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_source_that_answers_is_given_ten_times_the_stall(
    embedded: EmbeddedBroker, read: Read
) -> None:
    """Silence may be a long row of aborted messages; but it isn't waited out without end."""
    name = topic(embedded)
    produce(embedded, name, values(5))
    began = time.monotonic()
    with pytest.raises(
        SourceError, match=re.escape(f"read topic={name}, partition=0, silent for 3s")
    ):
        read(embedded, Slice(name, 0, 0, 10), stall=timedelta(seconds=0.3))
    assert 3 <= time.monotonic() - began < 10


def test_settings_librdkafka_does_not_know_are_an_error(read_slices: ReadSlices) -> None:
    """A misspelt property is named."""
    wrong = {"bootstrap.servers": NOBODY, "no.such.property": "1"}
    with pytest.raises(SourceError, match=re.escape("no.such.property")):
        list(read_slices(wrong, [Slice("any", 0, 0, 5)], skip_lost=False))


@pytest.mark.integration
def test_interleaved_partitions_are_read_exactly(kafka: KafkaBroker, read: Read) -> None:
    """Slices of several partitions give all their messages once, in order, in full chunks."""
    name = topic(kafka, 5)
    client = producer(kafka, compression_type="lz4")
    for number in range(100_000):
        client.produce(name, b'{"number": %d}' % number, partition=number % 5)
        if number % 10_000 == 0:
            client.poll(0)
    assert client.flush(30) == 0
    slices = [Slice(name, each, 100 * each, 20_000 - 1_000 * each) for each in range(5)]
    rows, _ = read(kafka, *slices)
    for each in slices:
        assert offsets(rows, each.partition) == list(range(each.start, each.end))
    assert all(
        row["value"] == b'{"number": %d}' % (5 * row["offset"] + row["partition"]) for row in rows
    )


@pytest.mark.integration
@pytest.mark.parametrize("behind", [0, 5])
def test_a_slice_may_end_in_an_aborted_transaction(
    kafka: KafkaBroker, behind: int, read: Read
) -> None:
    """No message comes for the last offsets, whether or not others follow them."""
    name = topic(kafka, 1)
    produce(kafka, name, values(10))
    client = producer(kafka, transactional_id=f"aborts-{behind}-{name}")
    client.init_transactions(30)
    client.begin_transaction()
    for value in values(20, 10):
        client.produce(name, value, partition=0)
    client.flush(30)
    client.abort_transaction(30)
    wait_for_end(kafka, name, 31)  # the 31st is the marker, written after the call has returned
    produce(kafka, name, values(behind, 31))
    assert Broker(config(kafka)).offsets(name, [0]) == {0: (0, 31 + behind)}
    assert offsets(read(kafka, Slice(name, 0, 0, 31))[0]) == list(range(10))
    assert read(kafka, Slice(name, 0, 12, 31)) == ([], [])


@pytest.mark.integration
def test_an_open_transaction_is_not_read_into(kafka: KafkaBroker, read: Read) -> None:
    """The end stays before an open transaction, and a slice up to it ends."""
    name = topic(kafka, 1)
    produce(kafka, name, values(10))
    client = producer(kafka, transactional_id=f"open-{name}")
    client.init_transactions(30)
    client.begin_transaction()
    client.produce(name, b"open", partition=0)
    client.flush(30)
    broker = Broker(config(kafka))
    assert broker.offsets(name, [0]) == {0: (0, 10)}
    assert offsets(read(kafka, Slice(name, 0, 0, 10))[0]) == list(range(10))
    client.commit_transaction(30)
    assert offsets(read(kafka, Slice(name, 0, 10, 12))[0]) == [10]


@pytest.mark.integration
def test_a_slice_may_end_in_a_hole_of_compaction(kafka: KafkaBroker, read: Read) -> None:
    """Offsets that compaction removed are holes, also as a slice's last ones."""
    name = topic(
        kafka, 1, cleanup_policy="compact", segment_ms=100, min_cleanable_dirty_ratio=0.0001
    )
    client = producer(kafka)
    for number in range(100):
        client.produce(name, values(1, number)[0], key=b"%d" % (number % 10), partition=0)
    assert client.flush(30) == 0

    def compacted() -> bool:
        time.sleep(0.3)  # an append rolls the segment; only closed ones are compacted
        client.produce(name, b"roll", key=b"roll", partition=0)
        client.flush(30)
        return len(read(kafka, Slice(name, 0, 0, 100))[0]) == 10

    deadline = time.monotonic() + 60
    while not compacted():
        assert time.monotonic() < deadline
    assert offsets(read(kafka, Slice(name, 0, 0, 100))[0]) == list(range(90, 100))
    assert read(kafka, Slice(name, 0, 20, 80)) == ([], [])


@pytest.mark.integration
def test_deleted_messages_are_an_error_that_names_the_cure(kafka: KafkaBroker, read: Read) -> None:
    """Topic, partition and range are named; nothing is jumped over in silence."""
    name = topic(kafka, 1)
    produce(kafka, name, values(100))
    delete_before(kafka, name, 40)
    told = f"topic={name}, partition=0, offsets 10 to 39; --on_data_loss=skip"
    with pytest.raises(DataLossError, match=re.escape(told)):
        read(kafka, Slice(name, 0, 10, 90))


@pytest.mark.integration
def test_a_skipped_loss_is_a_gap_clipped_to_the_slice(kafka: KafkaBroker, read: Read) -> None:
    """What is left is read, what is gone is told, and other partitions don't mind."""
    name = topic(kafka, 2)
    produce(kafka, name, values(100))
    produce(kafka, name, values(100), partition=1)
    delete_before(kafka, name, 40)
    slices = (Slice(name, 0, 10, 90), Slice(name, 1, 0, 100))
    rows, gaps = read(kafka, *slices, skip_lost=True)
    assert gaps == [Gap(0, 10, 40)]
    assert offsets(rows) == list(range(40, 90))
    assert offsets(rows, 1) == list(range(100))
    assert read(kafka, Slice(name, 0, 5, 30), skip_lost=True) == ([], [Gap(0, 5, 30)])


@pytest.mark.integration
def test_what_was_lost_when_the_plan_was_made_is_not_lost_again(
    kafka: KafkaBroker, read: Read
) -> None:
    """The plan has counted it; the slice is read from its first offset that was there."""
    name = topic(kafka, 1)
    produce(kafka, name, values(100))
    delete_before(kafka, name, 40)
    rows, gaps = read(kafka, Slice(name, 0, 10, 90, lost=30))
    assert (offsets(rows), gaps) == (list(range(40, 90)), [])
    assert read(kafka, Slice(name, 0, 10, 30, lost=20)) == ([], [])


@pytest.mark.integration
def test_offsets_beyond_the_end_of_a_topic_are_lost(kafka: KafkaBroker, read: Read) -> None:
    """A topic that is shorter than the plan knew (created again, say) has lost the rest."""
    name = topic(kafka, 1)
    produce(kafka, name, values(10))
    with pytest.raises(DataLossError, match=re.escape("offsets 50 to 59")):
        read(kafka, Slice(name, 0, 50, 60))


@pytest.mark.integration
def test_log_append_time_is_the_timestamp(kafka: KafkaBroker, read: Read) -> None:
    """Where the broker stamps records, its stamp is what is read."""
    name = topic(kafka, 1, message_timestamp_type="LogAppendTime")
    before = int(time.time() * 1000)
    client = producer(kafka)
    client.produce(name, b"x", partition=0, timestamp=1_000)
    assert client.flush(30) == 0
    rows, _ = read(kafka, Slice(name, 0, 0, 1))
    assert before - 1000 <= rows[0]["timestamp"] <= time.time() * 1000 + 1000


@pytest.mark.integration
def test_messages_of_ten_megabytes_come_one_at_a_time(
    kafka: KafkaBroker, read_slices: ReadSlices
) -> None:
    """A chunk of 16 MiB holds one such message, whole."""
    name = topic(kafka, 1, max_message_bytes=20 << 20)
    noise = random.Random(1).randbytes(10 << 20)
    client = producer(kafka, message_max_bytes=20 << 20)
    for _ in range(4):
        client.produce(name, noise, partition=0)
        assert client.flush(60) == 0
    sizes = []
    for batch in read_slices(config(kafka), [Slice(name, 0, 0, 4)], skip_lost=False):
        assert isinstance(batch, pa.RecordBatch)
        assert set(batch.column("value").to_pylist()) == {noise}
        sizes.append(batch.num_rows)
    assert sizes == [1, 1, 1, 1]


@pytest.mark.integration
def test_a_topic_that_is_gone_is_an_error(kafka: KafkaBroker, read: Read) -> None:
    """A partition the broker doesn't know is named, not waited for without end."""
    name = topic(kafka, 1)
    produce(kafka, name, values(10))
    with pytest.raises(SourceError, match=f"topic={name}"):
        read(kafka, Slice(name, 7, 0, 10), stall=timedelta(seconds=3))


@pytest.mark.integration
def test_a_refused_login_is_told_at_once_and_without_the_password(
    kafka: KafkaBroker, read_slices: ReadSlices
) -> None:
    """A wrong password isn't waited out, and isn't printed."""
    login = kafka.login("battery-staple")
    began = time.monotonic()
    with pytest.raises(
        SourceError, match=r"refuses the login.*SASL authentication error"
    ) as caught:
        list(read_slices(login, [Slice("any", 0, 0, 5)], skip_lost=False))
    assert time.monotonic() - began < 10
    assert "battery-staple" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.integration
def test_a_broker_killed_in_the_middle_of_a_read_costs_nothing(
    tmp_path: Path, kafka: KafkaBroker, read_slices: ReadSlices
) -> None:
    """After kill -9 and a restart the read goes on: every message once, in order."""
    assert kafka.bootstrap_servers  # the fixture skips where there is no real broker
    broker = KafkaBroker(tmp_path)
    try:
        broker.start()
        name = topic(broker, 2)
        padding = b"x" * 1000
        for partition in range(2):
            produce(broker, name, [value + padding for value in values(90_000)], partition)
        slices = [Slice(name, each, 0, 90_000) for each in range(2)]
        few = {**config(broker), "queued.max.messages.kbytes": 1024}
        found = read_slices(few, slices, skip_lost=False, chunk_messages=1000)
        rows: list[tuple[int, int]] = []
        restarting: threading.Thread | None = None
        for batch in found:
            assert isinstance(batch, pa.RecordBatch)
            rows += zip(*(batch.column(each).to_pylist() for each in (0, 1)), strict=True)
            if restarting is None:
                broker.kill()
                restarting = threading.Thread(target=broker.start)
                restarting.start()
        assert restarting is not None
        restarting.join()
        for partition in range(2):
            read_offsets = [offset for each, offset in rows if each == partition]
            assert read_offsets == list(range(90_000))
    finally:
        broker.kill()
