"""Types that columns may have, and rows of them: whatever a collection can hold."""

from __future__ import annotations

from datetime import timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from hypothesis import strategies as st

from batch_collection.schema.arrow import PRIMITIVES

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["NAMES", "TYPES", "rows_of", "tables", "values_of"]

NAMES = st.text(st.characters(exclude_categories=["Cs"]), max_size=3) | st.sampled_from(
    ["a.b", "1", '"', "\\", "\u2028", "a\x00b", "_x", "true", "{", "null"]
)
# fields by name, as entries of the log have them
TYPES: st.SearchStrategy[pa.DataType] = st.recursive(
    st.sampled_from(list(PRIMITIVES.values())),
    lambda inner: (
        inner.map(pa.list_)
        | st.dictionaries(NAMES, inner, min_size=1, max_size=3).map(
            lambda fields: pa.struct(sorted(fields.items()))
        )
    ),
    max_leaves=4,
)
_TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=5) | st.sampled_from(
    ["2026-11-22T10:30:00Z", "NaN", "Infinity", "1", "null", "\u2028", "\x00", "\n", "\r\n", "=="]
)
_INSTANTS = st.datetimes(timezones=st.just(timezone.utc))


def values_of(type_: pa.DataType) -> st.SearchStrategy[Any]:
    """Return values of a type, nulls at every level among them."""
    return st.none() | _some(type_)


def _some(type_: pa.DataType) -> st.SearchStrategy[Any]:
    is_ = pa.types
    makers: tuple[tuple[Callable[[Any], bool], Callable[[Any], st.SearchStrategy[Any]]], ...] = (
        (is_.is_struct, lambda of: st.fixed_dictionaries({f.name: values_of(f.type) for f in of})),
        (is_.is_map, lambda of: st.lists(st.tuples(_some(of.key_type), values_of(of.item_type)))),
        (is_.is_list, lambda of: st.lists(values_of(of.value_type), max_size=3)),
        (is_.is_integer, _integers),
        (is_.is_floating, lambda of: st.floats(width=of.bit_width)),
        (is_.is_boolean, lambda _: st.booleans()),
        (is_.is_string, lambda _: _TEXT),
        (is_.is_binary, lambda _: st.binary(max_size=5)),
        (is_.is_timestamp, _instants),
    )
    return next(make(type_) for test, make in makers if test(type_))


def _integers(type_: pa.DataType) -> st.SearchStrategy[int]:
    bits, is_signed = type_.bit_width, pa.types.is_signed_integer(type_)
    low, high = (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) if is_signed else (0, 2**bits - 1)
    return st.integers(low, high) | st.sampled_from([low, high])


def _instants(type_: pa.TimestampType) -> st.SearchStrategy[Any]:
    step = {"ms": 1000, "us": 1}[type_.unit]
    return _INSTANTS.map(lambda at: at.replace(microsecond=at.microsecond // step * step))


def rows_of(schema: pa.Schema, most: int = 4) -> st.SearchStrategy[pa.Table]:
    """Return tables of a schema."""
    row = st.fixed_dictionaries({field.name: values_of(field.type) for field in schema})
    return st.lists(row, min_size=1, max_size=most).map(
        lambda rows: pa.Table.from_pylist(rows, schema)
    )


@st.composite
def tables(draw: st.DrawFn) -> pa.Table:
    """Return a table of any columns."""
    columns = draw(st.dictionaries(NAMES, TYPES, min_size=1, max_size=3))
    return draw(rows_of(pa.schema(list(columns.items()))))
