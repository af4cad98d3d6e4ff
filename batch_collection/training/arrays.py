"""Columns as numpy arrays: which ones, of what type, and what stands where nothing is."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError, in_one_line
from batch_collection.field_path import quoted_path, split_path
from batch_collection.reading.splits import leaf_at, leaf_type
from batch_collection.schema.columns import NOT_PAYLOAD
from batch_collection.schema.conforming import beyond_range

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    import numpy.typing as npt

    from batch_collection.schema.unified import Unified

__all__ = ["ArrayRules", "Arrays", "Spec"]


_EMPTY: tuple[tuple[Any, Any], ...] = (
    (pa.types.is_boolean, False),
    (pa.types.is_timestamp, 0),
    (pa.types.is_string, ""),
    (pa.types.is_binary, b""),
)


@dataclass(frozen=True, slots=True)
class ArrayRules:
    """How columns become arrays; a column is named as in the files, a field of one ``place.x``.

    A column of exactly a name comes first; quotes keep dots, as in ``"a.b".x``: see ``field_path``.

    Args:
        columns: Which, in that order; a struct stands for its fields. None: the payload's.
        casts: Types by name, as ``float32``; of a list, that of its elements. A value that does
            not fit is an error.
        fill: What stands for null, by name. Without it nulls are NaN where a column holds
            fractions, and an error elsewhere.
        mask: Columns that get another one, ``NAME_is_null``; null is ``fill`` or zero in them.
        lengths: How long the lists of a column are made: cut, or zeros added. Without it they keep
            their lengths.
        time_zone: Instants become the wall-clock time of this zone; without it they are UTC.
    """

    columns: Sequence[str] | None = None
    casts: Mapping[str, str | pa.DataType] = field(default_factory=dict)
    fill: Mapping[str, Any] = field(default_factory=dict)
    mask: Sequence[str] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)
    time_zone: str | None = None


class Spec(NamedTuple):
    """What an array is: ``shape`` of one row; ``ragged`` where rows differ in length.

    ``dtype`` is object for text and bytes, microseconds for instants; that of the elements where
    the array is ragged.
    """

    dtype: np.dtype[Any]
    shape: tuple[int, ...] = ()
    ragged: bool = False
    text: bool = False


class _Column(NamedTuple):
    name: str
    path: tuple[str, ...]
    type: pa.DataType
    element: pa.DataType  # of a list's elements, else the type itself
    length: int | None


class Arrays:
    """Turns tables of a snapshot into arrays; ``specs`` tells by name what comes."""

    def __init__(self, rules: ArrayRules, known: Unified, where: str) -> None:
        """Settle the columns; no row is read.

        Raises:
            CollectionError: there is no such column, or no array can hold it.
        """
        self._rules = rules
        names = rules.columns
        if names is None:
            names = [name for name in known.fields if name not in NOT_PAYLOAD - known.payload]
        paths = {name: split_path(name, known.fields.__contains__) for name in names}
        self.schema = known.schema([path[0] for path in paths.values()], where)
        leaves = (each for named in paths.items() for each in _leaves(*named, self.schema, where))
        self._columns = [self._settled(*each) for each in _told_apart(leaves)]
        self._check_names()
        self.specs = {column.name: _spec(column) for column in self._columns}
        self.specs |= {f"{name}_is_null": Spec(np.dtype(np.bool_)) for name in rules.mask}

    def of(self, rows: pa.Table) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a table of ``schema``, all writable, none shared with it.

        Raises:
            CollectionError: a value is null, or does not fit, and nothing says what to do.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        masks: dict[str, npt.NDArray[Any]] = {}
        for column in self._columns:
            found = leaf_at(rows, column.path).combine_chunks()
            if isinstance(found, pa.ChunkedArray):  # no chunk at all
                found = pa.array([], column.type)
            if column.name in self._rules.mask:
                masks[f"{column.name}_is_null"] = _writable(found.is_null())
            try:
                arrays[column.name] = self._array(column, found)
            except pa.ArrowException as error:
                message = (
                    f"column {column.name}: {in_one_line(error)}; give it another type with casts"
                )
                raise CollectionError(message) from error
        return arrays | masks

    def _settled(self, name: str, path: tuple[str, ...], type_: pa.DataType) -> _Column:
        is_list = pa.types.is_list(type_)
        element = type_.value_type if is_list else type_
        if name in self._rules.casts:
            element = _type(self._rules.casts[name], name)
        held = [test for test, _ in _EMPTY if test(element)] or _is_number(element)
        if not held:
            message = (
                f"column {name} is {type_}, which no array can hold; choose others with columns, "
                "or read it with to_arrow_batches"
            )
            raise CollectionError(message)
        length = self._rules.lengths.get(name)
        return _Column(name, path, pa.list_(element) if is_list else element, element, length)

    def _check_names(self) -> None:
        """Refuse rules for what isn't there: a slip of the pen must not be taken for consent."""
        names = {column.name for column in self._columns}
        lists = {column.name for column in self._columns if pa.types.is_list(column.type)}
        for rule, known in (("casts", names), ("fill", names), ("mask", names), ("lengths", lists)):
            unknown = sorted(set(getattr(self._rules, rule)) - known)
            if unknown:
                kind = "list" if rule == "lengths" else "column"
                message = f"{rule} names {', '.join(unknown)}; no such {kind} is read"
                raise CollectionError(message)
        taken = sorted(name for name in self._rules.mask if f"{name}_is_null" in names)
        if taken:
            message = f"mask of {taken[0]} would be {taken[0]}_is_null, which is a column; use fill"
            raise CollectionError(message)

    def _array(self, column: _Column, found: pa.Array) -> npt.NDArray[Any]:
        if pa.types.is_list(column.type):
            return self._lists(column, found)
        found = self._filled(column, _cast(found, column.type))
        if not pa.types.is_timestamp(found.type):
            return _writable(found)
        if self._rules.time_zone is not None and found.type.tz is not None:
            zone = pa.timestamp(found.type.unit, self._rules.time_zone)
            found = pc.local_timestamp(found.cast(zone))
        return _writable(found.cast(pa.timestamp("us")))

    def _filled(self, column: _Column, found: pa.Array) -> pa.Array:
        if not found.null_count:
            return found
        name = column.name
        if name in self._rules.fill:
            return found.fill_null(pa.scalar(self._rules.fill[name], found.type))
        if name in self._rules.mask:
            return found.fill_null(pa.scalar(_empty(found.type), found.type))
        if pa.types.is_floating(found.type):
            return found
        message = (
            f"column {name} has nulls; say what stands for them with fill={{{name!r}: ...}}, "
            f"or add {name}_is_null with mask=[{name!r}]"
        )
        raise CollectionError(message)

    def _lists(self, column: _Column, found: pa.Array) -> npt.NDArray[Any]:
        name = column.name
        if found.null_count and name not in self._rules.fill and name not in self._rules.mask:
            message = f"column {name} has nulls; fill={{{name!r}: []}} or mask makes them empty"
            raise CollectionError(message)
        flat = column._replace(name=f"{name}[]")
        values = _writable(self._filled(flat, _cast(found.flatten(), column.element)))
        lengths = found.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        lengths = lengths.astype(np.int64)
        ends = np.cumsum(lengths)
        if column.length is None:
            ragged = np.empty(len(lengths), object)
            for row, (end, length) in enumerate(zip(ends.tolist(), lengths.tolist(), strict=True)):
                ragged[row] = values[end - length : end]
            return ragged
        shown = np.arange(column.length) < lengths[:, np.newaxis]
        places = (ends - lengths)[:, np.newaxis] + np.arange(column.length)
        empty = _empty(column.element) if values.dtype == object else np.zeros((), values.dtype)
        fixed = np.full((len(lengths), column.length), empty, values.dtype)
        fixed[shown] = values[places[shown]]
        return fixed


class _Leaf(NamedTuple):
    name: str
    path: tuple[str, ...]
    type: pa.DataType


def _leaves(name: str, path: tuple[str, ...], schema: pa.Schema, where: str) -> list[_Leaf]:
    """Return a column, or the fields of a struct, or those below."""
    type_ = leaf_type(schema.field(path[0]).type, path[1:])
    if type_ is None:
        message = f"no batch of {where} has a column {name}"
        raise CollectionError(message)
    return _below(name, path, type_)


def _below(name: str, path: tuple[str, ...], type_: pa.DataType) -> list[_Leaf]:
    if not pa.types.is_struct(type_):
        return [_Leaf(name, path, type_)]
    return [
        each
        for part in type_
        for each in _below(f"{name}.{part.name}", (*path, part.name), part.type)
    ]


def _told_apart(leaves: Iterable[_Leaf]) -> list[_Leaf]:
    """Return each leaf once.

    Raises:
        CollectionError: two of one name are not the same.
    """
    found: dict[str, _Leaf] = {}
    for each in leaves:
        other = found.setdefault(each.name, each)
        if other.path != each.path:
            quoted = " and ".join(map(quoted_path, (other.path, each.path)))
            message = (
                f"two columns would be {each.name}; choose one with columns, "
                f"or name them apart there: {quoted}"
            )
            raise CollectionError(message)
    return list(found.values())


def _type(given: str | pa.DataType, name: str) -> pa.DataType:
    if isinstance(given, pa.DataType):
        return given
    try:
        return pa.type_for_alias(given)
    except (ValueError, TypeError) as error:
        message = f"casts gives {name} an unknown type {given!r}; one is float32"
        raise CollectionError(message) from error


def _cast(found: pa.Array, type_: pa.DataType) -> pa.Array:
    cast = found.cast(type_)
    beyond = beyond_range(found, cast)
    if beyond is None and pa.types.is_string(found.type) and pa.types.is_floating(type_):
        numbers = pc.invert(pc.match_substring(found, "inf", ignore_case=True))
        large = found.filter(pc.and_(numbers, pc.is_inf(cast)))
        beyond = large[0] if len(large) else None
    if beyond is not None:
        message = f"{beyond} is beyond the range of {type_}"
        raise pa.ArrowInvalid(message)
    return cast


def _is_number(type_: pa.DataType) -> bool:
    return pa.types.is_integer(type_) or pa.types.is_floating(type_)


def _spec(column: _Column) -> Spec:
    element = column.element
    text = pa.types.is_string(element) or pa.types.is_binary(element)
    if text:
        dtype = np.dtype(object)
    elif pa.types.is_timestamp(element):
        dtype = np.dtype("datetime64[us]")
    else:
        # not to_pandas_dtype: that imports pandas
        dtype = pa.array([], element).to_numpy(zero_copy_only=False).dtype
    if not pa.types.is_list(column.type):
        return Spec(dtype, text=text)
    if column.length is None:
        return Spec(dtype, ragged=True, text=text)
    return Spec(dtype, (column.length,), text=text)


def _empty(type_: pa.DataType) -> Any:
    return next((value for test, value in _EMPTY if test(type_)), 0)


def _writable(found: pa.Array) -> npt.NDArray[Any]:
    return found.to_numpy(zero_copy_only=False, writable=True)
