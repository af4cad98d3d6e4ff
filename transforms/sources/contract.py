"""What a source gives: messages by their addresses, in slices, and what was lost of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

if TYPE_CHECKING:
    from datetime import datetime


__all__ = ["HEADERS", "MESSAGES", "Answer", "Gap", "Slice"]


class Slice(NamedTuple):
    """Offsets ``[start, end)`` of one partition, read in order by one worker.

    The first ``lost`` of them were already gone when the plan was made.
    """

    topic: str
    partition: int
    start: int
    end: int
    lost: int = 0

    @property
    def first(self) -> int:
        """The first offset that is to be read."""
        return self.start + self.lost


class Gap(NamedTuple):
    """Offsets ``[start, end)`` of a partition that were deleted before they could be read."""

    partition: int
    start: int
    end: int


HEADERS = pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))

MESSAGES = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64()),
        pa.field("value", pa.binary()),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
    ]
)
"""Messages as read. ``timestamp``: milliseconds since the Unix epoch, null if the record has none.
A null ``value`` is a tombstone."""


class Answer(NamedTuple):
    """What the time index says of an instant: the first offset stamped at or after it, its stamp.

    Both are None where there is none, or no index.
    """

    offset: int | None
    timestamp: datetime | None
