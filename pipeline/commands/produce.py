"""``batch-collection produce``: sends messages at regular intervals, to try a collector on."""

from __future__ import annotations

import concurrent.futures
import json
import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import partial
from random import Random
from typing import TYPE_CHECKING

from confluent_kafka import KafkaError, KafkaException, Producer
from confluent_kafka.admin import AdminClient, NewTopic

from batch_collection.errors import SourceError
from pipeline.options.flags import Flags
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.streams import OutputError
from transforms.sources.kafka.client import ClientLog

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Sequence

    from confluent_kafka import Message

__all__ = ["ProduceOptions", "check", "configure", "records", "run"]


CONNECT_TIMEOUT = timedelta(seconds=10)
_SHORTEST = timedelta(milliseconds=1)
_LAST_FLUSH_SECONDS = 0.7  # a signal ends the program within a second
_TICK_SECONDS = 0.2
_DEFAULTS = {
    "acks": "all",
    "message.timeout.ms": "10000",  # librdkafka's five minutes look like a hang
}


@dataclass(frozen=True, slots=True)
class ProduceOptions:
    """``count`` is in messages a topic, None for no end; ``partitions`` None creates no topic."""

    bootstrap_servers: str
    topics: tuple[str, ...]
    records_per_message: int
    every: timedelta
    count: int | None
    partitions: int | None
    properties: dict[str, str]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags, in groups; values stay text until ``check``."""
    broker = parser.add_argument_group("broker")
    broker.add_argument("--bootstrap_servers", metavar="HOST:PORT,...", help="brokers (required)")
    broker.add_argument("--topics", metavar="A,B", help="topics to send to (required)")
    broker.add_argument(
        "--create_topics",
        action="store_true",
        help="create topics that are missing (default: a missing topic is an error)",
    )
    broker.add_argument(
        "--partitions",
        metavar="N",
        default="4",
        help="partitions of each topic created (default: 4)",
    )
    broker.add_argument(
        "-X",
        dest="properties",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one librdkafka property of the producer (security.protocol, ...); may be repeated",
    )
    _configure_messages(parser.add_argument_group("messages"))


def _configure_messages(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--records_per_message",
        metavar="N",
        default="10",
        help="records in each message, a JSON array of {timestamp, value} (default: 10)",
    )
    group.add_argument(
        "--every",
        metavar="DURATION",
        default="10s",
        help="time between two messages of a topic: 10s, 1m, 250ms (default: 10s)",
    )
    group.add_argument("--count", metavar="N", help="messages a topic, then stop (default: no end)")


def check(args: argparse.Namespace) -> ProduceOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    partitions = flags.number("partitions")
    options = ProduceOptions(
        bootstrap_servers=flags.given("bootstrap_servers", "name a broker, as localhost:9092"),
        topics=flags.names("topics", "name one or more, as batch-topic"),
        records_per_message=flags.number("records_per_message"),
        every=flags.duration("every", _SHORTEST),
        count=None if args.count is None else flags.number("count"),
        partitions=partitions if args.create_topics else None,
        properties=flags.properties(),
    )
    flags.done()
    return options


def run(options: ProduceOptions) -> int:
    """Send one message to each topic every ``--every``, the first at once, one line for each.

    Returns 0 after ``--count`` messages, or on SIGINT or SIGTERM once all is delivered.

    Raises:
        SourceError: no broker answers, a topic is missing, or a message could not be delivered.
        OutputError: its line can't be printed; the messages of its round are delivered.
    """
    stop = threading.Event()
    with stopped_by_signals(stop.set):
        producer = _Producer(options, stop)
        if producer.find_topics():
            producer.send_all()
    return 0


def records(count: int, clock: Callable[[], float], random: Random) -> bytes:
    """Return one message: a JSON array of ``count`` records, values from 0 to 100.

    ``clock`` tells seconds since the Unix epoch.
    """
    made = [
        {"timestamp": round(clock(), 3), "value": round(random.uniform(0, 100), 2)}
        for _ in range(count)
    ]
    return json.dumps(made).encode()


class _Producer:
    """A librdkafka producer, and what it said last."""

    def __init__(self, options: ProduceOptions, stop: threading.Event) -> None:
        self._options, self._stop = options, stop
        self._log = ClientLog()
        self._undelivered: list[str] = []
        self._untold: list[OutputError] = []
        settings = {
            **_DEFAULTS,
            **options.properties,
            "bootstrap.servers": options.bootstrap_servers,
            "allow.auto.create.topics": "false",
        }
        try:
            self._client = Producer({**settings, "error_cb": self._log.failed}, logger=self._log)
        except KafkaException as error:
            message = f"cannot start a producer: {_text(error)}; see the properties given with -X"
            raise SourceError(message) from error

    def find_topics(self) -> bool:
        """See that all topics are there, or create them; False if a signal came before that."""
        missing = [topic for topic in self._options.topics if not self._is_there(topic)]
        if self._stop.is_set():
            return False
        if missing and self._options.partitions is None:
            message = (
                f"no topic {', '.join(missing)} at {self._options.bootstrap_servers}; "
                "give another name with --topics, or add --create_topics"
            )
            raise SourceError(message)
        if missing:
            self._create(missing, self._options.partitions or 1)
        return True

    def send_all(self) -> None:
        """Send round after round until the count is reached or a signal comes."""
        random, due, sent = Random(), time.monotonic(), 0  # noqa: S311 - sample values
        while sent != self._options.count and not self._stop.wait(max(0, due - time.monotonic())):
            self._send_round(random)
            sent += 1
            due = max(due + self._options.every.total_seconds(), time.monotonic())

    def _is_there(self, topic: str) -> bool:
        """Ask for a topic until a broker answers; asking creates nothing."""
        deadline = time.monotonic() + CONNECT_TIMEOUT.total_seconds()
        while not self._stop.is_set():
            try:
                found = self._client.list_topics(topic, timeout=_TICK_SECONDS).topics[topic].error
            except KafkaException as error:
                self._client.poll(0)  # lets it say what is wrong
                if time.monotonic() < deadline and not self._log.refused:
                    continue
                servers = self._options.bootstrap_servers
                raise self._log.error(servers, f"send to {topic}", error.args[0]) from error
            if found is None:
                return True
            if found.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return False
            if found.code() != KafkaError.LEADER_NOT_AVAILABLE or time.monotonic() > deadline:
                message = f"cannot send to topic={topic}: {found.str()}"
                raise SourceError(message)
            self._stop.wait(_TICK_SECONDS)
        return False

    def _create(self, topics: Sequence[str], partitions: int) -> None:
        connection = {"bootstrap.servers": self._options.bootstrap_servers}
        admin = AdminClient({**self._options.properties, **connection}, logger=self._log)
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

    def _send_round(self, random: Random) -> None:
        """Send one message to each topic, and wait until the brokers have them."""
        for topic in self._options.topics:
            value = records(self._options.records_per_message, time.time, random)
            report = partial(self._report, topic)
            try:
                self._client.produce(topic, value, on_delivery=report)
            except KafkaException as error:
                message = (
                    f"cannot send to topic={topic}: {_text(error)}, {len(value)} bytes; "
                    "lower --records_per_message, or raise it with -X message.max.bytes=N"
                )
                raise SourceError(message) from error
        left = len(self._client)
        while left and not self._stop.is_set():
            left = self._client.flush(_TICK_SECONDS)
        if left and self._client.flush(_LAST_FLUSH_SECONDS):
            self._undelivered.append(f"stopped before {left} messages were delivered")
        if self._undelivered:
            raise SourceError(self._undelivered[0])
        if self._untold:
            raise self._untold[0]

    def _report(self, topic: str, error: KafkaError | None, sent: Message) -> None:
        if error is not None:
            reason = f"{error.str()}{self._log.reason and f' ({self._log.reason})'}"
            message = (
                f"cannot deliver to topic={topic}: {reason}; "
                f"see that the brokers of {self._options.bootstrap_servers} run"
            )
            self._undelivered.append(message)
            return
        now = datetime.now(timezone.utc)
        count = self._options.records_per_message
        noun = "record" if count == 1 else "records"
        place = f"{topic}[{sent.partition()}]@{sent.offset()}"
        try:
            print(f"{now:%H:%M:%S}  {place}  {count} {noun}", flush=True)
        except OutputError as failed:  # to be raised once all are delivered
            self._untold.append(failed)


def _code(error: BaseException) -> int | None:
    return error.args[0].code() if isinstance(error, KafkaException) else None


def _text(error: BaseException) -> str:
    """Return what librdkafka says, without its codes."""
    if isinstance(error, KafkaException):
        return str(error.args[0].str())
    return str(error) or "no answer"
