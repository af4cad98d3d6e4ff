"""A Kafka producer that keeps quiet, and says what went wrong in one line."""

from __future__ import annotations

import concurrent.futures
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from batch_collection.errors import SourceError
from transforms.sources.kafka.client import ClientLog

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterable, Mapping

    from confluent_kafka import Message

__all__ = ["CONNECT_TIMEOUT", "Delivered", "SendingClient"]


CONNECT_TIMEOUT = timedelta(seconds=10)
_ENOUGH = timedelta(seconds=2)  # where no broker can be connected to
_LAST_FLUSH_SECONDS = 0.7  # a signal ends the program within a second
_TICK_SECONDS = 0.2
_DEFAULTS: dict[str, object] = {
    "acks": "all",
    "message.timeout.ms": "10000",  # librdkafka's five minutes look like a hang
}
_FIXED: dict[str, object] = {"allow.auto.create.topics": "false"}


class Delivered(NamedTuple):
    """Where a message lies that the brokers have."""

    topic: str
    partition: int
    offset: int


class SendingClient:
    """A librdkafka producer, and what it said last."""

    def __init__(
        self,
        servers: str,
        properties: Mapping[str, str],
        delivered: Callable[[Delivered], object],
    ) -> None:
        """Start one that has nothing to send.

        Args:
            servers: the brokers, ``HOST:PORT,...``.
            properties: librdkafka's, over our defaults.
            delivered: called for each message that the brokers have, by ``send``, ``deliver`` and
                ``flush``.

        Raises:
            SourceError: librdkafka refuses the properties.
        """
        self._servers, self._properties, self._delivered = servers, properties, delivered
        self._log = ClientLog()
        self._undelivered: str | None = None
        self._on_their_way = 0
        settings = {**_DEFAULTS, **properties, "bootstrap.servers": servers, **_FIXED}
        try:
            self._client = Producer({**settings, "error_cb": self._log.failed}, logger=self._log)
        except KafkaException as error:
            message = f"cannot start a producer: {_text(error)}; see the properties given with -X"
            raise SourceError(message) from error

    def is_there(self, topic: str, stop: threading.Event) -> bool:
        """Ask for a topic until a broker answers; asking creates nothing.

        Returns:
            Whether it is there; False if ``stop`` was set before that was known.

        Raises:
            SourceError: no broker answers in time, or this user may not have the topic.
        """
        began = time.monotonic()
        deadline = began + CONNECT_TIMEOUT.total_seconds()
        while not stop.is_set():
            try:
                found = self._client.list_topics(topic, timeout=_TICK_SECONDS).topics[topic].error
            except KafkaException as error:
                self._client.poll(0)  # lets it say what is wrong
                if self._log.nobody:
                    deadline = min(deadline, began + _ENOUGH.total_seconds())
                if time.monotonic() < deadline and not self._log.refused:
                    continue
                raise self._log.error(self._servers, f"send to {topic}", error.args[0]) from error
            if found is None:
                return True
            if found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return False
            if found.code() != KafkaError.LEADER_NOT_AVAILABLE or time.monotonic() > deadline:
                message = f"cannot send to topic={topic}: {found.str()}"
                raise SourceError(message)
            stop.wait(_TICK_SECONDS)
        return False

    def create(self, topics: Iterable[str], partitions: int) -> None:
        """Create topics; one that is there is left as it is.

        Raises:
            SourceError: one can't be created.
        """
        settings: dict[str, Any] = {**self._properties, "bootstrap.servers": self._servers}
        admin = AdminClient(settings, logger=self._log)
        seconds = CONNECT_TIMEOUT.total_seconds()
        wanted = [NewTopic(topic, num_partitions=partitions) for topic in topics]
        for topic, answer in admin.create_topics(wanted, request_timeout=seconds).items():
            try:
                answer.result(seconds + 1)
            except (KafkaException, concurrent.futures.TimeoutError) as error:
                if _code(error) == KafkaError.TOPIC_ALREADY_EXISTS:
                    continue
                message = f"cannot create topic={topic}: {_text(error)}"
                raise SourceError(message) from error

    def send(
        self,
        topic: str,
        value: bytes,
        key: bytes | None = None,
        headers: Mapping[str, bytes] | None = None,
    ) -> None:
        """Hand a message over; it is sent meanwhile.

        Raises:
            SourceError: librdkafka doesn't take it, as it is too large, say.
        """
        try:
            self._client.produce(
                topic, value, key, headers=dict(headers or {}), on_delivery=self._report
            )
        except KafkaException as error:
            message = f"cannot send to topic={topic}: {_text(error)}, {len(value)} bytes"
            raise SourceError(message) from error
        self._on_their_way += 1
        self._client.poll(0)

    def deliver(self, stop: threading.Event) -> None:
        """Wait until the brokers have all that was sent, or a moment longer than until ``stop``.

        Raises:
            SourceError: they don't have all; it tells of the first.
        """
        while self._on_their_way and not stop.is_set():
            self.flush(_TICK_SECONDS)
        if self._on_their_way:
            self.flush(_LAST_FLUSH_SECONDS)
        if self._on_their_way and self._undelivered is None:
            self._undelivered = f"stopped before messages={self._on_their_way} were delivered"
        if self._undelivered is not None:
            raise SourceError(self._undelivered)

    def flush(self, seconds: float) -> None:
        """Wait so long at most until nothing is on its way."""
        self._client.flush(seconds)

    def _report(self, error: KafkaError | None, sent: Message) -> None:
        self._on_their_way -= 1
        topic, partition, offset = sent.topic(), sent.partition(), sent.offset()
        if error is None:
            self._delivered(Delivered(str(topic), int(partition or 0), int(offset or 0)))
        elif self._undelivered is None:
            reason = f"{error.str()}{self._log.reason and f' ({self._log.reason})'}"
            self._undelivered = (
                f"cannot deliver to topic={topic}: {reason}; "
                f"see that the brokers of {self._servers} run"
            )


def _code(error: BaseException) -> int | None:
    return error.args[0].code() if isinstance(error, KafkaException) else None


def _text(error: BaseException) -> str:
    """Return what librdkafka says, without its codes."""
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return str(error) or "no answer"
