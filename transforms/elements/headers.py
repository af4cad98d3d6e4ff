"""The headers of messages as a column: a list of key and value, or the map of older collections.

Kafka lets a message give a name twice, which a map can't hold: DuckDB refuses one that does, Polars
keeps the last of them. Within the program headers are always the list.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources.contract import HEADERS

if TYPE_CHECKING:
    from batch_collection.log.entry import Form

__all__ = ["HEADERS_MAP", "headers_as_list", "headers_as_map", "headers_by"]

HEADERS_MAP = pa.map_(pa.string(), pa.binary())


def headers_by(form: Form, rows: pa.Table, name: str = "headers") -> pa.Table:
    """Return rows with that column as files of a collection have it."""
    return headers_as_map(rows, name) if form.headers == "map" else rows


def headers_as_map(rows: pa.Table, name: str = "headers") -> pa.Table:
    """Return rows with a column of ``HEADERS`` as ``HEADERS_MAP``."""
    chunks = [_as_map(chunk) for chunk in rows.column(name).chunks]
    return _with(rows, name, pa.chunked_array(chunks, HEADERS_MAP))


def headers_as_list(rows: pa.Table, name: str = "headers") -> pa.Table:
    """Return rows with a column of either type as ``HEADERS``."""
    return _with(rows, name, rows.column(name).cast(HEADERS))


def _as_map(array: pa.ListArray) -> pa.MapArray:
    entries = array.flatten()  # without those behind nulls and outside of a slice
    lengths = pc.list_value_length(array).fill_null(0).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    keys, values = entries.flatten()
    return pa.MapArray.from_arrays(offsets, keys, values, HEADERS_MAP, mask=array.is_null())


def _with(rows: pa.Table, name: str, column: pa.ChunkedArray) -> pa.Table:
    return rows.set_column(rows.column_names.index(name), name, column)
