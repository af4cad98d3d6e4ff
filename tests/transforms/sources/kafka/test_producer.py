"""The producer: what was delivered is told with its place, what was not in one line."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import SourceError
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.embedded import EmbeddedBroker
from transforms.sources.kafka.producer import Delivered, SendingClient

if TYPE_CHECKING:
    from collections.abc import Iterator

RUNS = threading.Event()


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """Give a broker with the topic ``orders``."""
    with EmbeddedBroker() as broker:
        broker.create_topic("orders")
        yield broker


def test_each_message_is_told_with_its_place(broker: EmbeddedBroker) -> None:
    """The places are those that the broker has, each once."""
    places: list[Delivered] = []
    client = SendingClient(broker.bootstrap_servers, {}, places.append)

    for _ in range(20):
        client.send("orders", b"{}")
    client.deliver(RUNS)

    ends = Broker({"bootstrap.servers": broker.bootstrap_servers}).offsets("orders", range(4))
    wanted = {("orders", each, offset) for each, (_, end) in ends.items() for offset in range(end)}
    assert len(places) == 20
    assert {tuple(place) for place in places} == wanted


def test_a_topic_is_there_or_not(broker: EmbeddedBroker) -> None:
    """And unknown if nobody waits for the answer."""
    client = SendingClient(broker.bootstrap_servers, {}, print)
    stopped = threading.Event()
    stopped.set()

    assert client.is_there("orders", RUNS)
    assert not client.is_there("nope", RUNS)
    assert not client.is_there("orders", stopped)


def test_what_is_not_delivered_is_an_error_in_one_line(broker: EmbeddedBroker) -> None:
    """It tells of the first message; nothing is told as delivered."""
    places: list[Delivered] = []
    settings = {"message.timeout.ms": "300"}
    client = SendingClient(broker.bootstrap_servers, settings, places.append)
    assert client.is_there("orders", RUNS)
    broker.close()

    for _ in range(3):
        client.send("orders", b"{}")
    with pytest.raises(SourceError, match=r"^cannot deliver to topic=orders: [^\n]*$"):
        client.deliver(RUNS)
    assert places == []


def test_a_stop_ends_the_wait() -> None:
    """What is not delivered by then is counted."""
    client = SendingClient("127.0.0.1:1", {}, print)
    stopped = threading.Event()
    stopped.set()

    client.send("orders", b"{}")
    with pytest.raises(SourceError, match="stopped before messages=1 were delivered"):
        client.deliver(stopped)
