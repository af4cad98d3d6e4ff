"""Kafka clients that keep quiet, and the consumers that a process keeps between reads."""

from __future__ import annotations

import itertools
import json
import logging
import re
import threading
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TypeAlias

from confluent_kafka import Consumer, KafkaError, KafkaException

from batch_collection.errors import SourceError
from transforms.process.process import current
from transforms.sources.kafka.portable import PortableIntake

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from transforms.sources.kafka.intake import Intake

__all__ = [
    "NETWORK",
    "ClientLog",
    "IdleConsumers",
    "ReadingClient",
    "consumer_lent",
    "idle_consumers",
    "listed",
]


NETWORK: dict[str, object] = {
    "connections.max.idle.ms": 180_000,  # firewalls forget after 4 minutes, and tell nobody
    "reconnect.backoff.max.ms": 2_000,  # by default a broker that is back waits 10 s for us
}
"""What every client of ours begins with; a user's settings win."""

_STATISTICS_SECONDS = 2
_MOST_LISTED = 8
_LEARN_SECONDS = 0.5
_DEFAULTS: dict[str, object] = {
    **NETWORK,
    "group.id": "batch-collection",  # librdkafka wants one; no group is joined
    "isolation.level": "read_committed",
    "fetch.queue.backoff.ms": 5,  # by default a partition rests 1 s whenever its queue is full
    "fetch.wait.max.ms": 10,  # at a partition's end a fetch waits, and the next read behind it
    "fetch.message.max.bytes": 256 << 10,  # of a partition, compressed: it may unpack to much more
    "queued.max.messages.kbytes": 16_384,  # of each client: small topics are read by several
    # a fetch that a slow link can't bring in time is asked for anew for ever; see is_receiving
    "socket.timeout.ms": 300_000,
}
_FIXED: dict[str, object] = {
    "enable.auto.commit": False,
    "enable.auto.offset.store": False,
    "enable.partition.eof": True,
    "auto.offset.reset": "error",  # any other jumps over deleted messages in silence
    "allow.auto.create.topics": False,
    "statistics.interval.ms": _STATISTICS_SECONDS * 1000,
}
_HANG_UP = re.compile(
    r"Disconnected: .*\(after \d{1,3}ms in state (APIVERSION_QUERY|AUTH\w*|SSL_HANDSHAKE|UP)\)"
)
_HTTP = f"Invalid response size {int.from_bytes(b'HTTP', 'big')}"
_SILENCE = {KafkaError._TIMED_OUT, KafkaError._TRANSPORT}  # noqa: SLF001 - their names
_CONFIG = "--consumer_config or -X"

_logger = logging.getLogger(__name__)


class ClientLog:
    """Takes what a librdkafka client logs and reports: to Python's log, and the last error's text.

    Pass it as the client's ``logger`` and ``failed`` as its ``error_cb``.

    Attributes:
        reason: the last error's text.
        hangs_up: a broker has closed a connection right after it was opened.
        nobody: no broker at all could be connected to.
    """

    def __init__(self) -> None:
        """Start with nothing to tell."""
        self.reason = ""
        self.hangs_up = self.nobody = False
        self._refusal: tuple[str, str] | None = None

    def log(self, _level: int, form: str, *values: object) -> None:
        """Log a line of the client's at debug level; some things are told in no other way."""
        _logger.debug(form, *values)
        if _HANG_UP.search(form % values):
            self.hangs_up = True

    def failed(self, error: KafkaError) -> None:
        """Remember an error, and the first one that makes trying again useless: ``refused``."""
        if self._refusal is not None:
            return
        code, text = error.code(), error.str().partition(" (after ")[0]
        if code == KafkaError._AUTHENTICATION:  # noqa: SLF001 - its name
            self._refusal = "refuses the login", "the login"
        elif "SSL routines" in text and "unexpected eof" not in text:  # not one that goes away
            self._refusal = "and we can't agree on TLS", "security.protocol and ssl.*"
        if code == KafkaError._ALL_BROKERS_DOWN:  # noqa: SLF001
            self.nobody = True
        elif _HTTP in text:
            self.nobody, self.reason = True, "it speaks HTTP, not Kafka's protocol"
        else:
            self.reason = text

    @property
    def refused(self) -> bool:
        """Whether the broker doesn't accept who we are, or we don't accept who it is."""
        return self._refusal is not None

    def forget(self) -> None:
        """Forget the last error."""
        self.reason, self._refusal = "", None
        self.hangs_up = self.nobody = False

    def error(self, servers: object, doing: str, error: KafkaError | None = None) -> SourceError:
        """Return what to raise where a client of ``servers`` failed, with the best reason known."""
        if self._refusal is not None:
            what, cure = self._refusal
            told = f"kafka at {servers} {what}: {self.reason}; fix {cure} in {_CONFIG}"
            return SourceError(f"cannot {doing}: {told}")
        if error is not None and error.code() > 0:  # the broker's own; librdkafka's are negative
            return SourceError(f"cannot {doing}: kafka at {servers} answers: {error.str()}")
        is_told = error is not None and error.code() not in _SILENCE
        reason = self.reason or (error.str() if error is not None and is_told else "it is silent")
        cure = "check --bootstrap_servers"
        if self.hangs_up:
            reason = f"it closes connections at once ({reason})"
            cure += f", and security.protocol in {_CONFIG}"
        return SourceError(f"cannot {doing}: no answer from kafka at {servers}: {reason}; {cure}")


class ReadingClient:
    """A consumer and its log.

    Attributes:
        is_receiving: a broker is in the midst of a long answer, as librdkafka's last statistics
            have it; no message comes meanwhile.
    """

    def __init__(self, config: Mapping[str, object]) -> None:
        """Start a consumer that is assigned nothing.

        Raises:
            SourceError: librdkafka refuses the settings.
        """
        self.log = ClientLog()
        self.is_receiving = False
        self._received: dict[str, int] = {}  # bytes of whole answers, by broker
        self._servers = config.get("bootstrap.servers")
        try:
            self.consumer = self._consumer_of({**_DEFAULTS, **config, **_FIXED})
        except KafkaException as error:
            message = f"bad kafka settings: {error.args[0].str()}; fix --consumer_config or -X"
            raise SourceError(message) from error

    def _consumer_of(self, settings: Mapping[str, object]) -> Consumer:
        callbacks = {"error_cb": self.log.failed, "stats_cb": self.count}
        return Consumer({**settings, **callbacks}, logger=self.log)

    def intake(self) -> Intake:
        """Return what takes messages from it, for one read."""
        return PortableIntake(self.consumer)

    def error(self, doing: str, error: KafkaError | None = None) -> SourceError:
        """Return what to raise where this consumer failed, with the best reason known."""
        return self.log.error(self._servers, doing, error)

    def learn(self, topic: str) -> None:
        """Ask who leads a topic's partitions, before some are assigned.

        librdkafka finds that out by itself, but of topics new to it only once a second. Where no
        answer comes that is what is left: whoever reads sees the silence.
        """
        with suppress(KafkaException):
            self.consumer.list_topics(topic, timeout=_LEARN_SECONDS)

    def count(self, statistics: str) -> None:
        """Compare statistics with the last ones: bytes came, but no whole answer."""
        brokers = json.loads(statistics)["brokers"]
        self.is_receiving = any(
            0 <= broker["rxidle"] < _STATISTICS_SECONDS * 1_000_000
            and broker["rxbytes"] == self._received.get(name)
            for name, broker in brokers.items()
        )
        self._received = {name: broker["rxbytes"] for name, broker in brokers.items()}


_Key: TypeAlias = "tuple[type[ReadingClient], tuple[tuple[str, object], ...]]"


class IdleConsumers:
    """Consumers that nobody reads with just now, by their settings."""

    def __init__(self) -> None:
        """Begin with none."""
        self._clients: dict[_Key, list[ReadingClient]] = {}
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """Return how many there are."""
        with self._lock:
            return sum(map(len, self._clients.values()))

    def taken(
        self, config: Mapping[str, object], kind: type[ReadingClient]
    ) -> ReadingClient | None:
        """Take one with these settings out; None: there is none."""
        with self._lock:
            kept = self._clients.get(_key(config, kind))
            return kept.pop() if kept else None

    def add(self, config: Mapping[str, object], client: ReadingClient) -> None:
        """Keep one for the next read."""
        with self._lock:
            self._clients.setdefault(_key(config, type(client)), []).append(client)

    def close(self) -> None:
        """Close them; those that are lent are closed or kept when they come back."""
        with self._lock:
            clients = list(itertools.chain.from_iterable(self._clients.values()))
            self._clients.clear()
        for client in clients:
            client.consumer.close()


def idle_consumers() -> IdleConsumers:
    """Return those of this process."""
    return current().kept(IdleConsumers, IdleConsumers, IdleConsumers.close)


def _key(config: Mapping[str, object], kind: type[ReadingClient]) -> _Key:
    return kind, tuple(sorted(config.items(), key=lambda item: item[0]))


@contextmanager
def consumer_lent(
    config: Mapping[str, object], what: str, kind: type[ReadingClient]
) -> Iterator[ReadingClient]:
    """Lend a consumer with these settings to one caller; after an error it is closed, not kept.

    Args:
        config: librdkafka's settings.
        what: what it is to read, for errors.
        kind: which client it is to be.

    Raises:
        SourceError: librdkafka refuses the settings, or raised while the consumer was lent.
    """
    idle = idle_consumers()
    client = idle.taken(config, kind) or kind(config)
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
    idle.add(config, client)


def listed(partitions: Iterable[int]) -> str:
    """Name partitions for an error, the first of them if they are many: ``0,3``."""
    numbers = [str(partition) for partition in sorted(partitions)]
    more = [f"and {len(numbers) - _MOST_LISTED} more"] if len(numbers) > _MOST_LISTED else []
    return ",".join(numbers[:_MOST_LISTED] + more)
