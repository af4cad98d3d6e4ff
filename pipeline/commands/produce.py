"""``batch-collection produce``: sends messages at regular intervals, to try a collector on."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING

from batch_collection.errors import SourceError
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
from pipeline.showing.streams import OutputError
from transforms.sources.samples import sample_message

if TYPE_CHECKING:
    import argparse

    from transforms.sources.kafka.producer import Delivered, SendingClient

__all__ = ["ProduceOptions", "check", "configure", "run"]


_SHORTEST = timedelta(milliseconds=1)


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
    broker.add_argument(
        "--consumer_config",
        metavar="FILE",
        help="file of librdkafka properties, key=value lines, as collect takes it (default: none)",
    )
    configure_config_file(broker)
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
        bootstrap_servers=flags.brokers(),
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
    from transforms.sources.kafka.producer import SendingClient  # noqa: PLC0415 - no flag needs it

    stop, lines = threading.Event(), _Lines(options.records_per_message)
    with stopped_by_signals(stop.set):
        client = SendingClient(options.bootstrap_servers, options.properties, lines.write)
        with said_meanwhile("asking kafka for the topics ..."):
            are_there = _topics_are_there(options, client, stop)
        if are_there:
            _send_all(options, client, stop, lines)
    return 0


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
    options: ProduceOptions, client: SendingClient, stop: threading.Event, lines: _Lines
) -> None:
    """Send round after round until the count is reached or a signal comes."""
    random, due, sent = Random(), time.monotonic(), 0  # noqa: S311 - sample values
    while sent != options.count and not stop.wait(max(0, due - time.monotonic())):
        for topic in options.topics:
            _send(client, topic, sample_message(options.records_per_message, time.time, random))
        client.deliver(stop)
        lines.check()
        sent += 1
        due = max(due + options.every.total_seconds(), time.monotonic())


def _send(client: SendingClient, topic: str, value: bytes) -> None:
    try:
        client.send(topic, value)
    except SourceError as error:
        cure = "lower --records_per_message, or raise it with -X message.max.bytes=N"
        message = f"{error}; {cure}"
        raise SourceError(message) from error


@dataclass(slots=True)
class _Lines:
    """One line for each message that was delivered."""

    records: int
    _failure: OutputError | None = None

    def write(self, place: Delivered) -> None:
        """Print where a message lies."""
        now = datetime.now(timezone.utc)
        noun = "record" if self.records == 1 else "records"
        where = f"{place.topic}[{place.partition}]@{place.offset}"
        try:
            say(f"{now:%H:%M:%S}  {where}  {self.records} {noun}")
        except OutputError as failed:  # to be raised once all are delivered
            self._failure = self._failure or failed

    def check(self) -> None:
        """Raise the first failure to print."""
        if self._failure is not None:
            raise self._failure
