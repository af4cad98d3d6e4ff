"""The rows of a snapshot, those of each window in the order of a column."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError
from batch_collection.field_path import split_path
from batch_collection.reading.order import Slice
from batch_collection.reading.splits import leaf_at, leaf_type
from batch_collection.schema.arrow import joined
from batch_collection.schema.taking import taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_collection.reading.row_sequence import RowSequence

__all__ = ["OrderedWindows"]


@dataclass(frozen=True)
class OrderedWindows:
    """A sequence whose pieces are whole windows, each sorted by the column at ``path`` when read.

    Rows that are equal there stay as they were; nulls come last.
    """

    sequence: RowSequence
    path: tuple[str, ...]

    @classmethod
    def of(cls, sequence: RowSequence, by: str) -> OrderedWindows:
        """Order by a column, or a field of one.

        Raises:
            CollectionError: there is no such column, or its values have no order.
        """
        fields = sequence.unified.fields
        path = split_path(by, fields.__contains__)
        found = leaf_type(pa.struct(list(fields.items())), path)
        if found is None:
            message = f"order_by names {by}; there are: {', '.join(fields) or 'none'}"
            raise CollectionError(message)
        if pa.types.is_nested(found) or path[0] in sequence.unified.conflicts:
            message = f"order_by must be a column of numbers, text or instants; {by} is {found}"
            raise CollectionError(message)
        return cls(sequence, path)

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """How many rows each window has."""
        counts = self.sequence.rows
        return tuple(sum(counts[piece] for piece in pieces) for pieces in self.windows)

    def in_turn(self) -> Iterator[int]:
        """Yield the windows, by their numbers."""
        return iter(range(len(self.rows)))

    def rows_of(self, piece: int) -> int:
        """Return how many rows a window has."""
        return self.rows[piece]

    def load(self, slices: Sequence[Slice], schema: pa.Schema) -> pa.Table:
        """Read rows, those columns only; ``slices`` count the ordered rows of windows."""
        return joined((self._load(each, schema) for each in slices), schema)

    @cached_property
    def windows(self) -> tuple[tuple[int, ...], ...]:
        """The pieces of each window, by their numbers."""
        batches, pieces = self.sequence.batches, self.sequence.pieces
        return tuple(
            tuple(numbers)
            for _, numbers in groupby(
                range(len(pieces)), lambda number: batches[pieces[number].batch].window_start
            )
        )

    def _load(self, part: Slice, schema: pa.Schema) -> pa.Table:
        counts, key = self.sequence.rows, self.path[0]
        read = schema
        if key not in schema.names:
            read = schema.append(pa.field(key, self.sequence.unified.fields[key]))
        whole = [Slice(piece, 0, counts[piece]) for piece in self.windows[part.piece]]
        rows = self.sequence.load([each for each in whole if each.stop], read)
        order = pc.sort_indices(leaf_at(rows, self.path)).to_numpy().view(np.int64)
        return taken(rows.select(schema.names), order[part.start : part.stop])
