"""What the planner asks of Kafka, and what it is told when Kafka is not there."""

from __future__ import annotations

import re
import socket
import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import KafkaError, Producer

from batch_collection.errors import CollectionError, SourceError
from tests.services.mock_cluster import LIST_OFFSETS, OFFSET_COMMIT, OFFSET_FETCH, MockCluster
from transforms.process.process import current
from transforms.sources.contract import Answer
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import ClientLog

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

    AnyBroker = KafkaBroker | EmbeddedBroker

NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
NOBODY = "127.0.0.1:1"
NEW_COORDINATOR = (
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
)


def asked(broker: AnyBroker) -> Broker:
    """Return the planner's view of a broker."""
    return Broker({"bootstrap.servers": broker.bootstrap_servers})


def topic(broker: AnyBroker, partitions: int = 4) -> str:
    """Create a topic of its own for a test."""
    return broker.create_topic(f"broker-{uuid.uuid4().hex[:8]}", partitions)


def produce(broker: AnyBroker, name: str, partition: int, *stamps: int) -> None:
    """Write a message a timestamp, in milliseconds."""
    client = Producer({"bootstrap.servers": broker.bootstrap_servers}, logger=ClientLog())
    for stamp in stamps:
        client.produce(name, b"x", partition=partition, timestamp=stamp)
    assert client.flush(30) == 0


def milliseconds(instant: datetime) -> int:
    """Return an instant as Kafka stamps it."""
    return round(instant.timestamp() * 1000)


def failure_of(question: Callable[[], object]) -> tuple[str, float]:
    """Return what a question that must fail raises, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(SourceError) as caught:
        question()
    return str(caught.value), time.monotonic() - began


def test_a_topic_has_its_partitions_and_no_id_where_the_broker_has_none(
    embedded: EmbeddedBroker,
) -> None:
    """The embedded broker has a cluster id and four partitions, but no topic ids."""
    found = asked(embedded).topic(topic(embedded))
    assert found.topic_id is None
    assert found.cluster_id
    assert found.partitions == (0, 1, 2, 3)


def test_several_topics_come_as_they_were_asked_for(embedded: EmbeddedBroker) -> None:
    """Each is what it is alone, and one that is missing is named."""
    names, broker = [topic(embedded) for _ in range(3)], asked(embedded)
    assert broker.topics(names) == [broker.topic(name) for name in names]
    with pytest.raises(CollectionError, match=re.escape(f"no topic={names[1]}x")):
        broker.topics([names[0], f"{names[1]}x", names[2]])


def test_offsets_go_from_the_earliest_to_the_end(embedded: EmbeddedBroker) -> None:
    """Only the partitions asked for are answered."""
    name = topic(embedded)
    produce(embedded, name, 1, 1, 2, 3)
    assert asked(embedded).offsets(name, [0, 1]) == {0: (0, 0), 1: (0, 3)}
    assert asked(embedded).offsets(name, []) == {}


def test_no_time_index_gives_no_offset(embedded: EmbeddedBroker) -> None:
    """The embedded broker can't look up instants."""
    name = topic(embedded)
    produce(embedded, name, 0, milliseconds(NOON))
    assert asked(embedded).offsets_at(name, [0], NOON) == {0: Answer(None, None)}


def test_committed_offsets_are_read_back(embedded: EmbeddedBroker) -> None:
    """A partition nothing was committed for is left out."""
    name, broker = topic(embedded), asked(embedded)
    assert broker.committed(name, range(4), "group") == {}
    broker.commit(name, "group", {})
    broker.commit(name, "group", {1: 7, 3: 0})
    assert broker.committed(name, range(4), "group") == {1: 7, 3: 0}


def test_a_missing_topic_is_named_with_those_like_it_and_not_created(
    embedded: EmbeddedBroker,
) -> None:
    """A question doesn't make a topic, even where asking for its name would."""
    name = topic(embedded)
    for _ in range(2):
        with pytest.raises(CollectionError, match=re.escape(f"no topic={name}x")) as caught:
            asked(embedded).topic(name + "x")
        assert f"similar: {name}" in str(caught.value)


@pytest.mark.slow
def test_an_unreachable_broker_is_told_within_fifteen_seconds(
    capfd: pytest.CaptureFixture[str],
) -> None:
    """One line says why and which flag to look at, whatever is asked; nothing else is printed."""
    broker = Broker({"bootstrap.servers": NOBODY})
    questions: tuple[Callable[[], object], ...] = (
        lambda: broker.topic("any"),
        lambda: broker.offsets("any", [0]),
        lambda: broker.offsets_at("any", [0], NOON),
        lambda: broker.committed("any", [0], "group"),
        lambda: broker.commit("any", "group", {0: 1}),
    )
    with ThreadPoolExecutor(len(questions)) as threads:
        for told, seconds in threads.map(failure_of, questions):
            assert "Connection refused; check --bootstrap_servers" in told
            assert "\n" not in told
            assert seconds < 15
    assert capfd.readouterr().err == ""


def test_an_address_where_no_broker_is_is_told_within_three_seconds() -> None:
    """Nobody listens there, no machine has that name, or something else than Kafka answers."""
    with socket.create_server(("127.0.0.1", 0)) as web, ThreadPoolExecutor(1) as threads:
        threads.submit(_answer_as_http, web)
        there = f"127.0.0.1:{web.getsockname()[1]}"
        for servers, why in (
            (NOBODY, "Connection refused"),
            ("no-such-host.invalid:9092", "Failed to resolve 'no-such-host.invalid:9092'"),
            (there, "it speaks HTTP, not Kafka's protocol"),
        ):
            broker = Broker({"bootstrap.servers": servers})
            told, seconds = failure_of(lambda: broker.topic("any"))  # noqa: B023 - called at once
            assert told.startswith(f"cannot list topics: no answer from kafka at {servers}: ")
            assert why in told
            assert told.endswith("; check --bootstrap_servers")
            assert seconds < 3
        web.shutdown(socket.SHUT_RDWR)


def _answer_as_http(web: socket.socket) -> None:
    """Answer each connection as a web server does, until it is shut down."""
    while True:
        try:
            client, _ = web.accept()
        except OSError:
            return
        with client:
            client.recv(1024)
            client.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


@pytest.mark.slow
def test_a_silent_broker_has_ten_seconds() -> None:
    """It may be busy, or far away; whether it takes connections or not, it is said to be silent."""
    with (
        socket.create_server(("127.0.0.1", 0)) as silent,
        socket.create_server(("127.0.0.1", 0), backlog=0) as full,
        ThreadPoolExecutor(2) as threads,
    ):
        waiting = [socket.socket() for _ in range(3)]
        for each in waiting:  # they fill its queue: whoever comes is dropped
            each.settimeout(0)
            each.connect_ex(full.getsockname())
        addresses = [f"127.0.0.1:{each.getsockname()[1]}" for each in (silent, full)]
        brokers = [Broker({"bootstrap.servers": address}) for address in addresses]
        answers = threads.map(lambda broker: failure_of(lambda: broker.topic("any")), brokers)
        for address, (told, seconds) in zip(addresses, answers, strict=True):
            told_of = f"no answer from kafka at {address}: it is silent; check --bootstrap_servers"
            assert told == f"cannot list topics: {told_of}"
            assert 9 < seconds < 13
        for each in waiting:
            each.close()


def test_a_closed_broker_answers_nothing(embedded: EmbeddedBroker) -> None:
    """After close every question is an error."""
    broker = asked(embedded)
    broker.close()
    with pytest.raises(SourceError, match="closed"):
        broker.topic("any")


@pytest.fixture
def mock() -> Iterator[MockCluster]:
    """Start two brokers that can be told what to answer."""
    with MockCluster(brokers=2) as cluster:
        cluster.create_topic("any", 2)
        yield cluster


def asked_of(mock: MockCluster) -> Broker:
    """Return the planner's view of it."""
    return Broker({"bootstrap.servers": mock.bootstrap_servers})


@pytest.mark.parametrize(
    "code",
    [
        KafkaError._TRANSPORT,  # noqa: SLF001 - the connection is closed; librdkafka answers -1001
        KafkaError.NOT_LEADER_FOR_PARTITION,
        KafkaError.FENCED_LEADER_EPOCH,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
    ],
)
def test_offsets_are_asked_for_again_where_a_leader_may_have_moved(
    mock: MockCluster, code: int
) -> None:
    """Once: after an error of the broker's, or a broker that went away before it answered."""
    broker = asked_of(mock)
    mock.fail(LIST_OFFSETS, code)
    assert broker.offsets("any", [0, 1]) == {0: (0, 0), 1: (0, 0)}


def test_an_offset_that_nobody_gave_is_no_offset(mock: MockCluster) -> None:
    """Where a broker goes away, librdkafka answers -1001 and no error: never planned with."""
    broker = asked_of(mock)
    broker.topic("any")
    mock.fail(LIST_OFFSETS, *[KafkaError._TRANSPORT] * 100)  # noqa: SLF001 - its name
    with pytest.raises(SourceError, match="cannot list offsets of topic=any: no answer"):
        broker.offsets("any", [0, 1])


def test_partitions_without_a_leader_are_named_at_once(mock: MockCluster) -> None:
    """Nothing of the topic is planned, and when they have one again all is well."""
    broker = asked_of(mock)
    mock.lead("any", 1, -1)
    told, seconds = failure_of(lambda: broker.offsets("any", [0, 1]))
    assert "topic=any has no leader for partition=1: the brokers that hold it are away" in told
    assert seconds < 10
    mock.lead("any", 1, 2)
    assert broker.offsets("any", [0, 1]) == {0: (0, 0), 1: (0, 0)}


@pytest.mark.parametrize("code", NEW_COORDINATOR)
def test_a_coordinator_that_only_just_begins_is_waited_for(mock: MockCluster, code: int) -> None:
    """And the process lives: asked otherwise, librdkafka would dereference null (issue 5040)."""
    broker = asked_of(mock)
    broker.commit("any", "group", {0: 3})
    mock.fail(OFFSET_COMMIT, code, code)
    broker.commit("any", "group", {0: 7})
    mock.fail(OFFSET_FETCH, code, code)
    assert broker.committed("any", [0, 1], "group") == {0: 7}


def test_what_a_coordinator_refuses_is_told_at_once(mock: MockCluster) -> None:
    """Whatever is asked of it."""
    broker = asked_of(mock)
    told = r"group_id=group.*: kafka at .* answers: .*Group authorization failed"
    mock.fail(OFFSET_FETCH, KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(SourceError, match=told):
        broker.committed("any", [0, 1], "group")
    mock.fail(OFFSET_COMMIT, KafkaError.GROUP_AUTHORIZATION_FAILED)
    with pytest.raises(SourceError, match=told):
        broker.commit("any", "group", {0: 1})


def test_a_process_that_is_to_stop_waits_for_no_broker() -> None:
    """Whatever was asked is given up within 5 s of the signal."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        broker = Broker({"bootstrap.servers": f"127.0.0.1:{silent.getsockname()[1]}"})
        timer = threading.Timer(0.5, current().stop.set)
        timer.start()
        try:
            told, seconds = failure_of(lambda: broker.offsets("any", [0]))
        finally:
            timer.join()
    assert "no answer" in told
    assert seconds < 5.5


@pytest.mark.integration
def test_a_topic_created_again_has_another_id(kafka: KafkaBroker) -> None:
    """The id tells topics of one name apart."""
    name, broker = topic(kafka, 2), asked(kafka)
    first = broker.topic(name)
    assert first.partitions == (0, 1)
    admin = kafka.admin()
    admin.delete_topics([name])[name].result(30)
    deadline = time.monotonic() + 30
    while name in admin.list_topics(timeout=10).topics:
        assert time.monotonic() < deadline
    kafka.create_topic(name, 3)
    second = broker.topic(name)
    assert second.partitions == (0, 1, 2)
    assert first.topic_id
    assert second.topic_id not in {None, first.topic_id}
    assert second.cluster_id == first.cluster_id


@pytest.mark.integration
def test_the_real_broker_creates_no_topic_when_asked(kafka: KafkaBroker) -> None:
    """It would, for a question that names the topic: automatic creation is on."""
    name = f"missing-{uuid.uuid4().hex[:8]}"
    with pytest.raises(CollectionError, match=re.escape(f"no topic={name}")):
        asked(kafka).topic(name)
    with pytest.raises(SourceError):
        asked(kafka).offsets(name, [0])
    assert name not in kafka.admin().list_topics(timeout=10).topics


@pytest.mark.integration
def test_an_instant_finds_the_first_record_at_or_after_it(kafka: KafkaBroker) -> None:
    """The answer carries the record's own timestamp; beyond the last record there is none."""
    name, broker = topic(kafka, 2), asked(kafka)
    second = timedelta(seconds=1)
    produce(kafka, name, 0, *(milliseconds(NOON + step * second) for step in range(10)))
    found = broker.offsets_at(name, [0, 1], NOON + 3 * second)
    assert found == {0: Answer(3, NOON + 3 * second), 1: Answer(None, None)}
    later = broker.offsets_at(name, [0], NOON + 3 * second + timedelta(microseconds=1))
    assert later == {0: Answer(4, NOON + 4 * second)}
    assert broker.offsets_at(name, [0], NOON + 10 * second) == {0: Answer(None, None)}


@pytest.mark.integration
def test_a_timestamp_beyond_the_calendar_is_the_last_instant(kafka: KafkaBroker) -> None:
    """A record stamped in nanoseconds doesn't break the look-up."""
    name = topic(kafka, 1)
    produce(kafka, name, 0, milliseconds(NOON) * 1_000_000)
    answer = asked(kafka).offsets_at(name, [0], NOON)[0]
    assert answer == Answer(0, datetime.max.replace(tzinfo=timezone.utc))


@pytest.mark.integration
def test_a_group_commits_on_the_real_broker(kafka: KafkaBroker) -> None:
    """What was committed is read back."""
    name, broker = topic(kafka, 2), asked(kafka)
    group_id = f"group-{name}"
    assert broker.committed(name, [0, 1], group_id) == {}
    broker.commit(name, group_id, {0: 5})
    assert broker.committed(name, [0, 1], group_id) == {0: 5}


@pytest.mark.integration
def test_a_refused_login_is_told_early_and_without_the_password(kafka: KafkaBroker) -> None:
    """Every question says that the login is refused; none prints the password."""
    for question in (lambda b: b.topic("any"), lambda b: b.offsets("any", [0])):
        began = time.monotonic()
        with pytest.raises(SourceError, match=r"refuses the login.*SASL authentication") as caught:
            question(Broker(kafka.login("battery-staple")))
        assert time.monotonic() - began < 5
        assert "battery-staple" not in str(caught.value)
    assert Broker(kafka.login()).topic(topic(kafka)).topic_id
