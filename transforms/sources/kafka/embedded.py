"""A Kafka broker inside this process, for demos and tests: librdkafka's mock cluster.

It answers any client of the machine. It knows no time index, no topic ids and no compaction, and
keeps about 5 MB a partition, dropping what is older.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from confluent_kafka import KafkaException, Producer

from batch_collection.errors import SourceError
from transforms.sources.kafka.client import ClientLog

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["EmbeddedBroker"]


_PARTITIONS = 4  # fixed in librdkafka, out of Python's reach
_SECONDS = 10.0


class EmbeddedBroker:
    """A broker that lives from ``with`` to its end, or until ``close``."""

    partitions = _PARTITIONS

    def __init__(self) -> None:
        """Start it.

        Raises:
            SourceError: it does not come up.
        """
        settings = {"test.mock.num.brokers": 1, "bootstrap.servers": "embedded"}
        self._owner: Producer | None = Producer(settings, logger=ClientLog())
        try:
            brokers = self._owner.list_topics(timeout=_SECONDS).brokers.values()
        except KafkaException as error:
            message = f"the embedded broker does not start: {error.args[0].str()}"
            raise SourceError(message) from error
        self.bootstrap_servers = ",".join(f"{broker.host}:{broker.port}" for broker in brokers)

    def __enter__(self) -> EmbeddedBroker:  # noqa: PYI034 - Python 3.10 has no Self
        """Return it, running."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stop it."""
        self.close()

    def create_topic(self, name: str, partitions: int = _PARTITIONS) -> str:
        """Create a topic, if it isn't there, and return its name.

        Raises:
            ValueError: ``partitions`` is not 4.
        """
        if partitions != _PARTITIONS:
            message = (
                f"a topic of the embedded broker has {_PARTITIONS} partitions, got {partitions}"
            )
            raise ValueError(message)
        if self._owner is None:
            message = "the embedded broker is closed"
            raise SourceError(message)
        self._owner.list_topics(name, timeout=_SECONDS)  # asking for it makes it
        return name

    def close(self) -> None:
        """Stop it; what it holds is gone."""
        self._owner = None
