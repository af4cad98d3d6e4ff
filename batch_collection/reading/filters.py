"""Filters: expressions of Arrow that say of each row of a view whether it is one of its rows."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import and_
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from batch_collection.errors import CollectionError, in_one_line
from batch_collection.schema.unified import conformed

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    import numpy as np
    import numpy.typing as npt

    from batch_collection.schema.unified import Unified

__all__ = ["Condition", "Filter"]


_MOST_SHOWN = 200
_CALL = re.compile(r"(\w+)\(")
_HAS_ZERO = re.compile(r'value_set=[^"\]]*[\[\s]-?0[.0]*[\s,\]]')
_FALSE_FOR_NAN = {"is_in", "is_null", "is_valid", "Nested", "Name"}  # and what is no call: < and ==


@dataclass(frozen=True, slots=True)
class Filter:
    """An expression, as ``pc.field("value") > 1``; ``content`` is what Arrow writes of it."""

    expression: pc.Expression
    content: bytes

    @classmethod
    def of(cls, given: Any) -> Filter:
        """Take what a user gives.

        Raises:
            CollectionError: it is no expression, or names columns by their places.
        """
        if not isinstance(given, pc.Expression):
            message = f"where must be an expression, as pc.field('value') > 1, got {given!r}"
            raise CollectionError(message)
        try:
            content = given.__reduce__()[1][0].to_pybytes()
        except pa.ArrowException as error:
            message = f"cannot filter where {given}: name columns, as pc.field('value')"
            raise CollectionError(message) from error
        return cls(given, content)

    @classmethod
    def read(cls, content: bytes) -> Filter:
        """Take what ``content`` was.

        Raises:
            ValueError: it is nothing of Arrow's.
        """
        expression = pc.Expression._deserialize(pa.py_buffer(content))  # noqa: SLF001 - as pickle does
        return cls(expression, content)

    @property
    def key(self) -> str:
        """Its text, and a hash: text leaves out types, and the middle of long lists."""
        return f"{self} #{hashlib.blake2b(self.content, digest_size=8).hexdigest()}"

    def __str__(self) -> str:
        """Say it in one line."""
        text = " ".join(str(self.expression).split())
        return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}..."


@dataclass(frozen=True, slots=True)
class Condition:
    """What must hold of a row; ``schema`` are the columns that it names, those that are null too.

    Null does not hold. ``by_ranges`` tells whether rows can be left out because of the least and
    the largest value among them: those do not tell of NaN, for which ``~(value < 5)`` holds, nor
    zeros by their signs, which ``isin`` does.
    """

    expression: pc.Expression
    schema: pa.Schema
    by_ranges: bool

    @classmethod
    def of(cls, filters: Sequence[Filter], known: Unified, where: str) -> Condition | None:
        """Bring filters together; none is None.

        Args:
            filters: All of them must hold.
            known: The columns that they may name.
            where: Names the collection.

        Raises:
            CollectionError: there is no such column, or it is no question about these.
        """
        names: set[str] = set()
        columns = [pa.field(name, type_) for name, type_ in known.fields.items()]
        for each in filters:
            _check(each, columns)
            names |= {column.name for column in _named(each.expression, columns, [])}
        if not filters:
            return None
        schema = known.schema([name for name in known.fields if name in names], where)
        expressions = [each.expression for each in filters]
        has_fractions = any(_has_fractions(column.type) for column in schema)
        by_ranges = not has_fractions or all(map(_is_told_by_ranges, expressions))
        return cls(reduce(and_, expressions), schema, by_ranges)

    def holds(self, rows: pa.Table) -> npt.NDArray[np.bool_]:
        """Tell of each row whether it holds.

        Raises:
            CollectionError: that can't be worked out: a number is divided by 0, say.
        """
        columns = conformed(rows.select(self.schema.names), self.schema)
        if not columns.num_columns:
            columns = pa.table({"": pa.nulls(rows.num_rows)})
        asked = ds.dataset(columns).scanner(columns={"holds": self.expression}, use_threads=False)
        with self.told():
            holds = asked.to_table().column(0)
        found: npt.NDArray[np.bool_] = pc.fill_null(holds, pa.scalar(value=False)).to_numpy()
        return found

    @contextmanager
    def told(self) -> Iterator[None]:
        """Tell of what Arrow can't work out as an error of ours."""
        try:
            yield
        except pa.ArrowException as error:
            message = f"cannot filter where {self.expression}: {in_one_line(error)}"
            raise CollectionError(message) from error


def _check(one: Filter, columns: Sequence[pa.Field]) -> None:
    """Refuse what is no question about these columns."""
    try:
        ds.dataset(pa.schema(columns).empty_table()).to_table(filter=one.expression)
    except pa.ArrowException as error:
        message = f"cannot filter where {one}: {in_one_line(error)}"
        raise CollectionError(message) from error


def _named(
    where: pc.Expression, columns: Sequence[pa.Field], others: Sequence[pa.Field]
) -> list[pa.Field]:
    """Return which of some columns an expression names; Arrow tells by refusing to be without."""
    if _can_do_with(where, others):
        return []
    if len(columns) == 1:
        return list(columns)
    half = len(columns) // 2
    found = _named(where, columns[:half], [*columns[half:], *others])
    return found + _named(where, columns[half:], [*found, *others])


def _can_do_with(where: pc.Expression, columns: Sequence[pa.Field]) -> bool:
    try:
        ds.dataset(pa.schema(columns).empty_table()).scanner(columns={"holds": where})
    except pa.ArrowException:
        return False
    return True


def _has_fractions(type_: pa.DataType) -> bool:
    if pa.types.is_nested(type_):
        return any(_has_fractions(type_.field(i).type) for i in range(type_.num_fields))
    return bool(pa.types.is_floating(type_))


def _is_told_by_ranges(where: pc.Expression) -> bool:
    """Tell whether no row holds for its NaN, or the sign of its zero, alone.

    So it has only comparisons that NaN fails, no ``not``, and ``isin`` asks for no zero: a footer
    has -0 to 0 for zeros of either sign. Then NaN in place of any number makes nothing true. It is
    told by the expression's text, of which every word counts, those in quotes too: at worst no row
    is left out unread.
    """
    text = str(where).replace("nan_is_null=false", "")
    if _HAS_ZERO.search(text):
        return False
    return set(_CALL.findall(text)) <= _FALSE_FOR_NAN and not any(
        word in text.lower() for word in ("!=", "nan", "...")
    )
