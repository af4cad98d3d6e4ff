"""A real Kafka to measure with, and what fills its topics."""

from __future__ import annotations

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Producer

from tests.services.kafka import KafkaBroker
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["Message", "produce", "real_kafka"]


class Message(NamedTuple):
    """A message to be produced; ``timestamp`` is in milliseconds."""

    topic: str
    value: str
    partition: int
    timestamp: int


@contextmanager
def real_kafka(what: str) -> Iterator[KafkaBroker]:
    """Give a broker as long as the block lasts.

    Raises:
        SystemExit: there can be none here; it is said that ``what`` is not measured, and no error.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            broker = KafkaBroker(Path(folder))
        except UnavailableError as error:
            print(f"{error}; {what} not measured")
            sys.exit(0)
        broker.start()
        try:
            yield broker
        finally:
            broker.kill()


def produce(broker: KafkaBroker, messages: Iterable[Message]) -> None:
    """Produce messages in large compressed batches; when this returns, the broker has them."""
    settings = {"compression.type": "lz4", "linger.ms": 50, "batch.size": 1 << 20}
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, **settings})
    for topic, value, partition, timestamp in messages:
        while True:
            try:
                producer.produce(topic, value, partition=partition, timestamp=timestamp)
                break
            except BufferError:
                producer.poll(0.1)
    producer.flush()
