"""Columns of instants in JSON: parsed as texts, which become instants a whole column at once.

pyarrow's parser has a notion of its own of what an instant is; see ``batch_collection.instants``.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.instants import INSTANT, exact_instants_of

__all__ = ["as_texts", "with_instants"]


def as_texts(type_: pa.DataType) -> pa.DataType:
    """Return a type with string for each instant, however deep."""
    if pa.types.is_struct(type_):
        return pa.struct([field.with_type(as_texts(field.type)) for field in type_])
    if pa.types.is_list(type_):
        return pa.list_(as_texts(type_.value_type))
    return pa.string() if type_ == INSTANT else type_


def with_instants(array: Any, type_: pa.DataType) -> Any:
    """Return an array of ``as_texts(type_)`` as ``type_``.

    Raises:
        pyarrow.ArrowInvalid: a text is no instant, or finer than microseconds.
    """
    if array.type == type_:
        return array
    if pa.types.is_struct(type_):
        children = [with_instants(array.field(n), field.type) for n, field in enumerate(type_)]
        mask = array.is_null() if array.null_count else None
        return pa.StructArray.from_arrays(children, fields=list(type_), mask=mask)
    if pa.types.is_list(type_):
        values = with_instants(array.values, type_.value_type)
        mask = array.is_null() if array.null_count else None
        return pa.ListArray.from_arrays(array.offsets, values, type=type_, mask=mask)
    return _instants(array)


def _instants(texts: pa.StringArray) -> pa.TimestampArray:
    instants = exact_instants_of(texts)
    if instants.null_count > texts.null_count:
        bad = pc.and_(texts.is_valid(), instants.is_null()).to_numpy(zero_copy_only=False)
        row = int(np.argmax(bad))  # within lists it is none, but no more than a hint to json_rows
        message = f"{texts[row].as_py()!r:.80} is no instant in row {row}"
        raise pa.ArrowInvalid(message)
    return instants
