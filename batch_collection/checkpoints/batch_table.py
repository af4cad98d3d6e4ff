"""The batches that entries name, as a table: what millions of them take little memory in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.log.batch import Batch
from batch_collection.log.file_types import FileTypes
from batch_collection.windows import from_microseconds, microseconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["LISTED", "batches_in", "listed"]


_INSTANT = pa.timestamp("us", "UTC")

LISTED = pa.schema(
    {
        "cycle": pa.int64(),
        "number": pa.int32(),
        "window_start": _INSTANT,
        "window_end": _INSTANT,
        "timing": pa.string(),
        "rows": pa.int64(),
        "bytes": pa.int64(),
        "path": pa.string(),
        "staged": pa.string(),
    }
)
"""One row a batch file, as ``Batch`` has them; ``staged`` is null where it is known to be moved."""


def listed(entries: Iterable[Entry]) -> pa.Table:
    """Return the batches of entries, in their order, as ``LISTED``."""
    rows = [
        (entry.cycle, number, *_of_pane(pane), file.rows, file.bytes, file.path, file.staged)
        for entry in entries
        for number, (pane, file) in enumerate(
            (pane, file) for pane in entry.panes for file in pane.files
        )
    ]
    columns = zip(*rows, strict=True) if rows else [()] * len(LISTED)
    arrays = [pa.array(values, field.type) for values, field in zip(columns, LISTED, strict=True)]
    return pa.Table.from_arrays(arrays, schema=LISTED)


def _of_pane(pane: Any) -> tuple[int, int, str]:
    return microseconds(pane.window_start), microseconds(pane.window_end), pane.timing


def batches_in(storage: Storage, table: pa.Table) -> Iterator[Batch]:
    """Yield the batches of a table as ``LISTED``, in its order."""
    instants: dict[int, datetime] = {}
    types = FileTypes(storage)
    for part in table.to_batches():
        for name in ("window_start", "window_end"):
            for value in part.column(name).cast(pa.int64()).unique().to_pylist():
                instants.setdefault(value, from_microseconds(value))
        columns = [
            column.cast(pa.int64()) if pa.types.is_timestamp(column.type) else column
            for column in part.columns
        ]
        for cycle, number, start, end, timing, rows, size, path, staged in zip(
            *(column.to_pylist() for column in columns), strict=True
        ):
            yield Batch(
                window_start=instants[start],
                window_end=instants[end],
                timing=timing,
                cycle=cycle,
                number=number,
                rows=rows,
                path=path,
                _storage=storage,
                _staged=staged or path,
                _bytes=size,
                _types=types,
            )
