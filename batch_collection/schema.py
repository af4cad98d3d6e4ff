"""The payload schema of a collection, as plain JSON and as Arrow.

``{"value": "double", "device": {"id": "string"}, "tags": ["string"]}``: a string is a primitive of
``PRIMITIVES``, a dict a struct, a list of one element a list. A column that held only nulls so far
has no type and is left out. Columns keep the order in which they were first seen.
"""

from __future__ import annotations

import json
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = [
    "MAX_LEVELS",
    "PRIMITIVES",
    "Schema",
    "beyond_range",
    "conform",
    "conform_exactly",
    "count_leaves",
    "from_arrow",
    "is_changed",
    "merge",
    "merge_types",
    "prune",
    "read_schema_file",
    "read_type",
    "shape_of",
    "to_arrow",
    "type_text",
    "untyped",
    "with_values",
]

Schema: TypeAlias = dict[str, Any]
"""The JSON form. Within the program ``"null"`` may stand for a type that is not known yet."""

PRIMITIVES: dict[str, pa.DataType] = {
    "binary": pa.binary(),
    "bool": pa.bool_(),
    "double": pa.float64(),
    "float": pa.float32(),
    "int8": pa.int8(),
    "int16": pa.int16(),
    "int32": pa.int32(),
    "int64": pa.int64(),
    "string": pa.string(),
    "timestamp": pa.timestamp("us", "UTC"),
    "uint8": pa.uint8(),
    "uint16": pa.uint16(),
    "uint32": pa.uint32(),
    "uint64": pa.uint64(),
}
"""The types a column may be given. ``timestamp`` is an instant in microseconds, read from text (a
date, or a time without a zone, is UTC); ``binary`` read from JSON holds the text's UTF-8 bytes."""

MAX_LEVELS = 63
"""How deep structs and lists may nest, a row itself counted: Arrow's IPC, in which rows wait,
writes 64 levels, of which one is the table's."""

_NULL = "null"
_EMPTY = "empty"
_NESTED = "nested"
_NAMES = {type_: name for name, type_ in PRIMITIVES.items()} | {pa.null(): _NULL}


def to_arrow(schema: Schema) -> pa.StructType:
    """Return the struct type of a payload schema."""
    return pa.struct([pa.field(name, _to_arrow(type_)) for name, type_ in schema.items()])


def _to_arrow(type_: Any) -> pa.DataType:
    if isinstance(type_, dict):
        return to_arrow(type_)
    if isinstance(type_, list):
        return pa.list_(_to_arrow(type_[0]))
    return pa.null() if type_ == _NULL else PRIMITIVES[type_]


def from_arrow(type_: pa.StructType) -> Schema:
    """Return the payload schema of a struct type, as ``shape_of`` and ``prune`` do together."""
    return prune(shape_of(type_))


def shape_of(type_: pa.StructType) -> Schema:
    """Return the payload schema of a struct type, and of what has no type yet its shape.

    Wider relatives become what a batch holds: ``large_string`` a string, any instant or date a
    timestamp, a half float a float, a dictionary the type of its values.

    Raises:
        CollectionError: a batch can't hold one of its types.
    """
    return {field.name: _from_arrow(field.type, field.name) for field in type_}


def _from_arrow(type_: pa.DataType, path: str) -> Any:
    is_ = pa.types
    if is_.is_struct(type_):
        return _fields_from_arrow(type_, path)
    if is_.is_list(type_) or is_.is_large_list(type_) or is_.is_fixed_size_list(type_):
        return [_from_arrow(type_.value_type, f"{path}[]")]
    if is_.is_dictionary(type_):
        return _from_arrow(type_.value_type, path)
    relatives: tuple[tuple[str, tuple[Callable[[pa.DataType], bool], ...]], ...] = (
        ("string", (is_.is_large_string, is_.is_string_view)),
        ("binary", (is_.is_large_binary, is_.is_binary_view, is_.is_fixed_size_binary)),
        ("timestamp", (is_.is_timestamp, is_.is_date)),
        ("float", (is_.is_float16,)),
    )
    for name, tests in relatives:
        if any(test(type_) for test in tests):
            return name
    if type_ not in _NAMES:
        message = f"column {path} has type {type_}; cast it to one of: {', '.join(PRIMITIVES)}"
        raise CollectionError(message)
    return _NAMES[type_]


def _fields_from_arrow(type_: pa.StructType, path: str) -> Schema:
    fields = {field.name: _from_arrow(field.type, f"{path}.{field.name}") for field in type_}
    if len(fields) < type_.num_fields:
        message = f"column {path} has two fields of one name; rename one"
        raise CollectionError(message)
    return fields


def prune(schema: Schema) -> Schema:
    """Leave out what has no type: nulls, structs without fields, lists of either."""
    typed = ((name, _prune(type_)) for name, type_ in schema.items())
    return {name: type_ for name, type_ in typed if type_ is not None}


def _prune(type_: Any) -> Any:
    if isinstance(type_, dict):
        return prune(type_) or None
    if isinstance(type_, list):
        element = _prune(type_[0])
        return None if element is None else [element]
    return None if type_ in {_NULL, _EMPTY} else type_


def untyped(shape: Schema, typed: Schema) -> Schema:
    """Return where ``shape`` has a struct or a list of no type, and ``typed`` no column.

    ``shape`` is a schema, or a row as Python objects. Rows of that shape say null there. So if the
    place becomes a struct or a list later on, as ``is_changed`` tells of what is returned, they
    must be read again to say what they hold.
    """
    places = ((name, _untyped(type_, typed.get(name))) for name, type_ in shape.items())
    return {name: place for name, place in places if place is not None}


def _untyped(shape: Any, typed: Any) -> Any:
    if typed is None:
        return _EMPTY if isinstance(shape, (dict, list)) else None
    if isinstance(shape, dict) and isinstance(typed, dict):
        return untyped(shape, typed) or None
    if isinstance(shape, list) and isinstance(typed, list):
        places = [place for each in shape if (place := _untyped(each, typed[0])) is not None]
        return [reduce(merge_types, places)] if places else None
    return None


def merge(first: Schema, second: Schema, *, widen: bool = True) -> Schema:
    """Return the union of two schemas, the columns of ``first`` in front.

    A column of both keeps its type if they agree; of ``int64`` and ``double`` it is ``double``
    (unless not ``widen``); where they disagree otherwise, ``first`` wins. What has no type gives
    way. Where nothing but integers and fractions meet, the order makes no difference.
    """
    both = dict(first)  # which may be a thousand columns wide, while a message has ten
    for name, type_ in second.items():
        both[name] = merge_types(first[name], type_, widen=widen) if name in first else type_
    return both


def merge_types(first: Any, second: Any, *, widen: bool = True) -> Any:
    """Merge two types as ``merge`` does those of one column."""
    if _NULL in (first, second) or first == second:
        return second if first == _NULL else first
    if isinstance(first, dict) and isinstance(second, dict):
        return merge(first, second, widen=widen)
    if isinstance(first, list) and isinstance(second, list):
        return [merge_types(first[0], second[0], widen=widen)]
    if widen and (first, second) in (("int64", "double"), ("double", "int64")):
        return "double"
    return second if _prune(first) is None and _prune(second) is not None else first


def is_changed(before: Schema, after: Schema) -> bool:
    """Tell whether a column of ``before`` has another type in ``after``; new ones do not count."""
    return any(_is_changed(type_, after.get(name)) for name, type_ in before.items())


def _is_changed(before: Any, after: Any) -> bool:
    if isinstance(before, dict) and isinstance(after, dict):
        return is_changed(before, after)
    if isinstance(before, list) and isinstance(after, list):
        return _is_changed(before[0], after[0])
    if before == _EMPTY:
        return isinstance(after, (dict, list))
    return bool(before != after)


def count_leaves(schema: Schema) -> int:
    """Return the number of columns that hold values: structs count by their fields."""
    return sum(1 if isinstance(type_, str) else _count_leaves(type_) for type_ in schema.values())


def _count_leaves(type_: Any) -> int:
    if isinstance(type_, list):
        return _count_leaves(type_[0])
    return max(count_leaves(type_), 1) if isinstance(type_, dict) else 1


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
    if not _kind(array.type) == _kind(type_) != _NESTED:
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
    if _prune(_from_arrow(array.type, path)) is not None:
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
    name = _from_arrow(type_, "")
    if not isinstance(name, str):
        return _NESTED
    if name in {"string", "binary"}:
        return "bytes"
    return name if name in {"bool", "timestamp"} else "number"


def read_schema_file(path: str) -> Schema:
    """Read the file of ``--schema=FILE``: JSON, or YAML if its name ends in ``.yaml`` or ``.yml``.

    Raises:
        CollectionError: it can't be read or is no schema; names the file and the field.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        schema = _parse(content, yaml=path.endswith((".yaml", ".yml")))
        if not isinstance(schema, dict):
            _refuse("not a mapping from columns to types")
        _check(schema, "", 0)
    except (OSError, ValueError) as error:
        message = f"--schema={path}: {getattr(error, 'strerror', None) or error}"
        raise CollectionError(message) from error
    return dict(schema)


def type_text(type_: Any) -> str:
    """Write a type as it stands in a schema file: a name, or JSON."""
    return type_ if isinstance(type_, str) else json.dumps(type_, ensure_ascii=False)


def read_type(text: str, column: str) -> Any:
    """Read what ``type_text`` writes.

    Raises:
        ValueError: it is no type of a column.
    """
    type_ = _loaded(text) if text[:1] in {"{", "["} else text
    _check(type_, column, 1)
    return type_


def _parse(content: str, *, yaml: bool) -> Any:
    if not yaml:
        return _loaded(content)
    try:
        import yaml as yaml_  # noqa: PLC0415 - only those who write YAML need it
    except ImportError:
        _refuse("reading YAML needs PyYAML; install it or write JSON")
    try:
        return yaml_.safe_load(content)
    except (yaml_.YAMLError, RecursionError) as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        _refuse(f"a column twice among {', '.join(name for name, _ in pairs)}")
    return fields


def _check(type_: Any, path: str, above: int) -> None:
    """Refuse what is no type, or has too many levels, of which some are ``above``."""
    if not isinstance(type_, str) and above == MAX_LEVELS:
        _refuse(f"a field is nested more than {MAX_LEVELS} levels deep; make it flatter")
    if isinstance(type_, dict):
        if not type_:
            _refuse(f"{f'field {path}' if path else 'it'} has no fields; name at least one")
        for name, field in type_.items():
            if not isinstance(name, str):
                _refuse(f"field name {name!r} is not text; put it in quotes")
            _check(field, f"{path}.{name}" if path else name, above + 1)
    elif isinstance(type_, list):
        if len(type_) != 1:
            _refuse(f"field {path} is a list of {len(type_)} types; give the one of its elements")
        _check(type_[0], f"{path}[]", above + 1)
    elif type_ not in PRIMITIVES:
        _refuse(f"field {path} has unknown type {type_!r}; use one of: {', '.join(PRIMITIVES)}")


def _refuse(message: str) -> NoReturn:
    raise ValueError(message)
