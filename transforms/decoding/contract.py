"""What a decoder is asked, and what has become of a chunk's messages so far, while it is read."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from batch_collection.log.entry import FORMAT, FORMS
from batch_collection.schema.types import count_leaves, merge, merge_types
from transforms.decoding.json_value import RETYPE

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy as np
    import numpy.typing as npt
    import pyarrow as pa

    from batch_collection.schema.types import Schema
    from transforms.decoding.rules import RowRules

__all__ = [
    "MAX_COLUMNS",
    "MAX_SCHEMA_TEXT",
    "Columns",
    "Decoder",
    "Piece",
    "Reading",
    "SchemaChange",
    "array_of",
    "grow",
    "halves",
    "reason_of",
    "too_much",
]


MAX_COLUMNS = 1000
"""How many columns, structs counted by their fields, messages may give a collection."""

MAX_SCHEMA_TEXT = 100_000
"""How many characters of JSON those columns may take: every later entry of the log holds them."""


class SchemaChange(Exception):  # noqa: N818 - no failure: the cycle is planned again
    """A column that this cycle has first seen holds integers, and now a fraction came.

    ``schema`` is the payload schema with that column as double: pin it and plan again.
    """

    def __init__(self, schema: Schema) -> None:
        super().__init__("a column first seen in this cycle holds integers and fractions")
        self.schema = schema

    def __reduce__(self) -> tuple[Any, ...]:
        return SchemaChange, (self.schema,)


@dataclass(frozen=True, slots=True)
class Piece:
    """Rows made of some messages; all numbers of messages are their places in the chunk.

    ``read`` are the messages it accounts for, ``messages`` the message of each row, ``index`` the
    row's place in its message (None: each message makes one row, and is no array).
    """

    read: npt.NDArray[np.int64]
    messages: npt.NDArray[np.int64]
    index: npt.NDArray[np.int32] | None
    payload: pa.StructArray


class Reading(NamedTuple):
    """The pieces read, the reasons of messages that made no row, the schema known in the end.

    ``untyped`` is where rows say null for objects and arrays of no type (``schema.untyped``).
    """

    pieces: list[Piece]
    faults: dict[int, str]
    schema: Schema
    untyped: Schema


@dataclass(frozen=True, slots=True)
class Columns:
    """What is known of a collection's columns when a chunk is read.

    ``known`` is ``pinned`` (the plan's) and what earlier chunks of the task added; only the latter
    may become other types. ``fold`` is the collection's (``Form``): new columns whose names it
    takes for one are refused. Those that were ``dropped``, which have the types that they had, are
    left out, whatever messages hold under their names.
    """

    pinned: Schema
    known: Schema
    fold: str = FORMS[FORMAT].fold
    dropped: Schema = field(default_factory=dict)


class Decoder(Protocol):
    """Reads the messages of a chunk (``MESSAGES``): what they hold becomes rows.

    Law: every live message is in exactly one of the pieces read and the faults, under its own
    place, whatever its bytes or its neighbours'; a tombstone, whose value is null, is in neither.
    A message makes its rows as a whole or none; given the types, they do not depend on the chunk.

    Raises:
        SchemaChange: a column that is known, but not pinned, must become double.
        CollectionError: what decodes is at fault, whatever is sent.
    """

    def __call__(self, messages: pa.Table, columns: Columns, rules: RowRules) -> Reading:
        """Return what became of each message, and the schema with what they add to it."""


def array_of(column: pa.ChunkedArray) -> pa.Array:
    """Return a column as one array, not copied if it is one."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def grow(known: Schema, pinned: Schema, found: Schema) -> Schema:
    """Return ``known`` with what ``found`` adds; pinned types stay, others may become double.

    ``known`` holds all that is pinned.
    """
    bound = {
        name: merge_types(pinned[name], type_, widen=False) if name in pinned else type_
        for name, type_ in found.items()
    }
    return merge(known, bound)


def too_much(grown: Schema, known: Schema, *, times: int = 1) -> str | None:
    """Say of what ``grown``, which adds to ``known``, has more than messages may give; None: fine.

    What is known already, by ``--schema`` for example, may be more; ``times`` raises the limits.
    """
    text = len(json.dumps(grown))
    if text > times * MAX_SCHEMA_TEXT and text > len(json.dumps(known)):
        return f"more than {MAX_SCHEMA_TEXT} characters of names and types of columns"
    if count_leaves(grown) > max(times * MAX_COLUMNS, count_leaves(known)):
        return f"more than {MAX_COLUMNS} columns"
    return None


def halves(numbers: npt.NDArray[np.int64]) -> Iterator[npt.NDArray[np.int64]]:
    """Yield the first and the second half."""
    middle = len(numbers) // 2
    yield numbers[:middle]
    yield numbers[middle:]


def reason_of(error: Exception) -> str:
    """Return pyarrow's text as a dead letter's reason."""
    text = re.sub(r" in row \d+$", "", str(error).strip().splitlines()[0].rstrip("."))
    return f"{text}; fix the sender, or give the column another type: {RETYPE}"
