"""What takes messages from a consumer: the part of reading that differs between readers."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa
    from confluent_kafka import KafkaError

__all__ = ["UNREADABLE", "Event", "Intake", "Taken"]


UNREADABLE = "(header names are not UTF-8)"
"""The one header, without a value, of a message whose headers can't be had."""


class Event(NamedTuple):
    """What came instead of a message; of the client at large where it is of no partition."""

    error: KafkaError
    partition: int | None
    offset: int | None


class Taken(NamedTuple):
    """What one look brought.

    Attributes:
        came: how many messages and events came of those that were waited for.
        messages: how many messages are kept now.
        bytes: how many bytes they take.
        positions: the offset behind the last message that came, by partition.
        events: what came instead of messages.
    """

    came: int
    messages: int
    bytes: int
    positions: Mapping[int, int]
    events: Sequence[Event]


class Intake(Protocol):
    """Takes messages of some partitions of one topic, for one read."""

    def expect(self, partition: int, start: int, end: int) -> None:
        """Keep offsets ``[start, end)`` of a partition from now on."""

    def take(self, most: int, seconds: float) -> Taken:
        """Wait until so many messages and events are there, but no longer than this.

        Raises:
            KafkaException: librdkafka gives none.
        """

    def batch(self) -> pa.RecordBatch | None:
        """Hand over what is kept, of schema ``MESSAGES``; None: nothing is."""

    def close(self) -> None:
        """Let go of it; the consumer is closed only after this."""
