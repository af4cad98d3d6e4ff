"""``batch-collection produce``: sends messages at regular intervals, to try a collector on."""

from __future__ import annotations

import re
import threading
import time
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING, Protocol

from batch_collection.counted import counted
from batch_collection.errors import SourceError
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags, configure_endpoint, configure_properties
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
from pipeline.showing.streams import OutputError
from transforms.sources.samples import sample_message

if TYPE_CHECKING:
    import argparse

    from transforms.sources.kafka.producer import Delivered, SendingClient
    from transforms.sources.pubsub.publisher import Publisher

__all__ = ["ProduceOptions", "check", "configure", "run"]


_SHORTEST = timedelta(milliseconds=1)
_MOST_PARTITIONS, _MOST_RECORDS = 100_000, 1_000_000
_TOPIC = re.compile(r"projects/[^/\s]+/topics/[^/\s]+")


@dataclass(frozen=True, slots=True)
class ProduceOptions:
    """``count`` is in messages a topic, None for no end; ``partitions`` None creates no topic.

    ``is_pubsub``: topics are paths of Pub/Sub's, at ``endpoint``; else of Kafka at
    ``bootstrap_servers``.
    """

    bootstrap_servers: str
    topics: tuple[str, ...]
    records_per_message: int
    every: timedelta
    count: int | None
    partitions: int | None
    properties: dict[str, str]
    is_pubsub: bool
    endpoint: str | None


class _Sender(Protocol):
    """What messages are handed to; its line is written once one has arrived."""

    def send(self, topic: str, value: bytes) -> None: ...

    def deliver(self, stop: threading.Event) -> None: ...


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags, in groups; values stay text until ``check``."""
    broker = parser.add_argument_group("broker")
    _configure_kafka(broker)
    _configure_pubsub(broker)
    broker.add_argument(
        "--create_topics",
        action="store_true",
        help="create topics that are missing (default: a missing topic is an error)",
    )
    configure_config_file(broker)
    _configure_messages(parser.add_argument_group("messages"))


def _configure_kafka(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--bootstrap_servers",
        metavar="HOST:PORT,...",
        help="Kafka's brokers (required for Kafka)",
    )
    group.add_argument(
        "--topics", metavar="A,B", help="Kafka's topics to send to (required for Kafka)"
    )
    group.add_argument(
        "--partitions",
        metavar="N",
        default="4",
        help="partitions of each topic created in Kafka (default: 4)",
    )
    configure_properties(group)


def _configure_pubsub(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--topic",
        metavar="projects/P/topics/T,...",
        help="Pub/Sub's topics to send to, instead of Kafka's",
    )
    configure_endpoint(group)


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
    partitions = flags.number("partitions", most=_MOST_PARTITIONS)
    is_pubsub = bool(args.topic)
    if is_pubsub:
        flags.refuse(_configure_kafka, "is for Kafka, and --topic sends to Pub/Sub")
        servers, topics = "", _pubsub_topics(flags)
    else:
        flags.refuse(_configure_pubsub, "is for Pub/Sub, and --topics sends to Kafka")
        servers = flags.brokers()
        topics = flags.names("topics", "name one or more, as batch-topic")
    options = ProduceOptions(
        bootstrap_servers=servers,
        topics=topics,
        records_per_message=flags.number("records_per_message", most=_MOST_RECORDS),
        every=flags.pause("every", _SHORTEST),
        count=None if args.count is None else flags.number("count"),
        partitions=partitions if args.create_topics else None,
        properties={} if is_pubsub else flags.properties(),
        is_pubsub=is_pubsub,
        endpoint=flags.endpoint(),
    )
    flags.done()
    return options


def _pubsub_topics(flags: Flags) -> tuple[str, ...]:
    """Return the topics, which are Pub/Sub's."""
    topics = flags.names("topic")
    for path in topics:
        flags.check(
            _TOPIC.fullmatch(path), f"--topic must be projects/PROJECT/topics/NAME, got {path!r}"
        )
    return topics


def run(options: ProduceOptions) -> int:
    """Send one message to each topic every ``--every``, the first at once, one line for each.

    Returns 0 after ``--count`` messages, or on SIGINT or SIGTERM once all is delivered.

    Raises:
        SourceError: nobody answers, a topic is missing, or a message could not be delivered.
        OutputError: its line can't be printed; the messages of its round are delivered.
    """
    stop, lines = threading.Event(), _Lines(options.records_per_message)
    with stopped_by_signals(stop.set):
        send = _send_to_pubsub if options.is_pubsub else _send_to_kafka
        send(options, stop, lines)
    return 0


def _send_to_kafka(options: ProduceOptions, stop: threading.Event, lines: _Lines) -> None:
    from transforms.sources.kafka.producer import SendingClient  # noqa: PLC0415 - no flag needs it

    def delivered(place: Delivered) -> None:
        lines.write(f"{place.topic}[{place.partition}]@{place.offset}")

    client = SendingClient(options.bootstrap_servers, options.properties, delivered)
    with said_meanwhile(f"waiting for kafka at {options.bootstrap_servers} ..."):
        are_there = _topics_are_there(options, client, stop)
    if are_there:
        _send_all(options, _Kafka(client), stop, lines)


def _send_to_pubsub(options: ProduceOptions, stop: threading.Event, lines: _Lines) -> None:
    from transforms.sources.pubsub.settings import require_client  # noqa: PLC0415 - as this

    require_client()
    from transforms.sources.pubsub.publisher import Publisher  # noqa: PLC0415 - no flag needs it

    with closing(Publisher(options.endpoint)) as publisher:
        if options.partitions is not None:
            for topic in options.topics:
                publisher.create(topic)
        _send_all(options, _PubSub(publisher, lines), stop, lines)


def _topics_are_there(
    options: ProduceOptions, client: SendingClient, stop: threading.Event
) -> bool:
    """See that all topics are there, or create them; False if a signal came before that."""
    missing = [topic for topic in options.topics if not client.is_there(topic, stop)]
    if stop.is_set():
        return False
    if missing and options.partitions is None:
        message = (
            f"no topic {', '.join(missing)} at {options.bootstrap_servers}; "
            "give another name with --topics, or add --create_topics"
        )
        raise SourceError(message)
    if missing:
        client.create(missing, options.partitions or 1)
    return True


def _send_all(
    options: ProduceOptions, sender: _Sender, stop: threading.Event, lines: _Lines
) -> None:
    """Send round after round until the count is reached or a signal comes."""
    random, due, sent = Random(), time.monotonic(), 0  # noqa: S311 - sample values
    while sent != options.count and not stop.wait(max(0, due - time.monotonic())):
        for topic in options.topics:
            sender.send(topic, sample_message(options.records_per_message, time.time, random))
        sender.deliver(stop)
        lines.check()
        sent += 1
        due = max(due + options.every.total_seconds(), time.monotonic())


@dataclass(frozen=True, slots=True)
class _Kafka:
    """Sends to Kafka."""

    client: SendingClient

    def send(self, topic: str, value: bytes) -> None:
        try:
            self.client.send(topic, value)
        except SourceError as error:
            cure = "lower --records_per_message, or raise it with -X message.max.bytes=N"
            message = f"{error}; {cure}"
            raise SourceError(message) from error

    def deliver(self, stop: threading.Event) -> None:
        self.client.deliver(stop)


@dataclass(frozen=True, slots=True)
class _PubSub:
    """Sends to Pub/Sub, which has a message once it has given it an id."""

    publisher: Publisher
    lines: _Lines

    def send(self, topic: str, value: bytes) -> None:
        (name,) = self.publisher.publish(topic, [value])
        self.lines.write(f"{topic}  message {name}")

    def deliver(self, stop: threading.Event) -> None:
        pass


@dataclass(slots=True)
class _Lines:
    """One line for each message that was delivered."""

    records: int
    _failure: OutputError | None = None

    def write(self, where: str) -> None:
        """Print where a message lies."""
        now = datetime.now(timezone.utc)
        try:
            say(f"{now:%H:%M:%S}  {where}  {counted(self.records, 'record')}")
        except OutputError as failed:  # to be raised once all are delivered
            self._failure = self._failure or failed

    def check(self) -> None:
        """Raise the first failure to print."""
        if self._failure is not None:
            raise self._failure
