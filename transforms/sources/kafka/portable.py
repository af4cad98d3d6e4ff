"""The portable intake: confluent-kafka's messages, turned into columns by its getters."""

from __future__ import annotations

import gc
from contextlib import contextmanager
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
from confluent_kafka import TIMESTAMP_NOT_AVAILABLE, Message

from transforms.sources.contract import MESSAGES
from transforms.sources.kafka.intake import UNREADABLE, Event, Taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from confluent_kafka import Consumer
    from confluent_kafka._types import HeadersType

__all__ = ["PortableIntake"]


class PortableIntake:
    """An ``Intake`` that needs nothing but confluent-kafka."""

    def __init__(self, consumer: Consumer) -> None:
        """Take from a consumer."""
        self._consumer = consumer
        self._windows: dict[int, tuple[int, int]] = {}
        self._batches: list[pa.RecordBatch] = []
        self._messages = self._bytes = 0

    def expect(self, partition: int, start: int, end: int) -> None:
        """Keep ``[start, end)`` of a partition."""
        self._windows[partition] = start, end

    def take(self, most: int, seconds: float) -> Taken:
        """Wait for messages and events; see ``Intake``."""
        with _uncollected():
            messages = self._consumer.consume(most, seconds)
            came, events = len(messages), _events(messages)
            if events:
                messages = [message for message in messages if message.error() is None]
            positions = self._keep(messages) if messages else {}
        return Taken(came, self._messages, self._bytes, positions, events)

    def _keep(self, messages: list[Message]) -> dict[int, int]:
        """Keep those that lie in a window, and return the positions behind all."""
        partitions, offsets = _places_of(messages)
        last = dict(zip(partitions, offsets, strict=True))  # the highest: offsets rise
        if not all(offset < self._window(each)[1] for each, offset in last.items()):
            messages = [
                message
                for message, partition, offset in zip(messages, partitions, offsets, strict=True)
                if offset in range(*self._window(partition))
            ]
            partitions, offsets = _places_of(messages)
        if messages:
            batch = _batch(messages, partitions, offsets)
            self._batches.append(batch)
            self._messages += len(messages)
            self._bytes += batch.nbytes
        for partition, offset in last.items():
            self._windows[partition] = offset + 1, self._window(partition)[1]
        return {partition: offset + 1 for partition, offset in last.items()}

    def _window(self, partition: int) -> tuple[int, int]:
        return self._windows.get(partition, (0, 0))

    def batch(self) -> pa.RecordBatch | None:
        """Hand over what is kept."""
        batches = self._batches
        self._batches, self._messages, self._bytes = [], 0, 0
        if len(batches) > 1:
            return pa.Table.from_batches(batches).combine_chunks().to_batches()[0]
        return batches[0] if batches else None

    def close(self) -> None:
        """Hold nothing that must be let go."""


def _events(messages: list[Message]) -> list[Event]:
    """Return what is no message."""
    if not any(map(Message.error, messages)):
        return []
    return [
        Event(error, message.partition(), message.offset())
        for message in messages
        if (error := message.error()) is not None
    ]


@contextmanager
def _uncollected() -> Iterator[None]:
    """Hold Python's cycle collector off: messages make no cycles, and it halves the speed."""
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _places_of(messages: list[Message]) -> tuple[list[int], list[int]]:
    """Return the partitions and the offsets of messages; only an error's may be None."""
    partitions = cast("list[int]", list(map(Message.partition, messages)))
    return partitions, cast("list[int]", list(map(Message.offset, messages)))


def _headers(messages: list[Message]) -> list[HeadersType | None]:
    """Return the messages' headers, each asked for once.

    confluent-kafka 2.16 fails over a name that isn't UTF-8; asked again, it returns a broken list.
    """
    found: list[HeadersType | None] = []
    waiting = iter(messages)
    while len(found) < len(messages):
        try:
            found.extend(map(Message.headers, waiting))
        except (SystemError, UnicodeDecodeError):  # what came before is in the list
            found.append([(UNREADABLE, None)])
    return found


def _batch(messages: list[Message], partitions: list[int], offsets: list[int]) -> pa.RecordBatch:
    """Turn messages into columns; no Python runs per message but confluent-kafka's getters."""
    stamped = list(map(Message.timestamp, messages))
    stamps: list[int | None] = list(map(itemgetter(1), stamped))
    if TIMESTAMP_NOT_AVAILABLE in map(itemgetter(0), stamped):
        stamps = [None if kind == TIMESTAMP_NOT_AVAILABLE else stamp for kind, stamp in stamped]
    columns: tuple[Sequence[Any], ...] = (
        partitions,
        offsets,
        stamps,
        list(map(Message.value, messages)),
        list(map(Message.key, messages)),
        _headers(messages),
    )
    arrays = [
        # most messages have no headers, and building a map costs twice what a value does
        pa.nulls(len(messages), field.type)
        if field.name == "headers" and not any(column)
        else pa.array(column, field.type)
        for column, field in zip(columns, MESSAGES, strict=True)
    ]
    return pa.RecordBatch.from_arrays(arrays, schema=MESSAGES)
