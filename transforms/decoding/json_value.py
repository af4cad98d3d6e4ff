"""One JSON message, read exactly by Python: for the few of a chunk that need a closer look.

What is refused here, pyarrow's parse of a whole chunk never lets pass (``json_rows``), so it makes
no difference whether a message was looked at closely or went through with its neighbours.

An object or array that holds nothing but nulls and such objects and arrays has no type: it fits
every column, and is null where the column is of another kind.
"""

from __future__ import annotations

import json
from collections import Counter
from functools import reduce
from typing import TYPE_CHECKING, Any, NoReturn

import numpy as np

from batch_collection.instants import is_exact_instant
from batch_collection.schema.retyped import ELEMENT, pin_of
from batch_collection.schema.types import merge_types
from transforms.decoding.foreign_bytes import told_by_bytes

if TYPE_CHECKING:
    from batch_collection.schema.retyped import Path

__all__ = ["MAX_DEPTH", "RETYPE", "Misfit", "check", "depth", "fitted", "infer", "load", "written"]


MAX_DEPTH = 100
"""How deep a message may nest objects and arrays; its columns less (``schema.MAX_LEVELS``)."""

_REDRIVE = "then `batch-collection redrive PATH`"
RETYPE = f"`batch-collection schema PATH --pin NAME=TYPE`, {_REDRIVE}"
"""How a column is given another type, and dead letters of before become rows."""
_KEEP = "--input_format=bytes keeps messages as they are"
_BITS = {"int8": 8, "int16": 16, "int32": 32, "int64": 64}
_RANGES = {name: (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for name, bits in _BITS.items()}
_RANGES |= {f"u{name}": (0, 2**bits - 1) for name, bits in _BITS.items()}
_LARGEST = {"double": float(np.finfo(np.float64).max), "float": float(np.finfo(np.float32).max)}
_INSTANT = "RFC 3339 texts within years 1 to 9999, at most microseconds"
_TEXTS = {"binary", "string"}
_SENT_AS_TEXT = {*_TEXTS, "timestamp"}
_NUMBERS = ("int64", "uint64", "double")
_UNMARKED = bytes(set(range(256)) - set(b'[]{}"'))
_SHOWN = 80


class Misfit(ValueError):  # noqa: N818 - no failure of ours: it becomes a dead letter's reason
    """Why a message makes no row, and the cure."""


class _Fraction(float):
    """A number with a fraction or an exponent, and its text."""

    def __init__(self, text: str) -> None:
        """Keep the text, which ``float`` has read."""
        self.text = text


def load(message: bytes) -> Any:
    """Return the value of a JSON text (RFC 8259).

    Raises:
        Misfit: it is none, not UTF-8, names a key twice, or holds NaN or Infinity.
    """
    try:
        text = message.decode()
    except UnicodeDecodeError as error:
        _refuse_bytes(message, f"UTF-8 at byte {error.start}")
    if not text.strip(" \t\r\n"):
        _refuse("an empty message is no JSON; send null (a tombstone) or an object")
    try:
        return json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_Fraction,
        )
    except Misfit:
        raise
    except (json.JSONDecodeError, RecursionError) as error:
        _refuse_bytes(message, f"JSON: {error}")
    except ValueError:  # Python's guard against integers that take it hours
        _refuse("an integer of thousands of digits; send it as text")


def _refuse_bytes(message: bytes, what: str) -> NoReturn:
    """Say what a message is not, or what its bytes tell that it is."""
    known = told_by_bytes(message)
    _refuse(f"not {what if known is None else f'JSON but {known}'}; {_KEEP}")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        times = Counter(name for name, _ in pairs)
        twice = next(name for name, count in times.items() if count > 1)
        _refuse(f"key {twice!r} is there twice in one object; send each key once")
    for name in fields:
        _check_text(name, "a key")
    return fields


def _no_constant(name: str) -> NoReturn:
    _refuse(f"{name} is no JSON; send null instead")


def written(value: Any) -> bytes:
    """Return the JSON text of what ``load`` returned; its numbers are written as they were."""
    return _written(value).encode()


def _written(value: Any) -> str:
    if isinstance(value, dict):
        fields = (f"{json.dumps(name)}:{_written(field)}" for name, field in value.items())
        return f"{{{','.join(fields)}}}"
    if isinstance(value, list):
        return f"[{','.join(map(_written, value))}]"
    return value.text if isinstance(value, _Fraction) else json.dumps(value)


def infer(value: Any, *, integers: str) -> Any:
    """Return the type of a JSON value, integers as ``integers``; ``"null"`` where nothing tells."""
    if isinstance(value, dict):
        return {name: infer(field, integers=integers) for name, field in value.items()}
    if isinstance(value, list):
        types = (infer(element, integers=integers) for element in value)
        return [reduce(merge_types, types, "null")]
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return integers
    if isinstance(value, float):
        return "double"
    return "null" if value is None else "string"


def check(value: Any, type_: Any, path: Path = ()) -> None:
    """See that a value's columns hold it exactly, but for what has no type.

    Raises:
        Misfit: one can't; names column, value, type and cure.
    """
    if value is None:
        return
    if isinstance(value, dict) and isinstance(type_, dict):
        for name, field in value.items():
            check(field, type_.get(name), (*path, name))
    elif isinstance(value, list) and isinstance(type_, list):
        for element in value:
            check(element, type_[0], (*path, ELEMENT))
    elif (not isinstance(type_, str) or not _fits(value, type_)) and not _is_untyped(value):
        name = type_ if isinstance(type_, str) else _shown(type_)
        if type_ == "timestamp" and isinstance(value, str):
            name = f"timestamp ({_INSTANT})"
        cure = _cure(value, type_, path)
        _refuse(f"column {_named(path)} is {name} and can't hold {_shown(value)}; {cure}")
    elif isinstance(value, str):
        _check_text(value, f"column {_named(path)}")


def _named(path: Path) -> str:
    return "".join("[]" if step is ELEMENT else f".{step}" for step in path).removeprefix(".")


def fitted(value: Any, type_: Any) -> Any:
    """Return a value that ``check`` has let pass, with null for what is no object or array there.

    Fields that ``type_`` doesn't have stay.
    """
    if isinstance(value, dict) and isinstance(type_, dict):
        return {
            name: fitted(field, type_[name]) if name in type_ else field
            for name, field in value.items()
        }
    if isinstance(value, list) and isinstance(type_, list):
        return [fitted(element, type_[0]) for element in value]
    return None if isinstance(value, (dict, list)) else value


def _is_untyped(value: Any) -> bool:
    """Tell whether a value holds nothing but nulls, objects and arrays."""
    if isinstance(value, dict):
        return all(map(_is_untyped, value.values()))
    return all(map(_is_untyped, value)) if isinstance(value, list) else value is None


def _fits(value: Any, type_: str) -> bool:
    """Tell whether a primitive type holds a value exactly (a fraction: as its nearest double)."""
    if isinstance(value, bool):
        return type_ == "bool"
    if isinstance(value, str):
        return type_ in _TEXTS or (type_ == "timestamp" and is_exact_instant(value))
    if isinstance(value, int) and type_ in _RANGES:
        return _RANGES[type_][0] <= value <= _RANGES[type_][1]
    if isinstance(value, (int, float)) and type_ in _LARGEST:
        nearest = _nearest(value, type_)
        return abs(nearest) <= _LARGEST[type_] and (isinstance(value, float) or nearest == value)
    return False


def _nearest(value: float, type_: str) -> float:
    try:
        double = float(value)
    except OverflowError:
        return float("inf")
    if type_ == "double" or abs(double) > _LARGEST["double"]:
        return double
    with np.errstate(over="ignore"):
        return float(np.float32(double))


def _cure(value: Any, type_: Any, path: Path) -> str:
    """Say what makes rows of such messages, and leaves the column's older rows readable."""
    if isinstance(value, (dict, list)) or not isinstance(type_, str):
        return "send values of one kind in it, or read messages whole with --input_format=bytes"
    if isinstance(value, str):
        return _retyped(path, "string")
    if isinstance(value, bool) and type_ not in _SENT_AS_TEXT:
        return "send a number"
    if type_ in _SENT_AS_TEXT:
        return "send it as text"
    wider = ("double",) if type_ in _LARGEST else _NUMBERS
    number = next((each for each in wider if each != type_ and _fits(value, each)), None)
    if number is None:
        pin = pin_of(path, "string")
        return f"send it as text, with type string: `batch-collection schema PATH {pin}`"
    cure = _retyped(path, number)
    return f"{cure}, or all new numbers with --numbers=double" if number == "double" else cure


def _retyped(path: Path, type_: str) -> str:
    command = f"batch-collection schema PATH {pin_of(path, type_)}"
    return f"give it type {type_}: `{command}`, {_REDRIVE}"


def _check_text(text: str, where: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        _refuse(f"{where} holds half a surrogate pair, which is no text; send valid Unicode")


def _shown(value: Any) -> str:
    """Write a value as JSON, shortened."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def depth(message: bytes) -> int:
    """Return how deep a message nests brackets outside of its strings, at most, up to any error."""
    plain = message.replace(b"\\\\", b"").replace(b'\\"', b"")
    marks = plain.translate(None, _UNMARKED).replace(b'""', b"")  # strings without a bracket
    brackets = np.frombuffer(b"".join(marks.split(b'"')[::2]), np.uint8)
    opening = (brackets == ord("{")) | (brackets == ord("["))
    steps = np.where(opening, np.int8(1), np.int8(-1))
    return int(np.cumsum(steps, dtype=np.int32).max(initial=0))


def _refuse(reason: str) -> NoReturn:
    raise Misfit(reason)
