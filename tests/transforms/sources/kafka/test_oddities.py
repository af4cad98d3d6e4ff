"""What only a real broker has in its topics, from the topic to the files and the audit."""

from __future__ import annotations

import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from confluent_kafka import Producer

from batch_collection.errors import DataLossError, LogError
from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.running import local
from tests.builders import at
from tests.collecting import (
    Collecting,
    Produced,
    Sending,
    Stream,
    check,
    entries_of,
    files_by_window,
    json_of,
    payloads_of,
    rows_of,
    sending,
)
from transforms.sources.contract import Slice
from transforms.sources.kafka import reader
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import ClientLog
from transforms.sources.kafka.reader import read_slices as read_from_kafka

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from batch_collection.log.entry import PartitionRead
    from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.integration

INTERVAL = "--interval=10s"


def numbered(*numbers: int) -> list[Sending]:
    """Return messages of one window, to partition 0."""
    return [sending(at("10:30:05"), id=number) for number in numbers]


def wait_for_end(stream: Stream, end: int) -> None:
    """Wait until partition 0 can be read up to ``end``: what settles a transaction comes late."""
    broker = Broker({"bootstrap.servers": stream.broker.bootstrap_servers})
    deadline = time.monotonic() + 30
    while broker.offsets(stream.name, [0])[0][1] != end:
        assert time.monotonic() < deadline


class Transaction:
    """One of a producer of its own, open until it is committed or aborted."""

    def __init__(self, stream: Stream) -> None:
        """Begin it."""
        settings = {
            "bootstrap.servers": stream.broker.bootstrap_servers,
            "transactional.id": uuid.uuid4().hex,
        }
        self._stream, self._sent = stream, list[Produced]()
        self._producer = Producer(settings, logger=ClientLog())
        self._producer.init_transactions(30)
        self._producer.begin_transaction()

    def send(self, *messages: Sending) -> None:
        """Write messages that nobody may read yet."""
        for message in messages:
            assert message.at is not None
            stamp = round(message.at.timestamp() * 1000)

            def note(_: object, sent: Any, message: Sending = message) -> None:
                place = sent.partition(), sent.offset()
                self._sent.append(Produced(*place, message.value, message.at))

            self._producer.produce(
                self._stream.name, message.value, partition=0, timestamp=stamp, on_delivery=note
            )
        assert self._producer.flush(30) == 0

    def commit(self) -> None:
        """Let them be read."""
        self._producer.commit_transaction(30)
        self._stream.produced += self._sent

    def abort(self) -> None:
        """Let them never be read."""
        self._producer.abort_transaction(30)


def read_of(collecting: Collecting) -> PartitionRead:
    """Return what the newest entry says of partition 0."""
    return entries_of(collecting.path)[-1].reads[0]


def test_aborted_messages_are_holes(kafka: KafkaBroker, tmp_path: Path, reader_flag: str) -> None:
    """Between committed ones, and as the last ones of a slice; markers are holes, too."""
    stream = Stream(kafka, partitions=1)
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag)
    stream.send(*numbered(1, 2))
    for number, is_kept in enumerate((False, True, False)):
        transaction = Transaction(stream)
        transaction.send(*numbered(*range(10 * number, 10 * number + 5)))
        transaction.commit() if is_kept else transaction.abort()
    wait_for_end(stream, 20)  # 2, and three times 5 and a marker
    collecting.once(at("10:30:12"))
    assert (read_of(collecting).end, read_of(collecting).messages) == (20, 7)
    check(collecting.path, stream.produced)


def test_an_open_transaction_holds_back_what_lies_behind_it(
    kafka: KafkaBroker, tmp_path: Path, reader_flag: str
) -> None:
    """A cycle ends before it; when it is committed, the next one goes on there, with late panes."""
    stream = Stream(kafka, partitions=1)
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag)
    stream.send(*numbered(1, 2, 3))
    transaction = Transaction(stream)
    transaction.send(*numbered(4, 5))
    before = list(stream.produced)
    stream.send(*numbered(6, 7))
    collecting.once(at("10:30:12"))
    assert read_of(collecting).end == 3
    check(collecting.path, before)
    transaction.commit()
    wait_for_end(stream, 8)
    collecting.once(at("10:30:22"))
    assert (read_of(collecting).end, read_of(collecting).messages) == (8, 4)
    assert [pane.timing for pane in entries_of(collecting.path)[-1].panes] == ["late"]
    check(collecting.path, stream.produced)


def test_a_compacted_topic_is_what_compaction_left(
    kafka: KafkaBroker, tmp_path: Path, reader_flag: str
) -> None:
    """The last message of each key; holes are no loss, and the audit agrees."""
    settings = {"cleanup_policy": "compact", "segment_ms": 100, "min_cleanable_dirty_ratio": 0.0001}
    stream = Stream(kafka, 1, settings)
    stamp = at("10:30:05")
    keyed = (Sending(json_of({"id": n}), stamp, key=b"%d" % (n % 10)) for n in range(100))
    stream.send(*keyed)
    config = {"bootstrap.servers": kafka.bootstrap_servers}
    deadline = time.monotonic() + 60
    left = 100
    while left > 10:
        assert time.monotonic() < deadline
        stamp += timedelta(seconds=0.2)  # it rolls the segment; closed ones are compacted
        stream.send(Sending(json_of({"id": -1}), stamp, key=b"another"))
        time.sleep(0.1)
        found = read_from_kafka(config, [Slice(stream.name, 0, 0, 100)], skip_lost=False)
        left = sum(each.num_rows for each in found if isinstance(each, pa.RecordBatch))
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag)
    collecting.once(at("10:45:12"))
    rows = payloads_of(rows_of(collecting.path))
    assert [place[1] for place in sorted(rows) if place[1] < 100] == list(range(90, 100))
    assert all(rows[0, offset, None] == {"id": offset} for offset in range(90, 100))
    assert read_of(collecting).messages == len(rows) < read_of(collecting).end
    assert audit(LocalStorage(str(collecting.path))).findings == ()


@contextmanager
def deleted_before_the_read(stream: Stream, offset: int) -> Iterator[None]:
    """Delete messages when the next cycle is planned, and before it is read."""
    run_steps = local.run_steps

    def delete_and_run(*args: Any) -> None:
        stream.delete_before(0, offset)
        run_steps(*args)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(local, "run_steps", delete_and_run)
        yield


@contextmanager
def deleted_in_the_read(stream: Stream, offset: int) -> Iterator[None]:
    """Delete messages when the first chunk of the next cycle has come."""

    def read_and_delete(*args: Any, **options: Any) -> Iterator[object]:
        found = read_from_kafka(*args, **options, chunk_messages=10)
        yield next(found)
        stream.delete_before(0, offset)
        yield from found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(reader, "read_slices", read_and_delete)
        yield


LITTLE_AHEAD = ("-Xqueued.max.messages.kbytes=1", "-Xfetch.message.max.bytes=1000")


@pytest.mark.parametrize("deleted", [deleted_before_the_read, deleted_in_the_read])
def test_messages_deleted_under_the_reader_are_an_error_or_a_recorded_gap(
    kafka: KafkaBroker, tmp_path: Path, deleted: Any, reader_flag: str
) -> None:
    """Which messages are lost is told; the rest is collected, once."""
    stream = Stream(kafka, partitions=1)
    for number in range(400):
        stream.send(sending(at("10:30:05"), id=number, pad="x" * 1000))
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag, *LITTLE_AHEAD)
    told = rf"topic={stream.name}, partition=0, offsets \d+ to 199; --on_data_loss=skip"
    with deleted(stream, 200), pytest.raises(DataLossError, match=told):
        collecting.once(at("10:30:12"))
    assert [entry.cycle for entry in entries_of(collecting.path)] == [0]

    with deleted(stream, 300):  # what the first run lost is seen when this one is planned
        collecting.once(at("10:30:12"), "--on_data_loss=skip")

    read = read_of(collecting)
    offsets = {offset for _, offset, _ in payloads_of(rows_of(collecting.path))}
    assert (read.start, read.end, read.messages + read.lost) == (0, 400, 400)
    assert set(range(300, 400)) <= offsets <= set(range(200, 400))
    assert len(offsets) == read.messages
    assert (deleted is deleted_before_the_read) == (offsets == set(range(300, 400)))
    assert audit(LocalStorage(str(collecting.path))).findings == ()


def test_the_brokers_own_timestamps_are_row_times(
    kafka: KafkaBroker, tmp_path: Path, reader_flag: str
) -> None:
    """With LogAppendTime a row belongs to the window in which it arrived, whatever it says."""
    stream = Stream(kafka, 1, {"message_timestamp_type": "LogAppendTime"})
    before = utc_now()
    stream.send(*numbered(1, 2, 3))
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag)
    collecting.once(utc_now() + timedelta(seconds=12), "--flush")
    check(collecting.path, stream.produced)
    (start,) = files_by_window(collecting.path)
    assert before - timedelta(seconds=11) <= start <= utc_now()
    stamps: list[datetime] = rows_of(collecting.path)["_timestamp"].to_pylist()
    assert all(before - timedelta(seconds=1) <= stamp <= utc_now() for stamp in stamps)


def test_keys_headers_and_nulls_come_to_their_columns(
    kafka: KafkaBroker, tmp_path: Path, reader_flag: str
) -> None:
    """With ``--metadata=full``; a null value is a tombstone, counted and without a row."""
    stream = Stream(kafka, partitions=1)
    stamp = at("10:30:05")
    stream.send(
        Sending(json_of({"id": 0}), stamp),
        Sending(json_of({"id": 1}), stamp, key=b"\x80", headers={"a": b"\xff", "none": None}),
        Sending(None, stamp, key=b"gone", headers={"a": "b"}),
        Sending(json_of({"id": 3}), stamp, key=b""),
        Sending(None, stamp),
    )
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag, "--metadata=full")
    collecting.once(at("10:30:17"))
    rows = rows_of(collecting.path).select(["id", "_offset", "_key", "_headers"]).to_pylist()
    assert [tuple(row.values()) for row in rows] == [
        (0, 0, None, None),
        (1, 1, b"\x80", [{"key": "a", "value": b"\xff"}, {"key": "none", "value": None}]),
        (3, 3, b"", None),
    ]
    assert (read_of(collecting).messages, read_of(collecting).tombstones) == (5, 2)
    assert audit(LocalStorage(str(collecting.path))).findings == ()


def test_a_topic_created_again_under_a_running_collector_stops_it(
    kafka: KafkaBroker, tmp_path: Path, reader_flag: str
) -> None:
    """Before it reads of the new one, although that has the offsets that it would read next."""
    stream = Stream(kafka, partitions=1)
    stream.send(*numbered(*range(10)))
    collecting = Collecting.of(stream, tmp_path, INTERVAL, reader_flag)
    admin = kafka.admin()

    def arrive(now: datetime) -> None:
        if now == at("10:30:14"):
            admin.delete_topics([stream.name])[stream.name].result(30)
            again = Stream(kafka, partitions=1, name=stream.name)
            again.send(*numbered(*range(100, 120)))

    with pytest.raises(LogError, match=r"topic_id=.* \(a topic that was created again\)"):
        collecting.run(at("10:30:11"), at("10:30:33"), arrive)
    check(collecting.path, stream.produced)
