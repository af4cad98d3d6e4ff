"""What every leased source holds to: one in memory, Pub/Sub's on each server, and our own fake."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Protocol

import pyarrow as pa
import pytest

from tests.leased_stream import LeasedStream, MemorySource
from tests.services.pubsub_fake import PATH, FakePubSub
from transforms.sources.contract import LEASED
from transforms.sources.pubsub.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.services.pubsub import PubSubServer
    from transforms.sources.contract import LeasedSource

LEASE_SECONDS = 10


class Harness(Protocol):
    """A stream that a test fills; what is handed out is held for ten seconds."""

    def open(self) -> LeasedSource:
        """Open it once more, as another process would."""

    def put(
        self, *values: bytes, key: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> list[str]:
        """Append messages; return their ids."""

    def wait(self, seconds: float) -> None:
        """Let time pass on the source's clock."""


class _Memory:
    def __init__(self) -> None:
        self.stream = LeasedStream()
        self.put = self.stream.publish

    def open(self) -> LeasedSource:
        return MemorySource(self.stream, wait_seconds=60)

    def wait(self, seconds: float) -> None:
        self.stream.clock.seconds += seconds


class _Fake(_Memory):
    def __init__(self, server: FakePubSub) -> None:
        self.server, self.stream, self.put = server, server.stream, server.stream.publish

    def open(self) -> LeasedSource:
        return Subscription(PATH, self.server.endpoint)


class _Server:
    def __init__(self, server: PubSubServer) -> None:
        self.server, self.path = server, server.create(f"leased-{uuid.uuid4().hex[:8]}")

    def open(self) -> LeasedSource:
        return Subscription(self.path, self.server.endpoint)

    def put(
        self, *values: bytes, key: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> list[str]:
        return self.server.publish(self.path, values, key, attributes)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture(params=["memory", "fake", "emulator", "pstest"])
def stream(request: pytest.FixtureRequest) -> Iterator[Harness]:
    """Give a stream of each source there is."""
    if request.param == "memory":
        yield _Memory()
    elif request.param == "fake":
        server = FakePubSub()
        yield _Fake(server)
        server.close()
    else:
        yield _Server(request.getfixturevalue(request.param))


@pytest.fixture
def source(stream: Harness) -> Iterator[LeasedSource]:
    """Open the stream."""
    source = stream.open()
    yield source
    source.interrupt()
    source.close()


def pulled(source: LeasedSource, messages: int) -> pa.Table:
    """Pull until so many messages have come."""
    tables = [LEASED.empty_table()]
    while (missing := messages - sum(map(len, tables))) > 0:
        tables.append(source.pull(missing))
    return pa.concat_tables(tables)


def rest(stream: Harness, expected: int = 0) -> pa.Table:
    """Return what comes to somebody else: so many messages, and what comes soon after them."""
    source = stream.open()
    tables = [pulled(source, expected)]
    timer = threading.Timer(0.7, source.interrupt)
    timer.start()
    while timer.is_alive():
        tables.append(source.pull(1_000))
    timer.join()
    source.close()
    return pa.concat_tables(tables)


def leases(table: pa.Table) -> list[str]:
    """Return the leases of messages."""
    return table["lease"].to_pylist()


def ids(table: pa.Table) -> list[str]:
    """Return the ids of messages, sorted."""
    return sorted(table["id"].to_pylist())


def test_a_message_comes_with_all_its_parts(stream: Harness, source: LeasedSource) -> None:
    """Value, key, attributes and stamp, each of them null where there is none."""
    plain = stream.put(b'{"a": 1}', b"\xff\x00")
    named = stream.put(b"", key="k", attributes={"b": "2", "a": "\u00e9"})
    table = pulled(source, 3)
    assert table.schema == LEASED
    rows = {row["id"]: row for row in table.to_pylist()}
    assert sorted(rows) == sorted([*plain, *named])
    assert [rows[each]["value"] for each in plain] == [b'{"a": 1}', b"\xff\x00"]
    assert all(rows[each]["key"] is None for each in plain)
    assert all(rows[each]["attributes"] is None for each in plain)
    row = rows[named[0]]
    assert (row["value"], row["key"]) == (b"", "k")
    assert sorted(row["attributes"], key=lambda pair: pair["key"]) == [
        {"key": "a", "value": "\u00e9".encode()},
        {"key": "b", "value": b"2"},
    ]
    assert table["published"].null_count == 0
    assert len(set(leases(table))) == 3


def test_what_is_acknowledged_is_gone_and_what_is_given_back_comes_again(
    stream: Harness, source: LeasedSource
) -> None:
    """At once, under the same id and perhaps another lease; what is held comes to nobody."""
    stream.put(*(b"%d" % n for n in range(30)))
    table = pulled(source, 30)
    assert source.acknowledge(leases(table.slice(0, 10))) == []
    source.give_back(leases(table.slice(10, 10)))
    again = rest(stream, 10)
    assert ids(again) == ids(table.slice(10, 10))


def test_who_did_not_pull_may_extend_and_acknowledge(stream: Harness, source: LeasedSource) -> None:
    """So that a process can end what another began."""
    stream.put(b"a", b"b")
    table = pulled(source, 2)
    other = stream.open()
    other.extend(leases(table), 60)
    assert other.acknowledge(leases(table)) == []
    other.close()
    assert len(rest(stream)) == 0


def test_a_lease_that_is_over_is_no_error(stream: Harness, source: LeasedSource) -> None:
    """Whatever is said of it, and the message stays with whoever has it by the last lease."""
    stream.put(b"a")
    old = leases(pulled(source, 1))
    source.give_back(old)
    new = pulled(source, 1)
    source.extend(old, 60)
    source.give_back(leases(new))
    newest = leases(pulled(source, 1))
    source.acknowledge(newest)
    for lease in (old, newest):
        source.extend(lease, 60)
        source.give_back(lease)
        source.acknowledge(lease)
    assert len(rest(stream)) == 0


@pytest.mark.slow
def test_what_nobody_extends_comes_again(stream: Harness, source: LeasedSource) -> None:
    """What is extended does not, though its first lease is over."""
    stream.put(*(b"%d" % n for n in range(20)))
    table = pulled(source, 20)
    source.extend(leases(table.slice(0, 10)), 60)
    stream.wait(LEASE_SECONDS + 1)
    assert ids(rest(stream, 10)) == ids(table.slice(10))
    assert source.acknowledge(leases(table.slice(0, 10))) == []


def test_threads_share_it(stream: Harness, source: LeasedSource) -> None:
    """Each message comes to one of them."""
    stream.put(*(b"%d" % n for n in range(2_000)))
    with ThreadPoolExecutor(4) as threads:
        tables = list(threads.map(lambda _: pulled(source, 500), range(4)))
    table = pa.concat_tables(tables)
    assert len(set(ids(table))) == 2_000
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda each: source.acknowledge(leases(each)), tables)) == [[]] * 4
    assert len(rest(stream)) == 0


def test_more_leases_than_a_request_may_hold_are_told_at_once(
    stream: Harness, source: LeasedSource
) -> None:
    """All of them are heard."""
    stream.put(*(b"%d" % n for n in range(2_500)))
    table = pulled(source, 2_500)
    source.extend(leases(table), 60)
    assert source.acknowledge(leases(table)) == []
    assert len(rest(stream)) == 0


def test_large_messages_come(stream: Harness, source: LeasedSource) -> None:
    """Also where one answer holds more than gRPC takes unasked."""
    values = [bytes(3 << 20), b"\1" * (3 << 20)]
    for value in values:
        stream.put(value)
    assert sorted(pulled(source, 2)["value"].to_pylist()) == values


def test_a_pull_that_waits_is_interrupted(stream: Harness, source: LeasedSource) -> None:
    """It ends with nothing, as do all later ones."""
    with ThreadPoolExecutor(2) as threads:
        waiting = [threads.submit(source.pull, 10) for _ in range(2)]
        time.sleep(0.1)
        source.interrupt()
        assert [len(each.result(5)) for each in waiting] == [0, 0]
    stream.put(b"a")
    assert source.pull(10) == LEASED.empty_table()


def test_it_says_which_stream_it_is(stream: Harness, source: LeasedSource) -> None:
    """The same to everybody."""
    other = stream.open()
    assert source.terms() == other.terms()
    assert other.name == source.name
    assert "/" not in source.name
    other.close()
