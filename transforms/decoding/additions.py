"""What a payload schema may gain: types that all writers hold, names that readers tell apart.

Only what is added is looked at, so that columns that come one by one cost the same each; what is in
the schema already stays.
"""

from __future__ import annotations

import io
import string
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.errors import in_one_line
from batch_collection.formats.known import FORMATS
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.types import MAX_LEVELS

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.schema.types import Schema

__all__ = ["folded", "objection", "without_twins"]


_LOWER = str.maketrans(string.ascii_uppercase, string.ascii_lowercase)


def folded(name: str, fold: str) -> str:
    """Return a name as readers compare it; ``fold`` is the collection's (``Form``).

    DuckDB takes names that differ by the case of ASCII letters for one, and tells Ä from ä.
    """
    return name.translate(_LOWER) if fold == "ascii" else name


def objection(known: Schema, grown: Schema, fold: str, dropped: Schema | None = None) -> str | None:
    """Say what readers or writers have against ``grown``, and what to do; None: nothing.

    Each writer is tried on what is added: one row of it. Older files have the columns that were
    ``dropped``, so that their names are taken, too.
    """
    gone = dropped or {}
    twins = _twins({**gone, **known}, {**gone, **grown}, fold, "")
    if twins is not None:
        return (
            f"names {twins[0]!r} and {twins[1]!r} differ by case alone, and DuckDB and Spark take "
            "them for one; use one of them"
        )
    new = _added(known, grown)
    if not new:
        return None
    if fold == "ascii" and _is_named(new, lambda name: not name):
        return "a field's name is empty, and DuckDB puts another in its place; give it a name"
    if fold == "ascii" and _is_named(new, lambda name: "\0" in name):
        return "a field's name has a NUL, and DuckDB and Polars end it there; leave it out"
    levels = _levels(new)
    if levels > MAX_LEVELS:
        return f"nested {levels} levels deep, the limit is {MAX_LEVELS}; make it flatter"
    problem = _unwritable(new)
    return None if problem is None else f"{problem}; use another type or name"


def without_twins(known: Schema, grown: Schema, fold: str) -> Schema:
    """Return ``known`` with what ``grown`` adds, but for names that readers take for a known one.

    Of two new ones the first stays.
    """
    kept = dict(known)
    spelt = {folded(name, fold): name for name in reversed(known)}
    for name, type_ in grown.items():
        if name in known or spelt.setdefault(folded(name, fold), name) == name:
            kept[name] = _without_twins(known.get(name), type_, fold)
    return kept


def _without_twins(known: Any, grown: Any, fold: str) -> Any:
    if isinstance(grown, dict):
        return without_twins(known if isinstance(known, dict) else {}, grown, fold)
    if isinstance(grown, list):
        return [_without_twins(known[0] if isinstance(known, list) else None, grown[0], fold)]
    return grown


def _twins(known: Any, grown: Any, fold: str, path: str) -> tuple[str, str] | None:
    """Return two names of ``grown``, not both in ``known``, that readers take for one."""
    if isinstance(grown, list):
        return _twins(known[0] if isinstance(known, list) else None, grown[0], fold, f"{path}[]")
    if not isinstance(grown, dict) or grown == known:
        return None
    of: Schema = known if isinstance(known, dict) else {}
    spelt = {folded(name, fold): name for name in reversed(of)}
    for name, type_ in grown.items():
        where = f"{path}.{name}" if path else name
        twin = name if name in of else spelt.setdefault(folded(name, fold), name)
        if twin != name:
            return (f"{path}.{twin}" if path else twin), where
        if found := _twins(of.get(name), type_, fold, where):
            return found
    return None


def _added(known: Schema, grown: Schema) -> Schema:
    """Return what ``grown`` has that ``known`` doesn't, or has as another type."""
    return {
        name: _added_type(known.get(name), type_)
        for name, type_ in grown.items()
        if known.get(name) != type_
    }


def _added_type(known: Any, grown: Any) -> Any:
    if isinstance(known, dict) and isinstance(grown, dict):
        return _added(known, grown)
    if isinstance(known, list) and isinstance(grown, list):
        return [_added_type(known[0], grown[0])]
    return grown


def _is_named(type_: Any, test: Callable[[str], bool]) -> bool:
    """Tell whether a field, however deep, has a name of some kind."""
    if isinstance(type_, dict):
        return any(test(name) or _is_named(field, test) for name, field in type_.items())
    return isinstance(type_, list) and _is_named(type_[0], test)


def _levels(type_: Any) -> int:
    if isinstance(type_, dict):
        return 1 + max(map(_levels, type_.values()), default=0)
    return 1 + _levels(type_[0]) if isinstance(type_, list) else 0


def _unwritable(schema: Schema) -> str | None:
    """Write a row as carry, and read it; write it in each format; say what goes wrong."""
    try:
        payload = pa.array([_sample(schema)], to_arrow(schema))
        waiting = pa.table({"payload": payload})
        with pa.ipc.new_stream(sink := pa.BufferOutputStream(), waiting.schema) as stream:
            stream.write_table(waiting)
        pa.ipc.open_stream(sink.getvalue()).read_all()
        columns = pa.Table.from_arrays(payload.flatten(), schema=pa.schema(list(payload.type)))
        for file_format in FORMATS.values():
            compression = next(iter(file_format.endings))
            writer = file_format.writer(io.BytesIO(), columns.schema, compression)
            writer.write(columns)
            writer.close()
    except (pa.ArrowException, ValueError, TypeError, RecursionError) as error:
        return f"no file can hold it: {in_one_line(error)}"
    return None


def _sample(type_: Any) -> Any:
    """Return a value that has all of a type's levels."""
    if isinstance(type_, dict):
        return {name: _sample(field) for name, field in type_.items()}
    return [_sample(type_[0])] if isinstance(type_, list) else None
