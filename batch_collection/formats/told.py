"""What the log tells of a file, and what of it is held against that."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

import pyarrow as pa

from batch_collection.errors import DamagedFileError
from batch_collection.schema.columns import PLACEHOLDER

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = [
    "NO_COLUMN",
    "Outline",
    "Told",
    "Types",
    "check_rows",
    "chosen_columns",
    "outline_of",
    "placeholder_rows",
]


class Outline(NamedTuple):
    """A file's schema, and the rows of each of its groups: what can be read alone, in order.

    ``footer`` is what its format says of it, if that need not be read again.
    """

    schema: pa.Schema
    groups: tuple[int, ...]
    footer: pq.FileMetaData | None = None


Types: TypeAlias = Mapping[str, pa.DataType]
"""What columns are, by name; there may be more of them than a file has."""


class Told(NamedTuple):
    """What the log tells of a file, and how it is read.

    ``rows`` is None where nobody knows. ``types`` gives what its columns may be, the likeliest
    first; it is asked for by formats whose files do not say it themselves. ``footer`` is that of
    its ``Outline``, where it was kept; ``keep`` is given the one that was read instead. ``coded``
    are columns of text that may come as dictionaries.
    """

    rows: int | None
    types: Callable[[], Sequence[Types]]
    footer: pq.FileMetaData | None = None
    coded: frozenset[str] = frozenset()
    keep: Callable[[pq.FileMetaData], object] | None = None


NO_COLUMN = pa.schema([(PLACEHOLDER, pa.bool_())])


def placeholder_rows(told: Told, rows: int = 0) -> pa.Table:
    """Return rows without a column."""
    return pa.table({PLACEHOLDER: pa.nulls(rows or told.rows or 0, pa.bool_())})


def chosen_columns(rows: pa.Table, columns: Sequence[str] | None) -> pa.Table:
    """Return those of some columns that are there."""
    known = rows.column_names
    return rows if columns is None else rows.select([name for name in columns if name in known])


def outline_of(rows: pa.Table) -> Outline:
    """Return the outline of a file that is read whole, as one group."""
    return Outline(rows.schema, (rows.num_rows,))


def check_rows(path: str, found: int, told: int | None) -> None:
    """Compare a file's rows with those that the log tells of.

    Raises:
        DamagedFileError: it has others.
    """
    if told is not None and found != told:
        message = (
            f"cannot read {path}: it has {found} rows, the log says {told}; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message)
