"""A network that fails in every way between the collector and a real broker that may die, too."""

from __future__ import annotations

import signal
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pyarrow as pa
import pytest

from batch_collection.errors import SourceError
from tests.collecting import CollectorProcess, Stream, check, run_command, sending
from tests.services.kafka import KafkaBroker
from tests.services.tcp_proxy import TcpProxy
from transforms.sources.contract import Slice
from transforms.sources.kafka.reader import read_slices

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transforms.sources.kafka.reader_name import ReaderName

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MB = 1 << 20
FLAGS = ("--interval=1s", "--grace=0s")


class Far(NamedTuple):
    """A broker of its own for these tests, and the network on the way to it."""

    broker: KafkaBroker
    network: TcpProxy

    def collector(self, stream: Stream, output: Path) -> CollectorProcess:
        """Start a collector beyond the network."""
        return CollectorProcess([stream], output, *self._flags)

    def collect_the_rest(self, stream: Stream, output: Path) -> None:
        """Collect what there is, and see that all is there once."""
        end = run_command([stream], output, *self._flags, "--once", "--flush")
        assert end.returncode == 0, end.stderr
        check(output / stream.name, stream.produced)

    @property
    def _flags(self) -> tuple[str, ...]:
        return f"--bootstrap_servers={self.network.address}", *FLAGS


@pytest.fixture(scope="module")
def beyond(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    """Start a broker beyond a network that can fail."""
    assert kafka.bootstrap_servers  # a real broker can be had; this one is killed
    with TcpProxy() as network:
        broker = KafkaBroker(tmp_path_factory.mktemp("beyond"), proxy=network)
        broker.start()
        yield Far(broker, network)
        broker.kill()


@pytest.fixture
def far(beyond: Far) -> Iterator[Far]:
    """Leave the next test a network that is well."""
    yield beyond
    beyond.network.heal()


@pytest.fixture(scope="module")
def large(beyond: Far) -> Stream:
    """Return a topic of 8 MB, seconds long at the rates of these tests; nobody adds to it."""
    return filled(beyond, 4000, pad="x" * 2000)


def filled(far: Far, messages: int, **fields: object) -> Stream:
    """Return a topic with some messages."""
    stream = Stream(far.broker)
    add(stream, messages, **fields)
    return stream


def add(stream: Stream, messages: int, **fields: object) -> None:
    """Send some more messages."""
    first = len(stream.produced)
    numbers = range(first, first + messages)
    stream.send(*(sending(None, number % 4, id=number, **fields) for number in numbers))


def cpu_seconds(collector: CollectorProcess) -> float:
    """Return how much a collector has worked."""
    times = psutil.Process(collector.pid).cpu_times()
    return float(times.user + times.system)


def resident_mb(collector: CollectorProcess) -> float:
    """Return how much memory a collector has."""
    return float(psutil.Process(collector.pid).memory_info().rss / MB)


def check_at_rest(collector: CollectorProcess) -> None:
    """See that a collector does not spin: between two tries it would, if it did."""
    began, worked = time.monotonic(), cpu_seconds(collector)
    time.sleep(2)
    assert cpu_seconds(collector) - worked < 0.3 * (time.monotonic() - began)


def stop(collector: CollectorProcess, seconds: float = 12) -> None:
    """Stop a collector as a service manager does."""
    collector.send(signal.SIGTERM)
    assert collector.end(seconds) == 0, collector.lines
    assert "Traceback" not in "".join(collector.lines)


def count(collector: CollectorProcess, text: str) -> int:
    """Count the lines with a text."""
    return sum(text in line for line in collector.lines)


def test_a_broker_killed_in_the_middle_of_a_cycle_costs_nothing(
    far: Far, large: Stream, tmp_path: Path
) -> None:
    """Killed with SIGKILL while messages come, and started again: the cycle goes on."""
    far.network.throttle(3 * MB)
    with far.collector(large, tmp_path) as collector:
        far.network.wait_until_passed(2 * MB)
        assert count(collector, "  cycle ") == 0
        far.broker.kill()
        far.network.heal()
        far.broker.start()
        collector.wait_for("  cycle 1   4,000 messages")
        stop(collector)
    assert count(collector, "trying again") == 0
    far.collect_the_rest(large, tmp_path)


def test_connections_closed_in_the_middle_of_a_cycle_cost_nothing(
    far: Far, large: Stream, tmp_path: Path
) -> None:
    """Three times, all of them: the user isn't even told."""
    far.network.throttle(3 * MB)
    with far.collector(large, tmp_path) as collector:
        for _ in range(3):
            far.network.wait_until_passed(MB)
            far.network.close_all()
        assert count(collector, "  cycle ") == 0
        far.network.heal()
        collector.wait_for("  cycle 1   4,000 messages")
        stop(collector)
    assert count(collector, "trying again") == 0
    far.collect_the_rest(large, tmp_path)


def test_answers_that_come_late_are_waited_for(far: Far, tmp_path: Path) -> None:
    """More than half a second from a question to its answer: slow, and no trouble."""
    stream = filled(far, 1000)
    far.network.delay(0.3)
    with far.collector(stream, tmp_path) as collector:
        collector.wait_for("  cycle 1   1,000 messages")
        stop(collector)
    assert count(collector, "trying again") == 0
    far.network.heal()
    far.collect_the_rest(stream, tmp_path)


@pytest.mark.parametrize("fault", ["cut", "dead"])
def test_a_source_that_is_away_is_waited_for_at_rest(far: Far, tmp_path: Path, fault: str) -> None:
    """Said once, soon, without a spin and without memory; back by itself; and it can be stopped."""
    stream = filled(far, 1000)
    with far.collector(stream, tmp_path) as collector:
        collector.wait_for("  cycle 2 ")
        had = resident_mb(collector)
        if fault == "cut":
            far.network.drop()
        else:
            far.broker.kill()
        collector.wait_for("trying again until it is back", seconds=30)
        check_at_rest(collector)
        assert resident_mb(collector) - had < 32
        if fault == "cut":
            far.network.heal()
        else:
            far.broker.start()
        add(stream, 1000)
        collector.wait_for("the source is back", seconds=30)
        assert count(collector, "trying again") == count(collector, "the source is back") == 1
        far.network.drop()
        far.network.wait_until_swallowed()
        stop(collector)
    far.network.heal()
    far.collect_the_rest(stream, tmp_path)


def read_slowly(far: Far, stream: Stream, stall: timedelta, reader: ReaderName) -> list[int]:
    """Read a topic's first partition; return the offsets."""
    config = {"bootstrap.servers": far.network.address}
    slices = [Slice(stream.name, 0, 0, 1000)]
    offsets: list[int] = []
    for batch in read_slices(config, slices, skip_lost=False, stall=stall, reader=reader):
        assert isinstance(batch, pa.RecordBatch)
        offsets += batch.column("offset").to_pylist()
    return offsets


def test_a_read_that_is_cut_is_given_up_and_done_again(
    far: Far, large: Stream, reader: ReaderName
) -> None:
    """After the stall, not after the minutes that a half-open connection takes to be noticed."""

    def cut_in_its_middle() -> None:
        far.network.wait_until_passed(MB // 2)
        far.network.drop()

    far.network.throttle(MB)
    cut = threading.Thread(target=cut_in_its_middle)
    cut.start()
    began = time.monotonic()
    with pytest.raises(SourceError, match="partition=0, silent for 2s: no answer"):
        read_slowly(far, large, timedelta(seconds=2), reader)
    assert time.monotonic() - began < 15
    cut.join()
    far.network.heal()
    assert read_slowly(far, large, timedelta(seconds=2), reader) == list(range(1000))


@pytest.mark.parametrize(
    "reader", ["columnar", pytest.param("portable", marks=pytest.mark.faults)], indirect=True
)
def test_a_slow_answer_is_no_silence(far: Far, large: Stream, reader: ReaderName) -> None:
    """A fetch that takes several times the stall brings its messages, however often it is late."""
    far.network.throttle(80 << 10)
    done = threading.Timer(12, far.network.heal)
    done.start()
    assert read_slowly(far, large, timedelta(seconds=5), reader) == list(range(1000))
    done.join()
