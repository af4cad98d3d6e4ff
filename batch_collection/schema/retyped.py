"""What a column held under an older type, said under the one that it has now: exactly, or not.

What JSON would write is what text says: ``5``, ``0.5``, ``true``, an instant as RFC 3339. So texts
become numbers, booleans and instants where they are just what those would be written as. A single
value becomes a list of one; true and false, as numbers, are 1 and 0.
"""

from __future__ import annotations

import base64
import json
import shlex
from datetime import datetime
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.instants import exact_instants_of
from batch_collection.schema.files import type_text
from batch_collection.windows import format_instant

__all__ = ["ELEMENT", "MisfitError", "Path", "can_retype", "is_plain_cast", "pin_of", "retyped"]


Path: TypeAlias = tuple[str | None, ...]
"""A column, and what leads on from there: fields of structs, and ``ELEMENT``."""

ELEMENT = None
"""The step of a path from a list to its elements."""

_NUMBER = r"^-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?$"
_INTEGER = r"^-?(0|[1-9][0-9]*)$"


class MisfitError(Exception):
    """A value that its column's type can't say; ``path`` leads to it."""

    def __init__(self, message: str, path: Path) -> None:
        """Say which."""
        super().__init__(message)
        self.path = path


def pin_of(path: Path, type_: Any) -> str:
    """Return the flag, for a shell, that gives what a path leads to a type: ``--pin id=string``."""
    for step in reversed(path[1:]):
        type_ = [type_] if step is ELEMENT else {step: type_}
    pin = f"{path[0]}={type_text(type_)}"
    return f"--pin={shlex.quote(pin)}" if pin.startswith("-") else f"--pin {shlex.quote(pin)}"


def can_retype(old: pa.DataType, new: pa.DataType) -> bool:
    """Tell whether values of one type can be said as another's, some of them at least."""
    is_ = pa.types
    if old == new or is_.is_null(old) or is_.is_string(new) or is_.is_binary(new):
        return True
    if is_.is_list(new):
        return can_retype(old.value_type if is_.is_list(old) else old, new.value_type)
    if is_.is_struct(new):
        return is_.is_struct(old) and all(
            can_retype(old.field(each.name).type, each.type)
            for each in new
            if old.get_field_index(each.name) >= 0
        )
    if is_.is_string(old):
        return True
    return _is_numeric(old) and _is_numeric(new)


def is_plain_cast(old: pa.DataType, new: pa.DataType) -> bool:
    """Tell whether a scan of ``pyarrow.dataset`` says, and filters, just what ``retyped`` says."""
    is_ = pa.types
    if old == new or is_.is_null(old):
        return True
    if is_.is_struct(old) and is_.is_struct(new):
        return all(
            is_plain_cast(old.field(each.name).type, each.type)
            for each in new
            if old.get_field_index(each.name) >= 0
        )
    if is_.is_list(old) and is_.is_list(new):
        return is_plain_cast(old.value_type, new.value_type)
    return _is_number(old) and _is_number(new)


def retyped(array: pa.Array, type_: pa.DataType, path: Path) -> pa.Array:
    """Return the same values as ``type_``; ``path`` leads to them from the column on.

    Raises:
        MisfitError: a value has no exact equivalent.
    """
    is_, old = pa.types, array.type
    if old == type_ or is_.is_null(old) or array.null_count == len(array):
        return array if old == type_ else pa.nulls(len(array), type_)
    if is_.is_struct(type_) and is_.is_struct(old) and type_.num_fields:
        return _structs(array, type_, path)
    if is_.is_list(type_):
        return _lists(array, type_, path)
    try:
        return _leaves(array, type_)
    except pa.ArrowException as error:
        raise MisfitError(str(error).splitlines()[0], path) from error


def _structs(array: pa.StructArray, type_: pa.StructType, path: Path) -> pa.StructArray:
    values = dict(zip((each.name for each in array.type), array.flatten(), strict=True))
    children = [
        retyped(values[each.name], each.type, (*path, each.name))
        if each.name in values
        else pa.nulls(len(array), each.type)
        for each in type_
    ]
    return pa.StructArray.from_arrays(children, fields=list(type_), mask=array.is_null())


def _lists(array: pa.Array, type_: pa.ListType, path: Path) -> pa.ListArray:
    """Return lists, of one element where there was a single value."""
    if pa.types.is_list(array.type):
        values, lengths = array.flatten(), array.value_lengths().fill_null(0).to_numpy()
    else:
        values, lengths = array.drop_null(), array.is_valid().cast(pa.int32()).to_numpy()
    offsets = pa.array(np.concatenate([[0], np.cumsum(lengths)]), pa.int32())
    elements = retyped(values, type_.value_type, (*path, ELEMENT))
    return pa.ListArray.from_arrays(offsets, elements, type=type_, mask=array.is_null())


def _leaves(array: pa.Array, type_: pa.DataType) -> pa.Array:
    """Return values of a type without fields or elements.

    Raises:
        pyarrow.ArrowException: a value has no exact equivalent.
    """
    is_ = pa.types
    if is_.is_string(type_):
        return _texts(array)
    if is_.is_binary(type_):  # what is read from JSON holds the bytes of its text
        return _texts(array).cast(type_)
    if is_.is_string(array.type):
        return _read_texts(array, type_)
    if not (_is_numeric(array.type) and _is_numeric(type_)):
        return _same(array, pa.nulls(len(array), type_), type_)
    cast = array.cast(type_)
    return _same(array, cast, type_, cast.cast(array.type)) if is_.is_boolean(type_) else cast


def _texts(array: pa.Array) -> pa.Array:
    """Write values as JSON does, text as it is."""
    is_ = pa.types
    if is_.is_timestamp(array.type):
        texts = pc.strftime(array.cast(pa.timestamp("us", "UTC")), "%Y-%m-%dT%H:%M:%SZ")
        return pc.replace_substring(texts, ".000000Z", "Z")
    if is_.is_floating(array.type):
        return _written_once(array)
    if is_.is_nested(array.type):
        return pa.array([_json(value) for value in array.to_pylist()], pa.string())
    return array.cast(pa.string())


def _written_once(array: pa.Array) -> pa.Array:
    """Write fractions with the fewest digits that tell them from their neighbours."""
    kind = np.float32 if array.type == pa.float32() else np.float64
    found = array.dictionary_encode()
    texts = [json.dumps(float(str(kind(value)))) for value in found.dictionary.to_pylist()]
    return pa.array(texts, pa.string()).take(found.indices)


def _json(value: Any) -> str | None:
    if value is None:
        return None
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=_as_in_json_lines)


def _as_in_json_lines(value: Any) -> str:
    if isinstance(value, datetime):
        return format_instant(value)
    return base64.b64encode(value).decode()


def _read_texts(array: pa.StringArray, type_: pa.DataType) -> pa.Array:
    """Read values from what JSON would write for them."""
    if pa.types.is_timestamp(type_):
        instants = exact_instants_of(array).cast(type_)
        return _same(array, instants, type_, pc.if_else(instants.is_valid(), array, None))
    if not pa.types.is_floating(type_):
        values = array.cast(type_)
        return _same(array, values, type_, values.cast(pa.string()))
    _same(array, array, type_, pc.if_else(pc.match_substring_regex(array, _NUMBER), array, None))
    values = array.cast(type_)
    is_exact = pc.and_(pc.is_finite(values), _are_exact(array, values))
    return _same(array, values, type_, pc.if_else(is_exact, array, None))


def _are_exact(texts: pa.StringArray, values: pa.FloatingPointArray) -> pa.BooleanArray:
    """Tell which are no integers, or whole ones: those that doubles can't hold are rounded."""
    limit = pa.scalar(2**24 if values.type == pa.float32() else 2**53, values.type)
    may_be_rounded = pc.and_(
        pc.greater_equal(pc.abs(values), limit), pc.match_substring_regex(texts, _INTEGER)
    )
    exact = np.ones(len(texts), np.bool_)
    for place in np.flatnonzero(may_be_rounded.fill_null(False).to_numpy(zero_copy_only=False)):  # noqa: FBT003 - pyarrow's
        text, value = texts[int(place)].as_py(), values[int(place)].as_py()
        exact[place] = np.isfinite(value) and int(text) == int(value)
    return pa.array(exact)


def _same(array: pa.Array, values: pa.Array, type_: pa.DataType, back: Any = None) -> pa.Array:
    """Return ``values`` if what they are said ``back`` as is what they were made of."""
    back = values.cast(array.type) if back is None else back
    kept = pc.fill_null(pc.equal(array, back), False)  # noqa: FBT003 - pyarrow's
    lost = pc.and_(array.is_valid(), pc.invert(kept))
    if pc.any(lost).as_py():
        value = array.filter(lost)[0].as_py()
        message = f"{value!r} is no {type_}"
        raise pa.ArrowInvalid(message)
    return values


def _is_number(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_) or pa.types.is_floating(type_))


def _is_numeric(type_: pa.DataType) -> bool:
    return _is_number(type_) or bool(pa.types.is_boolean(type_))
