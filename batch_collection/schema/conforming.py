"""Bring columns to the types of a schema, exactly or not at all."""

from __future__ import annotations

from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.schema.arrow import type_from_arrow
from batch_collection.schema.types import NESTED, prune_type

__all__ = ["beyond_range", "conform", "conform_exactly", "with_values"]


def conform(rows: pa.StructArray | pa.ChunkedArray, type_: pa.StructType) -> Any:
    """Return the same rows as ``type_``, in the shape they came in (array or chunked array).

    Children stand in the order of ``type_``, missing ones are null, further ones are dropped;
    structs and lists keep their nulls. Fractions are the nearest value of their type, integers stay
    exact. What has the right type already is not copied.

    Raises:
        pyarrow.ArrowInvalid: its column can't hold a value.
    """
    if isinstance(rows, pa.ChunkedArray):
        return pa.chunked_array([_conform(chunk, type_, "") for chunk in rows.chunks], type_)
    return _conform(rows, type_, "")


def conform_exactly(rows: pa.ChunkedArray, type_: pa.StructType) -> Any:
    """Return what ``conform`` does, where that says the same: nothing is rounded, nothing dropped.

    Raises:
        pyarrow.ArrowInvalid: it would say something else.
    """
    conformed = conform(rows, type_)
    back = conform(conformed, rows.type)
    if not all(map(_is_same, back.chunks, rows.chunks)):
        message = f"{rows.type} is not exactly {type_}"
        raise pa.ArrowInvalid(message)
    return conformed


def _is_same(one: pa.Array, other: pa.Array) -> bool:
    """Tell whether two arrays of one type hold the same; NaN is itself, unlike in pyarrow."""
    return bool(one.equals(other) or _with_bits(one).equals(_with_bits(other)))


def _with_bits(array: pa.Array) -> pa.Array:
    """Return an array with whole numbers of the same bits in place of fractions."""
    if pa.types.is_floating(array.type):
        return array.view(pa.uint32() if array.type == pa.float32() else pa.uint64())
    if pa.types.is_struct(array.type) and array.type.num_fields:
        children = [_with_bits(array.field(place)) for place in range(array.type.num_fields)]
        names = [field.name for field in array.type]
        return pa.StructArray.from_arrays(children, names, mask=array.is_null())
    if pa.types.is_list(array.type):
        values = _with_bits(array.values)
        return with_values(array, values, pa.list_(values.type))
    return array


def with_values(array: pa.ListArray, values: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return lists, or maps, of the same lengths and nulls over other values."""
    buffers = array.buffers()[:2]  # from_arrays takes no nulls of a slice
    return pa.Array.from_buffers(
        type_, len(array), buffers, array.null_count, array.offset, [values]
    )


def _conform(array: pa.Array, type_: pa.DataType, path: str) -> pa.Array:
    if array.type == type_:
        return array
    if pa.types.is_dictionary(array.type):
        decoded = (
            array.dictionary_decode()
            if len(array.dictionary)
            else pa.nulls(len(array), array.type.value_type)  # null structs hide indices of nothing
        )
        return _conform(decoded, type_, path)
    if pa.types.is_struct(type_) and pa.types.is_struct(array.type):
        return _conform_struct(array, type_, path)
    if pa.types.is_list(type_) and hasattr(array.type, "value_type"):
        return _conform_list(array, type_, path)
    if not _kind(array.type) == _kind(type_) != NESTED:
        return _conform_to_another(array, type_, path)
    values = array.cast(type_)
    if (beyond := beyond_range(array, values)) is not None:
        message = f"column {path[1:]} is float and can't hold {beyond}"
        raise pa.ArrowInvalid(message)
    return values


def beyond_range(fractions: pa.Array, cast: pa.Array) -> pa.Scalar | None:
    """Return a number that a cast has made infinite: pyarrow refuses that of integers only."""
    if not (pa.types.is_floating(fractions.type) and pa.types.is_floating(cast.type)):
        return None
    if cast.type.bit_width >= fractions.type.bit_width:
        return None
    beyond = fractions.filter(pc.and_(pc.is_finite(fractions), pc.is_inf(cast)))
    return beyond[0] if len(beyond) else None


def _conform_to_another(array: pa.Array, type_: pa.DataType, path: str) -> pa.Array:
    """Let what has no type (null, ``{}``, ``[]``) give way, as in ``merge``; refuse all else."""
    if prune_type(type_from_arrow(array.type, path)) is not None:
        message = f"column {path[1:]} is {type_} and can't hold {array.type}"
        raise pa.ArrowInvalid(message)
    return pa.nulls(len(array), type_)


def _conform_struct(array: pa.StructArray, type_: pa.StructType, path: str) -> pa.StructArray:
    children = [
        pa.nulls(len(array), field.type)
        if (place := array.type.get_field_index(field.name)) < 0
        else _conform(array.field(place), field.type, f"{path}.{field.name}")
        for field in type_
    ]
    if not children:  # from_arrays would not know the length
        nothing = pa.array([{}] * len(array), type_)
        return nothing if not array.null_count else pa.array(_empty_structs(array), type_)
    mask = array.is_null() if array.null_count else None
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=mask)


def _empty_structs(array: pa.StructArray) -> list[dict[str, Any] | None]:
    return [{} if valid else None for valid in array.is_valid().to_pylist()]


def _conform_list(array: Any, type_: pa.ListType, path: str) -> pa.ListArray:
    if not pa.types.is_list(array.type):
        array = array.cast(pa.list_(array.type.value_type))
    values = _conform(array.values, type_.value_type, f"{path}[]")  # all, also of a slice
    return with_values(array, values, type_)


def _kind(type_: pa.DataType) -> str:
    """Name the group of types within which a cast asks only whether the value fits."""
    name = type_from_arrow(type_, "")
    if not isinstance(name, str):
        return NESTED
    if name in {"string", "binary"}:
        return "bytes"
    return name if name in {"bool", "timestamp"} else "number"
