"""The columnar intake: messages gathered in C, no Python object for any of them.

confluent-kafka makes the client, and configures, assigns, asks and closes it as ever; ``gather.c``
is a plugin of librdkafka, and so gets to know it.
"""

from __future__ import annotations

import logging
from functools import cache
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from confluent_kafka import Consumer, KafkaError, KafkaException, cimpl

from batch_collection.errors import CollectionError
from transforms.sources.contract import HEADERS, MESSAGES
from transforms.sources.foreign_array import foreign_array
from transforms.sources.kafka.client import ReadingClient
from transforms.sources.kafka.intake import Event, Taken
from transforms.sources.kafka.reader_name import is_built

if is_built():
    from transforms.sources.kafka import gather

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transforms.sources.kafka.reader_name import ReaderName

__all__ = ["ColumnarClient", "ColumnarIntake", "client_of", "why_not"]


_PLUGINS = "plugin.library.paths"
_logger = logging.getLogger(__name__)


class ColumnarClient(ReadingClient):
    """A consumer whose messages are gathered in C."""

    def _consumer_of(self, settings: Mapping[str, object]) -> Consumer:
        """Make it without callbacks: what they would be told is told by the intake."""
        consumer, self._handle = _made(settings)
        return consumer

    def intake(self) -> ColumnarIntake:
        """Return what takes messages from it."""
        return ColumnarIntake(self, self._handle)


class ColumnarIntake:
    """An ``Intake`` that needs ``gather.c``."""

    def __init__(self, client: ColumnarClient, handle: object) -> None:
        """Take from a client."""
        self._client, self._gatherer = client, gather.Gatherer(handle)

    def expect(self, partition: int, start: int, end: int) -> None:
        """Keep ``[start, end)`` of a partition."""
        self._gatherer.expect(partition, start, end)

    def take(self, most: int, seconds: float) -> Taken:
        """Wait for messages and events; let the client hear what librdkafka told meanwhile."""
        milliseconds = round(seconds * 1000)
        came, messages, size, moved, events, told = self._gatherer.gather(most, milliseconds)
        for kind, code, text in told:
            if kind == "error":
                self._client.log.failed(KafkaError(code, text))
            elif kind == "log":
                self._client.log.log(code, "%s", text)
            else:
                self._client.count(text)
        happened = [Event(KafkaError(code, text), *place) for code, text, *place in events]
        return Taken(came, messages, size, dict(moved), happened)

    def batch(self) -> pa.RecordBatch | None:
        """Hand over what is kept, without a copy."""
        taken = self._gatherer.take()
        if taken is None:
            return None
        partitions, offsets, ((rows, nulls, validity, *_), stamps), values, keys, headers = taken
        columns = [
            foreign_array(MESSAGES.field("partition").type, rows, [partitions]),
            foreign_array(MESSAGES.field("offset").type, rows, [offsets]),
            foreign_array(MESSAGES.field("timestamp").type, rows, [stamps], nulls, validity),
            _binary(pa.binary(), values),
            _binary(pa.binary(), keys),
            _headers(headers),
        ]
        return pa.RecordBatch.from_arrays(columns, schema=MESSAGES)

    def close(self) -> None:
        """Let go of the consumer's queue."""
        self._gatherer.close()


@cache
def why_not() -> str:
    """Return why messages can't be gathered in C here; nothing: they can."""
    if not is_built():
        return "it was not built when this was installed, as without a C compiler (cc) on PATH"
    try:
        gather.bind(cimpl.__file__)
        consumer, _ = _made({"group.id": "tried out"})
        consumer.close()
    except (OSError, KafkaException) as error:
        return str(error)
    return ""


def _made(settings: Mapping[str, object]) -> tuple[Consumer, object]:
    """Make a consumer with the plugin; return librdkafka's own client, too."""
    plugins = [str(settings[_PLUGINS])] if _PLUGINS in settings else []
    consumer = Consumer({**settings, _PLUGINS: ";".join([*plugins, gather.__file__])})
    return consumer, gather.newest_client()


def client_of(reader: ReaderName) -> type[ReadingClient]:
    """Return what a reader reads with; once a process it is told where ``auto`` must do without.

    Raises:
        CollectionError: it is ``columnar``, which can't be had.
    """
    if reader == "portable":
        return ReadingClient
    reason = why_not()
    if not reason:
        return ColumnarClient
    if reader == "columnar":
        message = f"--reader=columnar can't be had: {reason}; use auto or portable"
        raise CollectionError(message)
    _tell_once(reason)
    return ReadingClient


@cache
def _tell_once(reason: str) -> None:
    _logger.warning("reading takes more CPU without the columnar reader: %s", reason)


def _binary(of: pa.DataType, given: Any) -> pa.Array:
    (rows, nulls, validity, ends), values = given
    return foreign_array(of, rows, [ends, values], nulls, validity)


def _headers(given: Any) -> pa.Array:
    (rows, nulls, validity, ends), names, values = given
    if nulls == rows:
        return pa.nulls(rows, HEADERS)
    fields = [_binary(pa.string(), names), _binary(pa.binary(), values)]
    items = foreign_array(HEADERS.value_type, len(fields[0]), [], children=fields)
    return foreign_array(HEADERS, rows, [ends], nulls, validity, [items])
