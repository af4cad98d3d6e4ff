"""What readers see of columns whose type was changed, and how they read them: old files and new."""

from __future__ import annotations

import shlex
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.files import type_text
from batch_collection.schema.retyped import pin_of
from batch_collection.schema.unified import unified

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping, Sequence

__all__ = ["reader_needs"]


_UPCAST, _TO_FLOAT, _WIDER_FLOAT = (
    'integer_cast="upcast"',
    'integer_cast="allow-float"',
    'float_cast="upcast"',
)
_NEW_FIELDS = 'missing_struct_fields="insert"'  # which structs may gain at any time
_POLARS_SCHEMA = "schema=from_arrow(SCHEMA.empty_table()).schema"  # it takes none of pyarrow's


def reader_needs(
    uri: str, history: Mapping[str, Sequence[Any]], changed: Container[str], *, parquet: bool
) -> list[str]:
    """Return lines that say what is seen of columns, and what each reader needs for that.

    Args:
        uri: The collection.
        history: By column, the types that it had, the newest last.
        changed: The columns that have their newest type from the change that is told of.
        parquet: Whether all batches are Parquet files.
    """
    columns = [_Column.of(name, types) for name, types in history.items()]
    seen = [line for each in columns for line in each.lines(uri, is_new=each.name in changed)]
    if not seen or any(column.read_as is None for column in columns):
        return seen
    data, ours = f"{uri}/data", f"batch_collection.open({uri!r})"
    casts = [_polars_casts(type_, each.read_as) for each in columns for type_ in each.types]
    by_pyarrow = parquet and all(column.pyarrow_casts for column in columns)
    duckdb, pyarrow, polars = f"{ours}.to_duckdb()", f"{ours}.scan()", f"{ours}.to_polars()"
    if parquet and all(_duckdb_unites(column.types) for column in columns):
        files = f"{data}/**/*.parquet".replace("'", "''")
        duckdb = f"read_parquet('{files}', union_by_name=true)"
    if by_pyarrow:
        pyarrow = f"dataset({data!r}, schema=SCHEMA, format='parquet')"
        polars = f"scan_pyarrow_dataset({pyarrow}, allow_pyarrow_filter=False)"
    if parquet and all(each is not None for each in casts):
        options = ", ".join(_joined(cast for each in casts if each for cast in each))
        polars = (
            f"scan_parquet({f'{data}/**/*.parquet'!r}, {_POLARS_SCHEMA}, missing_columns='insert', "
            f"cast_options=ScanCastOptions({options}))"
        )
    return [
        *seen,
        f"  batch_collection  {ours}.table()",
        f"  DuckDB            {duckdb}",
        f"  pyarrow           {pyarrow}",
        f"  Polars            {polars}",
        *([f"  SCHEMA            {ours}.schema"] if "SCHEMA" in pyarrow + polars else []),
    ]


@dataclass(frozen=True, slots=True)
class _Column:
    """A column, the types that files hold it under, and the one it is read as, if any."""

    name: str
    history: tuple[Any, ...]
    texts: tuple[str, ...]
    types: tuple[pa.DataType, ...]
    read_as: pa.DataType | None

    @classmethod
    def of(cls, name: str, types: Sequence[Any]) -> _Column:
        texts = tuple(dict.fromkeys(type_text(type_) for type_ in types))
        schemas = [pa.schema(list(to_arrow({name: type_}))) for type_ in types]
        found = unified(schemas, {name: types[-1]})
        held = tuple(dict.fromkeys(schema.field(name).type for schema in schemas))
        read_as = None if found.conflicts else found.fields[name]
        return cls(name, tuple(types), texts, held, read_as)

    @property
    def pyarrow_casts(self) -> bool:
        """Whether a data set of pyarrow reads all types as that one."""
        return all(self.read_as is not None and _casts(each, self.read_as) for each in self.types)

    def lines(self, uri: str, *, is_new: bool) -> list[str]:
        """Say what is seen; nothing of a column whose type was not changed.

        ``is_new``: its newest type is from the last change, which can be taken back.
        """
        held = " and ".join(self.texts)
        if self.read_as is None:
            command = f"batch-collection schema {shlex.quote(uri)}"
            if is_new and _Column.of(self.name, self.history[:-1]).read_as is not None:
                cure = f"take the pin back: {command} --undo"
            else:
                cure = f"read all of it as text after: {command} {pin_of((self.name,), 'string')}"
            return [f"{self.name}: no reader takes {held} as one column; leave it out, or {cure}"]
        if not self._leaves():
            return []
        notes = [note for holds, note in _NOTES if any(holds(a, b) for a, b in self._leaves())]
        return ["; ".join([f"{self.name}: {held} are read as {self.read_as}", *notes])]

    def _leaves(self) -> list[tuple[pa.DataType, pa.DataType]]:
        return [leaf for each in self.types for leaf in _leaves(each, self.read_as)]


def _leaves(old: pa.DataType, new: pa.DataType | None) -> list[tuple[Any, Any]]:
    """Return the pairs of types, without fields or elements, that differ."""
    if old == new or new is None:
        return []
    if pa.types.is_struct(old) and pa.types.is_struct(new):
        return [
            leaf
            for each in new
            if old.get_field_index(each.name) >= 0
            for leaf in _leaves(old.field(each.name).type, each.type)
        ]
    if pa.types.is_list(old) and pa.types.is_list(new):
        return _leaves(old.value_type, new.value_type)
    return [(old, new)]


def _is_text(type_: pa.DataType) -> bool:
    return bool(pa.types.is_string(type_))


def _is_whole(type_: pa.DataType) -> bool:
    return bool(pa.types.is_integer(type_))


def _is_fraction(type_: pa.DataType) -> bool:
    return bool(pa.types.is_floating(type_))


_NOTES = (
    (
        lambda old, new: _is_whole(old) and _is_fraction(new),
        "an integer that it does not hold exactly is an error, DuckDB and Polars round it",
    ),
    (
        lambda old, new: not _is_text(old) and _is_text(new),
        "as JSON writes it",
    ),
    (
        lambda old, new: _is_text(new) and (_is_fraction(old) or pa.types.is_timestamp(old)),
        "DuckDB and pyarrow write fractions and instants in their own way",
    ),
    (
        lambda old, new: _is_text(old) and not _is_text(new),
        "other text than JSON writes for it is an error, DuckDB reads all of it as text",
    ),
    (
        lambda old, new: _is_whole(old) and _is_whole(new) and not _is_wider(old, new),
        "a number out of its range is an error, except in DuckDB",
    ),
    (
        lambda old, new: _is_text(old) != _is_text(new),
        "pyarrow can't filter by it",
    ),
    (
        lambda old, new: not pa.types.is_list(old) and pa.types.is_list(new),
        "a single value is a list of one",
    ),
)


def _duckdb_unites(types: Iterable[pa.DataType]) -> bool:
    """Tell whether DuckDB finds a type for files that hold any of these."""
    return all(_duckdb_takes(one, other) for one, other in combinations(types, 2))


def _duckdb_takes(one: pa.DataType, other: pa.DataType) -> bool:
    if one == other:
        return True
    if pa.types.is_struct(one) and pa.types.is_struct(other):
        names = {each.name for each in one} & {each.name for each in other}
        return all(_duckdb_takes(one.field(name).type, other.field(name).type) for name in names)
    if pa.types.is_list(one) and pa.types.is_list(other):
        return _duckdb_takes(one.value_type, other.value_type)
    numeric = [_is_numeric(each) for each in (one, other)]
    if all(numeric):
        return True
    texts = (pa.types.is_timestamp, pa.types.is_binary)
    plain = [
        number or any(is_(each) for is_ in texts)
        for number, each in zip(numeric, (one, other), strict=True)
    ]
    return (_is_text(one) and plain[1]) or (_is_text(other) and plain[0])


def _is_numeric(type_: pa.DataType) -> bool:
    return _is_whole(type_) or _is_fraction(type_) or bool(pa.types.is_boolean(type_))


def _casts(old: pa.DataType, new: pa.DataType) -> bool:
    """Tell whether a data set of pyarrow reads one type as another, and says the same as we do."""
    for one, other in _leaves(old, new):
        if any(map(pa.types.is_nested, (one, other))):
            return False
        if pa.types.is_boolean(other) and not _is_text(one):
            return False  # it takes 2 for true
        if not (_is_text(one) or _is_text(other) or (_is_numeric(one) and _is_numeric(other))):
            return False
    return True


def _polars_casts(old: pa.DataType, new: pa.DataType | None) -> set[str] | None:
    """Return what ``ScanCastOptions`` Polars needs to read one type as another, None: it can't."""
    options = {_NEW_FIELDS}
    for one, other in _leaves(old, new):
        if _is_whole(one) and _is_fraction(other):
            options.add(_TO_FLOAT)
        elif _is_fraction(one) and _is_fraction(other):
            options.add(_WIDER_FLOAT)
        elif _is_wider(one, other):
            options.add(_UPCAST)
        else:
            return None
    return options


def _is_wider(old: pa.DataType, new: pa.DataType) -> bool:
    """Tell whether a type of integers holds all of another."""
    if not (_is_whole(old) and _is_whole(new)) or old.bit_width >= new.bit_width:
        return False
    return bool(pa.types.is_unsigned_integer(old) or pa.types.is_signed_integer(new))


def _joined(options: Iterable[str]) -> list[str]:
    """Return each option once; both casts of integers are one list."""
    found = sorted(set(options))
    if _UPCAST in found and _TO_FLOAT in found:
        found = [each for each in found if each not in {_UPCAST, _TO_FLOAT}]
        found.append('integer_cast=["upcast", "allow-float"]')
    return found
