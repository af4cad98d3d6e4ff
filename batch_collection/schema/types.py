"""Types of a payload's columns as the log holds them, and how two of them become one."""

from __future__ import annotations

from functools import reduce
from typing import Any, TypeAlias

__all__ = [
    "MAX_LEVELS",
    "NESTED",
    "NULL",
    "Schema",
    "count_leaves",
    "is_changed",
    "merge",
    "merge_types",
    "prune",
    "prune_type",
    "untyped",
]


Schema: TypeAlias = dict[str, Any]
"""The JSON form. Within the program ``"null"`` may stand for a type that is not known yet."""

MAX_LEVELS = 63
"""How deep structs and lists may nest, a row itself counted: Arrow's IPC, in which rows wait,
writes 64 levels, of which one is the table's."""

NULL = "null"
EMPTY = "empty"
NESTED = "nested"


def prune(schema: Schema) -> Schema:
    """Leave out what has no type: nulls, structs without fields, lists of either."""
    typed = ((name, prune_type(type_)) for name, type_ in schema.items())
    return {name: type_ for name, type_ in typed if type_ is not None}


def prune_type(type_: Any) -> Any:
    """Return the type of one column as ``prune`` does those of all; None: it has none."""
    if isinstance(type_, dict):
        return prune(type_) or None
    if isinstance(type_, list):
        element = prune_type(type_[0])
        return None if element is None else [element]
    return None if type_ in {NULL, EMPTY} else type_


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
        return EMPTY if isinstance(shape, (dict, list)) else None
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
    if NULL in (first, second) or first == second:
        return second if first == NULL else first
    if isinstance(first, dict) and isinstance(second, dict):
        return merge(first, second, widen=widen)
    if isinstance(first, list) and isinstance(second, list):
        return [merge_types(first[0], second[0], widen=widen)]
    if widen and (first, second) in (("int64", "double"), ("double", "int64")):
        return "double"
    return second if prune_type(first) is None and prune_type(second) is not None else first


def is_changed(before: Schema, after: Schema) -> bool:
    """Tell whether a column of ``before`` has another type in ``after``; new ones do not count."""
    return any(_is_changed(type_, after.get(name)) for name, type_ in before.items())


def _is_changed(before: Any, after: Any) -> bool:
    if isinstance(before, dict) and isinstance(after, dict):
        return is_changed(before, after)
    if isinstance(before, list) and isinstance(after, list):
        return _is_changed(before[0], after[0])
    if before == EMPTY:
        return isinstance(after, (dict, list))
    return bool(before != after)


def count_leaves(schema: Schema) -> int:
    """Return the number of columns that hold values: structs count by their fields."""
    return sum(1 if isinstance(type_, str) else _count_leaves(type_) for type_ in schema.values())


def _count_leaves(type_: Any) -> int:
    if isinstance(type_, list):
        return _count_leaves(type_[0])
    return max(count_leaves(type_), 1) if isinstance(type_, dict) else 1
