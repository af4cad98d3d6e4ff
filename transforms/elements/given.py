"""What users give to ``CollectBatches``: a row, or many, as bytes on the way to a pane."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import pyarrow as pa
from apache_beam import Row, coders
from apache_beam.utils.timestamp import Timestamp

from batch_collection.errors import CollectionError
from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Given", "read_given", "write_given"]


Given: TypeAlias = "dict[str, Any] | pa.Table"
"""A row by the names of its columns, or many rows."""

_ROW, _TABLE = b"r", b"t"
_CODER = coders.FastPrimitivesCoder()
_AS_THEY_ARE = {type(None), bool, int, float, str, bytes, datetime, date, Decimal}


def write_given(element: Any) -> bytes:
    """Return the bytes of an element, the same for the same element; empty: it has no row.

    Raises:
        CollectionError: it is neither a row nor a table of rows.
    """
    if isinstance(element, pa.RecordBatch):
        element = pa.Table.from_batches([element])
    if isinstance(element, pa.Table):
        return _TABLE + write_ipc(element).to_pybytes() if element.num_rows else b""
    row = _plain(element)
    if not isinstance(row, dict):
        message = (
            f"CollectBatches got {element!r:.80}, a {type(element).__name__}; give it dictionaries,"
            " NamedTuples, beam.Row, pyarrow.Table or pyarrow.RecordBatch"
        )
        raise CollectionError(message)
    return _ROW + _CODER.encode(row)


def read_given(content: bytes) -> Given:
    """Return the element of which ``write_given`` made bytes."""
    if content.startswith(_TABLE):
        return read_ipc(pa.py_buffer(content)[len(_TABLE) :])
    return _CODER.decode(content[len(_ROW) :])


def _plain(value: Any) -> Any:
    """Return a value as plain Python: rows of whatever class as dictionaries, arrays as lists."""
    if type(value) in _AS_THEY_ARE:
        return value
    if isinstance(value, (list, tuple)) and not hasattr(value, "_asdict"):
        return [_plain(item) for item in value]
    if isinstance(value, (np.ndarray, np.generic)):
        is_instant = value.dtype.kind == "M"  # finer ones would become integers
        return _plain((value.astype("datetime64[us]") if is_instant else value).tolist())
    if isinstance(value, Timestamp):
        return value.to_utc_datetime(has_tz=True)
    row = _fields(value)
    return value if row is None else _plain_row(row)


def _fields(value: Any) -> Mapping[Any, Any] | None:
    """Return a row by the names of its columns, None for what is no row."""
    if isinstance(value, dict):
        return value
    if isinstance(value, Row):
        return value.as_dict()
    if hasattr(value, "_asdict"):
        return value._asdict()
    if is_dataclass(value):
        return {each.name: getattr(value, each.name) for each in fields(value)}
    return None


def _plain_row(row: Mapping[Any, Any]) -> dict[str, Any]:
    for name in row:
        if not isinstance(name, str):
            message = f"CollectBatches got a row with the key {name!r:.80}; name columns by text"
            raise CollectionError(message)
    return {name: _plain(value) for name, value in row.items()}
