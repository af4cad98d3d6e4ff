"""Kafka clients that keep quiet, and the consumers that a process keeps between reads."""

from __future__ import annotations

import itertools
import logging
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from confluent_kafka import Consumer, KafkaError, KafkaException

from batch_collection.errors import SourceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["ClientLog", "ReadingClient", "close_consumers", "consumer_lent"]

_DEFAULTS: dict[str, object] = {
    "group.id": "batch-collection",  # librdkafka wants one; no group is joined
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 5,  # by default a partition rests 1 s whenever its queue is full
    "fetch.wait.max.ms": 100,  # at a partition's end a fetch waits, and the next read behind it
    "queued.max.messages.kbytes": 65_536,
}
_FIXED: dict[str, object] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # any other jumps over deleted messages in silence
    "allow.auto.create.topics": False,
}

_logger = logging.getLogger(__name__)


class ClientLog:
    """Takes what a librdkafka client logs and reports: to Python's log, and the last error's text.

    Pass it as the client's ``logger`` and ``failed`` as its ``error_cb``.
    """

    def __init__(self) -> None:
        """Start with nothing to tell."""
        self.reason = ""
        self.refused = False

    def log(self, _level: int, form: str, *values: object) -> None:
        """Log a line of the client's at debug level."""
        _logger.debug(form, *values)

    def failed(self, error: KafkaError) -> None:
        """Remember an error; ``refused`` tells that the broker doesn't accept who we are."""
        if error.code() == KafkaError._AUTHENTICATION:  # noqa: SLF001 - its name
            self.refused = True
        if error.code() != KafkaError._ALL_BROKERS_DOWN or not self.reason:  # noqa: SLF001
            self.reason = error.str().partition(" (after ")[0]

    def forget(self) -> None:
        """Forget the last error."""
        self.reason, self.refused = "", False

    def error(self, servers: object, doing: str, error: KafkaError | None = None) -> SourceError:
        """Return what to raise where a client of ``servers`` failed, with the best reason known."""
        if self.refused:
            cure = f"{self.reason}; mend the login in --consumer_config or -X"
            return SourceError(f"cannot {doing}: kafka at {servers} refuses the login: {cure}")
        if error is not None and error.code() > 0:  # the broker's own; librdkafka's are negative
            return SourceError(f"cannot {doing}: kafka at {servers} answers: {error.str()}")
        reason = self.reason or (error.str() if error is not None else "nothing came")
        cure = f"{reason}; check --bootstrap_servers"
        return SourceError(f"cannot {doing}: no answer from kafka at {servers}: {cure}")


class ReadingClient:
    """A consumer and its log."""

    def __init__(self, config: Mapping[str, object]) -> None:
        """Start a consumer that is assigned nothing.

        Raises:
            SourceError: librdkafka refuses the settings.
        """
        self.log = ClientLog()
        self._servers = config.get("bootstrap.servers")
        settings = {**_DEFAULTS, **config, **_FIXED, "error_cb": self.log.failed}
        try:
            self.consumer = Consumer(settings, logger=self.log)
        except KafkaException as error:
            message = f"bad kafka settings: {error.args[0].str()}; mend --consumer_config or -X"
            raise SourceError(message) from error

    def error(self, doing: str, error: KafkaError | None = None) -> SourceError:
        """Return what to raise where this consumer failed, with the best reason known."""
        return self.log.error(self._servers, doing, error)


_idle: dict[tuple[tuple[str, object], ...], list[ReadingClient]] = {}
_lock = threading.Lock()


@contextmanager
def consumer_lent(config: Mapping[str, object], what: str) -> Iterator[ReadingClient]:
    """Lend a consumer with these settings to one caller; after an error it is closed, not kept.

    Args:
        config: librdkafka's settings.
        what: what it is to read, for errors.

    Raises:
        SourceError: librdkafka refuses the settings, or raised while the consumer was lent.
    """
    settings = tuple(sorted(config.items(), key=lambda item: item[0]))
    with _lock:
        kept = _idle.get(settings)
        client = kept.pop() if kept else None
    client = client or ReadingClient(config)
    client.log.forget()
    try:
        yield client
    except KafkaException as error:
        client.consumer.close()
        doing = f"read {what}"
        raise client.error(doing, error.args[0]) from error
    except BaseException:
        client.consumer.close()
        raise
    with _lock:
        _idle.setdefault(settings, []).append(client)


def close_consumers() -> None:
    """Close the consumers that nobody has borrowed just now."""
    with _lock:
        clients = list(itertools.chain.from_iterable(_idle.values()))
        _idle.clear()
    for client in clients:
        client.consumer.close()
