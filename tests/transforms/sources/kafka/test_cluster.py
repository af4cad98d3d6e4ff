"""Two brokers: a partition's leader moves, or goes away with nobody to take its place."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from confluent_kafka import ElectionType, TopicPartition

from tests.collecting import CollectorProcess, Producing, Stream, check, run_command, sending
from tests.services.kafka import KafkaBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = [pytest.mark.integration, pytest.mark.slow]

FLAGS = ("--interval=1s", "--grace=0s")


class Cluster(NamedTuple):
    """Node 1, which is the controller, too, and node 2, which may be killed."""

    one: KafkaBroker
    two: KafkaBroker


@pytest.fixture(scope="module")
def cluster(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Start a cluster of two brokers for these tests."""
    assert kafka.bootstrap_servers  # a real broker can be had; these are killed
    one = KafkaBroker(tmp_path_factory.mktemp("one"))
    two = KafkaBroker(tmp_path_factory.mktemp("two"), controller=one)
    try:
        one.start()
        two.start()
        yield Cluster(one, two)
    finally:
        one.kill()
        two.kill()


def wait_until(is_so: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until a question to the cluster is answered with yes."""
    deadline = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def leaders(stream: Stream) -> list[int]:
    """Return who leads each partition; -1 is nobody."""
    assert isinstance(stream.broker, KafkaBroker)
    topic = stream.broker.admin().list_topics(timeout=10).topics[stream.name]
    return [topic.partitions[number].leader for number in range(stream.partitions)]


def elect_preferred(stream: Stream) -> bool:
    """Let the first replica of each partition lead; return whether they all do."""
    assert isinstance(stream.broker, KafkaBroker)
    places = [TopicPartition(stream.name, number) for number in range(stream.partitions)]
    admin = stream.broker.admin()
    admin.elect_leaders(ElectionType.PREFERRED, places).result(30)
    return leaders(stream) == [1, 2]


def stop(collector: CollectorProcess) -> None:
    """Stop a collector as a service manager does."""
    collector.send(signal.SIGTERM)
    assert collector.end(15) == 0, collector.lines
    assert "Traceback" not in "".join(collector.lines)


def test_leaders_that_move_are_followed_within_seconds(cluster: Cluster, tmp_path: Path) -> None:
    """A broker is killed and its replicas take over; back, it is made the leader again."""
    stream = Stream(cluster.one, 2, {"replicas": [[1, 2], [2, 1]]})
    with (
        Producing(stream, a_second=500),
        CollectorProcess([stream], tmp_path, *FLAGS) as collector,
    ):
        collector.wait_for("  cycle 2 ")
        cluster.two.kill()
        wait_until(lambda: leaders(stream) == [1, 1])
        for _ in range(3):
            collector.wait_for("  cycle ", seconds=20)
        cluster.two.start()
        wait_until(lambda: elect_preferred(stream))
        for _ in range(3):
            collector.wait_for("  cycle ", seconds=20)
        stop(collector)
    end = run_command([stream], tmp_path, *FLAGS, "--once", "--flush")
    assert end.returncode == 0, end.stderr
    check(tmp_path / stream.name, stream.produced)


def test_a_partition_without_leader_is_named_and_holds_back_its_topic_alone(
    cluster: Cluster, tmp_path: Path
) -> None:
    """No window is closed without its messages; another topic goes on; both are exact after it."""
    orphan = Stream(cluster.one, 2, {"replicas": [[1], [2]]})
    other = Stream(cluster.one, 1, {"replicas": [[1]]})
    streams = (orphan, other)
    for stream in streams:
        stream.send(*(sending(None, n % stream.partitions, id=n) for n in range(100)))
    with CollectorProcess(streams, tmp_path, *FLAGS) as collector:
        collector.wait_for(f"{orphan.name}  cycle 1 ")
        cluster.two.kill()
        told = collector.wait_for("has no leader", seconds=30)
        assert f"topic={orphan.name} has no leader for partition=1: " in told
        said = len(collector.lines)
        orphan.send(*(sending(None, 0, id=n) for n in range(100, 200)))
        other.send(*(sending(None, 0, id=n) for n in range(100, 200)))
        collector.wait_for(f"{other.name}  cycle ", seconds=20)
        collector.wait_for(f"{other.name}  cycle ", seconds=20)
        assert not any(orphan.name in line for line in collector.lines[said:])
        cluster.two.start()
        collector.wait_for(f"the source is back: topic={orphan.name}", seconds=45)
        stop(collector)
    assert sum("trying again" in line for line in collector.lines) == 1
    end = run_command(streams, tmp_path, *FLAGS, "--once", "--flush")
    assert end.returncode == 0, end.stderr
    for stream in streams:
        check(tmp_path / stream.name, stream.produced)
