"""Expiring beside a collector, and under one that stands still."""

from __future__ import annotations

import random
import signal
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.errors import CollectionError, OtherCollectorError
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.entries import newest_cycle
from batch_collection.log.expiry import newest_expiry
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.running.outcome import OTHER_COLLECTOR
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Producing,
    Stream,
    run_command,
    sending,
    strays_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tests.services.kafka import KafkaBroker
    from tests.services.prism import PrismServer
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=5")


def expire_all(path: Path) -> None:
    """Expire all that can be."""
    expire(LocalStorage(str(path)), at("23:59:00"), utc_now(), exact=False)


def check_expired(path: Path, stream: Stream) -> None:
    """See that all was collected once: the log's sums, and the audit of what is left."""
    storage = LocalStorage(str(path))
    found = status(storage)
    assert audit(storage).findings == ()
    assert found.expired is not None
    ever = found.totals.rows + found.expired.rows
    assert ever + found.totals.waiting_rows == len(stream.produced)
    left = batch_collection.open(path).table(["_offset"]).num_rows
    assert left == found.totals.rows
    assert strays_of(path) == []


@pytest.mark.slow
def test_a_collector_goes_on_while_all_that_can_be_is_expired(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Early, on-time and late panes; a new one resumes exactly, and so does one after that."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, *FLAGS)
    rng = random.Random(5)

    def arrive(now: datetime) -> None:
        late = rng.choice([0, 0, 0, 25]) * SECOND
        stream.send(*(sending(now - late, partition, id=str(now)) for partition in range(4)))
        if now.second % 3 == 0:
            expire_all(collecting.path)

    collecting.run(at("10:30:00"), at("10:32:00"), arrive)
    check_expired(collecting.path, stream)
    stub = newest_expiry(LocalStorage(str(collecting.path)))
    assert stub is not None
    assert stub.first > 5
    stream.send(*(sending(at("10:32:01"), partition, last=True) for partition in range(4)))
    collecting.once(at("10:33:00"))
    expire_all(collecting.path)
    collecting.once(at("10:34:00"), "--flush")
    check_expired(collecting.path, stream)


def test_a_collector_that_stood_still_while_its_cycle_was_expired_is_told(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Its next number is free again; nothing comes of it."""
    stream = Stream(embedded)
    zombie, other = (Collecting.of(stream, tmp_path, *FLAGS) for _ in range(2))
    path = zombie.path
    moments = iter(range(100))

    def stand_still(now: datetime) -> None:
        stream.send(sending(now))
        if next(moments) == 12:
            for minute in range(31, 36):
                stream.send(sending(at(f"10:{minute}:30")))
                other.once(at(f"10:{minute + 1}:00"))
            expire_all(path)

    with pytest.raises(OtherCollectorError, match=r"another collector .* committed cycle"):
        zombie.run(at("10:30:00"), at("10:31:00"), stand_still)
    newest = newest_cycle(LocalStorage(str(path)))
    assert newest == other.recorder.entries[-1].cycle
    other.once(at("10:40:00"))
    check_expired(path, stream)


@pytest.fixture
def expiring(tmp_path: Path) -> Iterator[threading.Event]:
    """Expire all that can be of every collection, over and over; the event ends it."""
    stop, errors = threading.Event(), list[CollectionError]()

    def run() -> None:
        while not stop.wait(0.2):
            for path in tmp_path.iterdir():
                try:
                    expire(LocalStorage(str(path)), utc_now(), utc_now(), exact=False)
                except CollectionError as error:  # before its first entry it is no collection
                    errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield stop
    stop.set()
    thread.join()
    assert all("no collection" in str(error) for error in errors), errors


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.parametrize("seconds", [0.0, 0.3, 0.6, 0.9])
def test_a_frozen_collector_whose_cycles_are_expired_changes_nothing(
    kafka: KafkaBroker, tmp_path: Path, seconds: float
) -> None:
    """Stopped at some moment of its cycle, woken after others collected and expired it."""
    stream = Stream(kafka)
    flags = ("--interval=1s", "--grace=0s", "--batch_size=200")
    path = tmp_path / stream.name
    with (
        Producing(stream, a_second=1000),
        CollectorProcess([stream], tmp_path, *flags) as zombie,
    ):
        zombie.wait_for("  cycle 2 ")
        time.sleep(seconds)  # any moment of a cycle
        zombie.send(signal.SIGSTOP)
        for _ in range(2):
            other = run_command([stream], tmp_path, *flags, "--once")
            assert (other.returncode, "cycle" in other.stderr) == (0, True), other.stderr
        expire(LocalStorage(str(path)), utc_now(), utc_now(), exact=False)
        newest = newest_cycle(LocalStorage(str(path)))
        zombie.send(signal.SIGCONT)
        assert zombie.end() in {1, OTHER_COLLECTOR}, zombie.lines
    assert "error: " in zombie.lines[-1]
    assert "Traceback" not in "".join(zombie.lines)
    assert newest_cycle(LocalStorage(str(path))) == newest

    assert run_command([stream], tmp_path, *flags, "--once", "--flush").returncode == 0
    check_expired(path, stream)


@pytest.mark.slow
@pytest.mark.integration
def test_a_job_on_an_engine_goes_on_while_all_that_can_be_is_expired(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path, expiring: threading.Event
) -> None:
    """On Prism, beside a thread that expires five times a second."""
    stream = Stream(kafka)
    path = tmp_path / stream.name
    flags = ("--interval=2s", "--grace=500ms", "--batch_size=700", "--shards=2")
    engine = ("--runner=PrismRunner", f"--job_endpoint={prism.endpoint}", *flags)
    with (
        Producing(stream, a_second=1000),
        CollectorProcess([stream], tmp_path, *engine) as collector,
    ):
        deadline = time.monotonic() + 60
        while not path.exists() or (newest_cycle(LocalStorage(str(path))) or 0) < 12:
            assert time.monotonic() < deadline, collector.lines[-20:]
            time.sleep(0.1)
        collector.send(signal.SIGINT)
        assert collector.end() == 0, collector.lines
    expiring.set()
    assert run_command([stream], tmp_path, *engine, "--once", "--flush").returncode == 0
    check_expired(path, stream)
