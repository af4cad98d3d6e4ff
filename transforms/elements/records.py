"""Records as JSON, for what other processes, and other versions of this program, read.

A field is looked for by its name: one that a newer version has added is ignored, one that an older
version did not know gets its default. No byte names a module or a class.
"""

from __future__ import annotations

from dataclasses import is_dataclass
from datetime import datetime, timedelta
from functools import cache, lru_cache
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import orjson
import pyarrow as pa

from batch_collection.log.entry import (
    BatchFile,
    CarryFile,
    DeadLetterFile,
    IdFile,
    Origin,
    PartitionRead,
)
from batch_collection.windows import parse_instant
from transforms.elements.plan import Plan, Task
from transforms.sources.contract import Pull, Remembering, Slice

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["framed", "from_json", "to_json", "unframed"]


_T = TypeVar("_T")
_OPTIONS = orjson.OPT_NON_STR_KEYS | orjson.OPT_UTC_Z
_LENGTH = 4
_NAMES: dict[str, Any] = {
    each.__name__: each
    for each in (
        *(BatchFile, CarryFile, DeadLetterFile, IdFile, Origin, PartitionRead),
        *(Plan, Pull, Remembering, Slice, Task, datetime, timedelta),
    )
}
"""What modules import for their annotations only."""


def to_json(record: Any) -> bytes:
    """Return the JSON of a dataclass or named tuple; instants in it are RFC 3339, spans seconds.

    Equal records give the same bytes, but for the order of a ``dict``: columns keep theirs.
    """
    return orjson.dumps(record, default=_fields, option=_OPTIONS)


def from_json(kind: type[_T], content: bytes | memoryview) -> _T:
    """Return the record of what ``to_json`` wrote, in this version or another.

    Raises:
        ValueError: it is no JSON.
        TypeError: a field without default isn't there.
    """
    read: Callable[[Any], _T] = _reader(kind)
    return read(orjson.loads(content))


def framed(head: Any, *parts: Any) -> bytes:
    """Return a record, and bytes that follow it."""
    json = to_json(head)
    return b"".join((len(json).to_bytes(_LENGTH, "big"), json, *parts))


def unframed(kind: type[_T], encoded: bytes | pa.Buffer) -> tuple[_T, pa.Buffer]:
    """Return the record that ``framed`` put in front, and what follows it, uncopied."""
    start = _LENGTH + int.from_bytes(encoded[:_LENGTH], "big")
    head = from_json(kind, memoryview(encoded)[_LENGTH:start])
    return head, pa.py_buffer(encoded)[start:]


def _fields(value: Any) -> dict[str, Any] | float:
    """Return a named tuple by its names, a span of time in seconds; orjson knows all else."""
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, tuple):
        return value._asdict()  # type: ignore[attr-defined]
    message = f"not a record: {type(value).__name__}"
    raise TypeError(message)


_TIMES: dict[Any, Callable[[Any], Any]] = {
    datetime: lru_cache(maxsize=1024)(parse_instant),  # a report's windows are few
    timedelta: lambda seconds: timedelta(seconds=seconds),
}


def _as_is(value: Any) -> Any:
    return value


def _reader(hint: Any) -> Callable[[Any], Any]:
    """Return what makes a value of an annotated type of its JSON, made once."""
    return _made_reader(hint)


@cache
def _made_reader(hint: Any) -> Callable[[Any], Any]:
    origin, args = get_origin(hint), get_args(hint)
    if hint in _TIMES:
        return _TIMES[hint]
    if origin in {Union, UnionType}:
        (inner,) = {*args} - {NoneType}
        return _or_none(_reader(inner))
    if origin is tuple:
        return _tuple_reader(_reader(args[0]) if args[1:] == (...,) else _as_is)
    if origin is dict:
        return _dict_reader(args[0], _reader(args[1]))
    if is_dataclass(hint) or hasattr(hint, "_fields"):
        return _record_reader(hint)
    return _as_is


def _or_none(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if read is _as_is:
        return read
    return lambda value: None if value is None else read(value)


def _tuple_reader(read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return tuple if read is _as_is else lambda items: tuple(map(read, items))


def _dict_reader(key: Callable[[Any], Any], read: Callable[[Any], Any]) -> Callable[[Any], Any]:
    if key is str and read is _as_is:
        return read
    return lambda items: {key(name): read(item) for name, item in items.items()}


def _record_reader(kind: Any) -> Callable[[Any], Any]:
    hints = get_type_hints(kind, localns=_NAMES)
    kind_of = getattr(kind, "kind_of", None)
    every = {name: _reader(hint) for name, hint in hints.items()}
    readers = [(name, of_field) for name, of_field in every.items() if of_field is not _as_is]

    def read(fields: dict[str, Any]) -> Any:
        if fields.keys() != hints.keys():
            fields = {name: fields[name] for name in hints if name in fields}
        for name, of_field in readers:
            if name in fields:
                fields[name] = of_field(fields[name])
        return kind(**fields)

    if kind_of is None:
        return read

    def read_kind(fields: dict[str, Any]) -> Any:
        found = kind_of(fields)
        return read(fields) if found is kind else _reader(found)(fields)

    return read_kind
