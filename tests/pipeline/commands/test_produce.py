"""``produce``, against librdkafka's mock cluster; creating topics needs the real Kafka."""

from __future__ import annotations

import argparse
import json
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from batch_collection.errors import CollectionError, SourceError
from pipeline.commands import produce as produce_command
from tests.services.kafka import KafkaBroker
from transforms.sources.kafka import producer
from transforms.sources.pubsub.settings import SubscriptionSettings
from transforms.sources.pubsub.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.pubsub import PubSubServer

LINE = re.compile(r"\d\d:\d\d:\d\d  ([a-z-]+)\[(\d)\]@(\d+)  (\d+) records?")
PROGRAM = """
import argparse, sys
from batch_collection.errors import CollectionError, SourceError
from pipeline.commands import produce as produce_command
parser = argparse.ArgumentParser()
produce_command.configure(parser)
try:
    sys.exit(produce_command.run(produce_command.check(parser.parse_args())))
except CollectionError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


class MockCluster:
    """One broker inside librdkafka, until it is stopped."""

    def __init__(self, *topics: str) -> None:
        """Start it with topics of four partitions."""
        settings = {"test.mock.num.brokers": 1, "bootstrap.servers": "x", "log_level": 0}
        self._owner: Producer | None = Producer(settings)
        (broker,) = self._owner.list_topics(timeout=10).brokers.values()
        self.address = f"{broker.host}:{broker.port}"
        maker = Producer({"bootstrap.servers": self.address, "allow.auto.create.topics": True})
        for topic in topics:
            maker.list_topics(topic, timeout=10)

    def stop(self) -> None:
        """Close its port."""
        self._owner = None

    def topics(self) -> set[str]:
        """Return the names of the topics that are there."""
        client = Producer({"bootstrap.servers": self.address, "log_level": 0})
        return set(client.list_topics(timeout=10).topics)

    def values(self, topic: str, count: int) -> list[bytes]:
        """Return a topic's first ``count`` messages, partition by partition."""
        consumer = Consumer({"bootstrap.servers": self.address, "group.id": "test", "log_level": 0})
        consumer.assign([TopicPartition(topic, number, 0) for number in range(4)])
        found = consumer.consume(count, timeout=10)
        consumer.close()
        assert [message.error() for message in found] == [None] * count
        return [message.value() or b"" for message in found]


@pytest.fixture
def cluster() -> Iterator[MockCluster]:
    """Give a mock cluster with the topics ``batch-topic`` and ``other``."""
    cluster = MockCluster("batch-topic", "other")
    yield cluster
    cluster.stop()


def run(*flags: str) -> int:
    """Run the command with these flags."""
    parser = argparse.ArgumentParser()
    produce_command.configure(parser)
    return produce_command.run(produce_command.check(parser.parse_args(flags)))


@contextmanager
def started(*flags: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command as a process of its own, killed at the end if it still runs."""
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *flags],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str]) -> str:
    """Wait for the first line of a process's output."""
    assert process.stdout is not None
    return process.stdout.readline().rstrip("\n")


def test_each_topic_gets_count_messages_and_each_message_a_line(
    cluster: MockCluster, capsys: pytest.CaptureFixture[str]
) -> None:
    """The lines say what the topics hold."""
    code = run(
        f"--bootstrap_servers={cluster.address}",
        "--topics=batch-topic,other",
        "--records_per_message=3",
        "--every=20ms",
        "--count=4",
    )

    lines = [LINE.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    assert code == 0
    assert None not in lines
    assert sorted(line[1] for line in lines if line) == ["batch-topic"] * 4 + ["other"] * 4
    assert {line[4] for line in lines if line} == {"3"}
    for topic in ("batch-topic", "other"):
        assert [len(json.loads(value)) for value in cluster.values(topic, 4)] == [3] * 4


def test_messages_keep_the_interval(cluster: MockCluster) -> None:
    """The first goes at once, the last after count - 1 intervals."""
    begin = time.monotonic()

    run(
        f"--bootstrap_servers={cluster.address}",
        "--topics=other",
        "--every=300ms",
        "--count=4",
    )

    assert 0.9 <= time.monotonic() - begin < 10


def test_a_missing_topic_is_an_error_and_stays_missing(cluster: MockCluster) -> None:
    """All missing topics stand in one line, with the cure, and none is created."""
    with pytest.raises(SourceError, match=r"no topic nope, never at .*; .*--create_topics"):
        run(f"--bootstrap_servers={cluster.address}", "--topics=other,nope,never")

    assert cluster.topics() == {"batch-topic", "other"}


def test_a_broker_that_does_not_answer_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    """The line names the address and what the connection said."""
    monkeypatch.setattr(producer, "CONNECT_TIMEOUT", timedelta(seconds=1))

    with pytest.raises(SourceError) as caught:
        run("--bootstrap_servers=127.0.0.1:1", "--topics=batch-topic")

    assert "127.0.0.1:1" in str(caught.value)
    assert "Connection refused" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_wrong_flags_are_reported_together() -> None:
    """One line for each wrong flag, none left for the next try."""
    with pytest.raises(CollectionError) as caught:
        run("--every=soon", "--count=0", "--records_per_message=x", "-X", "=1", "--partitions=-1")

    assert str(caught.value).splitlines() == [
        "--partitions must be a whole number of at least 1, got '-1'",
        "--bootstrap_servers is missing; name a broker, as localhost:9092",
        "--topics is missing; name one or more, as batch-topic",
        "--records_per_message must be a whole number of at least 1, got 'x'",
        "--every is not a duration: 'soon'; write it as 10s, 1m, 1h30m or 250ms",
        "--count must be a whole number of at least 1, got '0'",
        "-X must be key=value, got one without a key",
    ]


def test_an_unknown_property_is_an_error_with_its_name() -> None:
    """Librdkafka's own words, and which flag to look at."""
    message = 'No such configuration property: "nonsense"; see the properties given with -X'
    with pytest.raises(SourceError, match=re.escape(message)):
        run("--bootstrap_servers=127.0.0.1:1", "--topics=a", "-X", "nonsense=1")


def test_a_message_that_is_too_large_is_an_error_with_the_cure(cluster: MockCluster) -> None:
    """The line names the flag that makes messages smaller."""
    with pytest.raises(SourceError, match=r"topic=other: .*too large.*--records_per_message"):
        run(
            f"--bootstrap_servers={cluster.address}",
            "--topics=other",
            "--records_per_message=1000",
            "-X",
            "message.max.bytes=1000",
        )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_0_within_a_second(
    cluster: MockCluster, number: signal.Signals
) -> None:
    """While it waits for the next message, however long the interval."""
    flags = (f"--bootstrap_servers={cluster.address}", "--topics=batch-topic", "--every=1h")
    with started(*flags) as process:
        assert LINE.fullmatch(first_line(process))

        begin = time.monotonic()
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)

    assert time.monotonic() - begin < 1
    assert (process.returncode, errors) == (0, "")


def test_a_broker_that_goes_away_is_one_line_and_code_2(cluster: MockCluster) -> None:
    """What could not be delivered is said, and the process ends."""
    flags = (f"--bootstrap_servers={cluster.address}", "--topics=batch-topic", "--every=200ms")
    with started(*flags, "-X", "message.timeout.ms=1000") as process:
        assert LINE.fullmatch(first_line(process))

        cluster.stop()
        _, errors = process.communicate(timeout=15)

    assert process.returncode == 2
    (line,) = errors.splitlines()
    assert line.startswith("cannot deliver to topic=batch-topic: ")
    assert line.endswith(f"; see that the brokers of {cluster.address} run")


@pytest.mark.integration
@pytest.mark.usefixtures("jars")
def test_missing_topics_are_created_when_asked_for(tmp_path: Path) -> None:
    """With as many partitions as asked for; a topic that is there is left as it is."""
    broker = KafkaBroker(tmp_path)
    broker.start()
    try:
        broker.create_topic("old", partitions=1)
        flags = (
            f"--bootstrap_servers={broker.bootstrap_servers}",
            "--topics=new,old",
            "--count=1",
            "--create_topics",
            "--partitions=3",
        )

        assert run(*flags) == 0

        topics = broker.admin().list_topics(timeout=10).topics
        assert topics["new"].error is None
        assert [len(topics[name].partitions) for name in ("new", "old")] == [3, 1]
    finally:
        broker.stop()


PUBSUB = re.compile(
    r"\d\d:\d\d:\d\d  (projects/tests-1/topics/[a-z0-9-]+)  message (\d+)  3 records"
)


def test_messages_go_to_topics_of_pubsub(
    emulator: PubSubServer, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line each, with its id; topics are created if that is asked for."""
    name = f"produced-{time.monotonic_ns()}"
    topic = f"projects/tests-1/topics/{name}"
    flags = (f"--topic={topic}", f"--pubsub_endpoint={emulator.endpoint}", "--every=1ms")
    with pytest.raises(SourceError, match="has no such topic; add --create_topics"):
        run(*flags, "--count=1")
    assert run(*flags, "--count=1", "--create_topics") == 0
    emulator_path = f"projects/tests-1/subscriptions/{name}"
    SubscriptionSettings((emulator_path,), emulator.endpoint, topic).prepare()
    capsys.readouterr()
    assert run(*flags, "--count=2", "--records_per_message=3") == 0
    found = [PUBSUB.fullmatch(line) for line in capsys.readouterr().out.splitlines()]
    ids = [each[2] for each in found if each is not None and each[1] == topic]
    assert len(ids) == len(found) == 2
    source = Subscription(emulator_path, emulator.endpoint)
    values: dict[str, bytes] = {}
    while len(values) < 2:
        values |= {row["id"]: row["value"] for row in source.pull(10).to_pylist()}
    source.close()
    assert sorted(values) == sorted(ids)
    assert {len(json.loads(value)) for value in values.values()} == {3}


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--topic=a",), "--topic must be projects/PROJECT/topics/NAME, got 'a'"),
        (
            ("--topic=projects/p/topics/t", "--topics=a"),
            "--topics is for Kafka, and --topic sends to Pub/Sub; leave one of both out",
        ),
        (
            ("--topic=projects/p/topics/t", "-Xacks=1"),
            "-X is for Kafka, and --topic sends to Pub/Sub; leave one of both out",
        ),
        (
            ("--topic=projects/p/topics/t", "--consumer_config=/no/such/file"),
            "--consumer_config is for Kafka, and --topic sends to Pub/Sub; leave one of both out",
        ),
        (
            ("--topic=projects/p/topics/t", "--create_topics", "--partitions=8"),
            "--partitions is for Kafka, and --topic sends to Pub/Sub; leave one of both out",
        ),
        (
            ("--topics=a", "--bootstrap_servers=a:1", "--pubsub_endpoint=b:1"),
            "--pubsub_endpoint is for Pub/Sub, and --topics sends to Kafka; leave one of both out",
        ),
    ],
)
def test_flags_of_kafka_and_of_pubsub_do_not_go_together(
    words: tuple[str, ...], error: str
) -> None:
    """One line, with what to leave out."""
    with pytest.raises(CollectionError, match=f"^{re.escape(error)}$"):
        run(*words)
