"""Columns as numpy arrays: which ones, of what type, and what stands where nothing is."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError, in_one_line
from batch_collection.field_path import plain_path, quoted_path, split_path
from batch_collection.given import mapping, names, whole_number
from batch_collection.reading.splits import leaf_at, leaf_type
from batch_collection.schema.columns import NOT_PAYLOAD
from batch_collection.schema.conforming import beyond_range
from batch_collection.schema.taking import chunks_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    import numpy.typing as npt

    from batch_collection.schema.unified import Unified

    Order = npt.NDArray[np.int64]

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
        exclude: Columns of these, or fields, that are left out.
        casts: Types by name, as ``float32``; of a list, that of its elements. A value that does
            not fit is an error.
        fill: What stands for null, by name; ``scores[]`` is the elements of a list, for which
            null itself is ``[]`` at most. Without it nulls are NaN where a column holds
            fractions, and an error elsewhere.
        mask: Columns that get another one, ``NAME_is_null``; null is ``fill`` or zero in them.
        lengths: How long the lists of a column are made: cut, or zeros added. Without it they keep
            their lengths.
        time_zone: Instants become the wall-clock time of this zone; without it they are UTC.
        label: A column that is read besides, and is handed out apart from the others.
    """

    columns: Sequence[str] | None = None
    exclude: Sequence[str] = ()
    casts: Mapping[str, str | pa.DataType] = field(default_factory=dict)
    fill: Mapping[str, Any] = field(default_factory=dict)
    mask: Sequence[str] = ()
    lengths: Mapping[str, int] = field(default_factory=dict)
    time_zone: str | None = None
    label: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            CollectionError: names the option.
        """
        if self.columns is not None:
            object.__setattr__(self, "columns", names("columns", self.columns))
        for option in ("exclude", "mask"):
            object.__setattr__(self, option, names(option, getattr(self, option)))
        mapping("casts", self.casts, "{'value': 'float32'}")
        mapping("fill", self.fill, "{'value': 0}")
        for name, length in mapping("lengths", self.lengths, "{'vector': 8}").items():
            if whole_number(f"length of {name}", length) < 0:
                message = f"length of {name} must be at least 0, got {length}"
                raise CollectionError(message)
        if self.time_zone is not None:
            _check_zone(self.time_zone)
        if self.label is not None and not isinstance(self.label, str):
            message = f"label must be the name of a column, got {self.label!r}"
            raise CollectionError(message)
        if self.label in self.mask:
            message = (
                f"mask names the label {self.label}: features would tell of it; leave its nulls "
                f"out with where(pc.field({self.label!r}).is_valid()), or use fill"
            )
            raise CollectionError(message)


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
        listed = rules.columns
        if listed is None:
            listed = [name for name in known.fields if name not in NOT_PAYLOAD - known.payload]
        if rules.label is not None and rules.label not in listed:
            listed = [*listed, rules.label]
        paths = {name: split_path(name, known.fields.__contains__) for name in listed}
        out = {name: split_path(name, known.fields.__contains__) for name in rules.exclude}
        tops = [path[0] for path in paths.values() if path[:1] not in out.values()]
        schema = known.schema(tops, where)
        left = {name: path for name, path in paths.items() if path[0] in tops}
        every = [leaf for named in left.items() for leaf in _leaves(*named, schema, where)]
        leaves = [leaf for leaf in every if not _is_within(leaf.path, out.values())]
        within = [*(leaf.path for leaf in every), *paths.values()]
        for name, path in out.items():
            if not any(_is_within(each, [path]) for each in within):
                message = f"exclude names {name}; no such column is read"
                raise CollectionError(message)
        self._columns = [self._settled(*each) for each in _told_apart(leaves)]
        used = {column.path[0] for column in self._columns}
        self.schema = pa.schema([each for each in schema if each.name in used])
        self._check_held(known)
        self._check_names()
        self.specs = {column.name: _spec(column) for column in self._columns}
        self.specs |= {f"{name}_is_null": Spec(np.dtype(np.bool_)) for name in rules.mask}

    def of(self, rows: pa.Table, order: Order | None = None) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of a table of ``schema``, all writable, none shared with it.

        With an ``order`` rows are put in it: a permutation of their numbers.

        Raises:
            CollectionError: a value is null, or does not fit, and nothing says what to do.
        """
        arrays: dict[str, npt.NDArray[Any]] = {}
        masks: dict[str, npt.NDArray[Any]] = {}
        for column in self._columns:
            found = chunks_of(leaf_at(rows, column.path))
            if column.name in self._rules.mask:
                masks[f"{column.name}_is_null"] = _joined(_nulls, found, order)
            try:
                arrays[column.name] = _joined(partial(self._array, column), found, order)
            except pa.ArrowException as error:
                message = (
                    f"column {column.name}: {in_one_line(error)}; give it another type with casts"
                )
                raise CollectionError(message) from error
        return arrays | masks

    def labelled(self, arrays: Mapping[str, Any]) -> Any:
        """Return ``(features, label)``, the arrays as they are without a label.

        What stands for arrays, by their names, is parted just so.
        """
        label = self._rules.label
        if label is None:
            return arrays
        return {name: each for name, each in arrays.items() if name != label}, arrays[label]

    def check_nulls(self, first_with_null: Callable[[tuple[str, ...]], str | None]) -> None:
        """Refuse nulls for which nothing is to stand: at once, not when they are read.

        Args:
            first_with_null: Returns the first file that is known to have a null in a column, or in
                a field of one.

        Raises:
            CollectionError: names the column and the file.
        """
        rules = self._rules
        for column in self._columns:
            takes_null = pa.types.is_list(column.type) or pa.types.is_floating(column.type)
            if takes_null or column.name in rules.fill or column.name in rules.mask:
                continue
            path = first_with_null(column.path)
            if path is not None:
                message = f"{_has_nulls(column)}; the first is in {path}"
                raise CollectionError(message)

    def _settled(self, name: str, path: tuple[str, ...], type_: pa.DataType) -> _Column:
        is_list = pa.types.is_list(type_)
        element = type_.value_type if is_list else type_
        if name in self._rules.casts:
            element = _type(self._rules.casts[name], name)
        length = self._rules.lengths.get(name)
        return _Column(name, path, pa.list_(element) if is_list else element, element, length)

    def _check_held(self, known: Unified) -> None:
        """Refuse columns that no array can hold, all of them at once."""
        bad = [column for column in self._columns if not _is_held(column.element)]
        if bad:
            shown = ", ".join(f"{column.name} ({column.type})" for column in bad)
            left_out = [plain_path(column.path, known.fields) for column in bad]
            message = (
                f"no array can hold {shown}; leave out what you do not need with "
                f"exclude={left_out}, or read it with to_arrow_batches"
            )
            raise CollectionError(message)

    def _check_names(self) -> None:
        """Refuse rules for what isn't there: a slip of the pen must not be taken for consent."""
        known_names = {column.name for column in self._columns}
        label = self._rules.label
        if label is not None and label not in known_names:
            message = f"label must be one column that is read, not a struct; {label} is none"
            raise CollectionError(message)
        lists = {column.name for column in self._columns if pa.types.is_list(column.type)}
        filled = known_names | {f"{name}[]" for name in lists}
        for rule, known in (
            ("casts", known_names),
            ("fill", filled),
            ("mask", known_names),
            ("lengths", lists),
        ):
            unknown = sorted(set(getattr(self._rules, rule)) - known)
            if unknown:
                kind = "list" if rule == "lengths" else "column"
                message = f"{rule} names {', '.join(unknown)}; no such {kind} is read"
                raise CollectionError(message)
        taken = sorted(name for name in self._rules.mask if f"{name}_is_null" in known_names)
        if taken:
            message = f"mask of {taken[0]} would be {taken[0]}_is_null, which is a column; use fill"
            raise CollectionError(message)
        for column in self._columns:
            self._check_fill(column)

    def _check_fill(self, column: _Column) -> None:
        """Refuse what can't stand for null in a column: it would be found at the first null."""
        fill, flat = self._rules.fill, f"{column.name}[]"
        is_list = pa.types.is_list(column.type)
        if is_list and column.name in fill and fill[column.name] not in ([], ()):
            message = f"fill of {column.name} must be [], got {fill[column.name]!r}"
            raise CollectionError(message)
        name = flat if is_list else column.name
        if name in fill and not _fits(fill[name], column.element):
            message = f"fill of {name} must be a value of {column.element}, got {fill[name]!r}"
            raise CollectionError(message)

    def _array(self, column: _Column, found: pa.Array, order: Order | None) -> npt.NDArray[Any]:
        if pa.types.is_list(column.type):
            lists = self._lists(column, found)
            return lists if order is None else lists[order]
        return _writable(self._timed(self._filled(column, _cast(found, column.type))), order)

    def _timed(self, found: pa.Array) -> pa.Array:
        """Return instants in microseconds, as they are told in the zone; all else as it is."""
        if not pa.types.is_timestamp(found.type):
            return found
        if self._rules.time_zone is not None and found.type.tz is not None:
            zone = pa.timestamp(found.type.unit, self._rules.time_zone)
            found = pc.local_timestamp(found.cast(zone))
        return found.cast(pa.timestamp("us"))

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
        raise CollectionError(_has_nulls(column))

    def _lists(self, column: _Column, found: pa.Array) -> npt.NDArray[Any]:
        name = column.name
        if found.null_count and name not in self._rules.fill and name not in self._rules.mask:
            raise CollectionError(_has_nulls(column))
        flat = column._replace(name=f"{name}[]", type=column.element)
        filled = self._filled(flat, _cast(found.flatten(), column.element))
        values = _writable(self._timed(filled))
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
    except (ValueError, TypeError, AttributeError) as error:
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


def _has_nulls(column: _Column) -> str:
    name = column.name
    if pa.types.is_list(column.type):
        return f"column {name} has nulls; fill={{{name!r}: []}} or mask makes them empty"
    message = f"column {name} has nulls; say what to put there with fill={{{name!r}: ...}}"
    if name.endswith("[]"):
        return message
    return f"{message}, or add {name}_is_null with mask=[{name!r}]"


def _fits(value: Any, type_: pa.DataType) -> bool:
    try:
        return pa.scalar(value, type_).is_valid
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return False


def _check_zone(zone: Any) -> None:
    try:
        pc.local_timestamp(pa.scalar(0, pa.timestamp("us", "UTC")).cast(pa.timestamp("us", zone)))
    except (pa.ArrowException, TypeError) as error:
        message = f"time_zone must be the name of one, as Europe/Berlin, got {zone!r}"
        raise CollectionError(message) from error


def _is_within(path: tuple[str, ...], others: Iterable[tuple[str, ...]]) -> bool:
    return any(path[: len(other)] == other for other in others)


def _is_held(type_: pa.DataType) -> bool:
    return _is_number(type_) or any(test(type_) for test, _ in _EMPTY)


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


def _joined(
    made: Callable[[pa.Array, Order | None], npt.NDArray[Any]],
    chunks: Sequence[pa.Array],
    order: Order | None,
) -> npt.NDArray[Any]:
    """Return what is made of chunks as one array, in an order."""
    if len(chunks) == 1:
        return made(chunks[0], order)
    whole = np.concatenate([made(chunk, None) for chunk in chunks])
    return whole if order is None else whole[order]


def _nulls(found: pa.Array, order: Order | None) -> npt.NDArray[np.bool_]:
    return _writable(found.is_null(), order)


def _writable(found: pa.Array, order: Order | None = None) -> npt.NDArray[Any]:
    """Return an array's values, in an order, in memory of their own.

    It is Arrow's: numpy's goes back to the system with each block that a thread reads, and comes
    again page by page.
    """
    values = found.to_numpy(zero_copy_only=False)
    if values.dtype == object:
        return values if order is None else values.take(order)
    if order is None and values.flags.writeable:  # made of bits, or of nulls
        return values
    made = np.frombuffer(pa.allocate_buffer(values.nbytes), values.dtype, len(values))
    if order is None:
        made[:] = values
    else:
        values.take(order, out=made, mode="clip")  # with "raise" numpy makes another copy
    return made
