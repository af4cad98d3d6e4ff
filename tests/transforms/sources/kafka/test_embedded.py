"""The broker inside the process."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from batch_collection.errors import SourceError
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import ClientLog
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def broker() -> Iterator[EmbeddedBroker]:
    """Start one for the test alone."""
    with EmbeddedBroker() as running:
        yield running


def test_it_keeps_what_any_client_of_the_machine_writes(broker: EmbeddedBroker) -> None:
    """What a producer wrote shows in the offsets."""
    client = Producer({"bootstrap.servers": broker.bootstrap_servers}, logger=ClientLog())
    client.produce(broker.create_topic("clicks"), b"x", partition=2)
    assert client.flush(10) == 0
    asked = Broker({"bootstrap.servers": broker.bootstrap_servers})
    assert asked.offsets("clicks", range(4)) == {0: (0, 0), 1: (0, 0), 2: (0, 1), 3: (0, 0)}


def test_another_number_of_partitions_is_refused(broker: EmbeddedBroker) -> None:
    """Their number is fixed at four in librdkafka."""
    with pytest.raises(ValueError, match=re.escape("has 4 partitions, got 3")):
        broker.create_topic("clicks", 3)


@pytest.mark.slow
def test_it_is_gone_when_closed(broker: EmbeddedBroker) -> None:
    """Nobody answers afterwards, and a topic can't be made."""
    broker.close()
    with pytest.raises(SourceError, match="closed"):
        broker.create_topic("clicks")
    with pytest.raises(SourceError, match="Connection refused"):
        Broker({"bootstrap.servers": broker.bootstrap_servers}).topic("clicks")


def test_it_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    """The lines of librdkafka go to Python's log."""
    with EmbeddedBroker() as running:
        running.create_topic("clicks")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
