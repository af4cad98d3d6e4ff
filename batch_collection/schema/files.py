"""Types as users write them: in a schema file, or behind a flag."""

from __future__ import annotations

import json
from typing import Any, NoReturn

from batch_collection.schema.arrow import PRIMITIVES
from batch_collection.schema.types import MAX_LEVELS, Schema

__all__ = ["read_schema", "read_type", "type_text"]

_TOO_DEEP = f"a field is nested more than {MAX_LEVELS} levels deep"


def read_schema(text: str, *, as_yaml: bool = False) -> Schema:
    """Read the types of columns, which a file has as JSON, or as YAML.

    Raises:
        ValueError: it is no schema; says where in the text, or of which field.
    """
    form, other = "value: double", "JSON"
    if not as_yaml:
        form, other = '{"value": "double"}', "YAML in a file named .yaml"
    cure = f"write types by columns, as {form}, or {other}"
    try:
        schema = _loaded_yaml(text) if as_yaml else _loaded(text)
    except ValueError as error:
        message = f"{error}; {cure}"
        raise ValueError(message) from error
    if not isinstance(schema, dict):
        kind = "a list" if isinstance(schema, list) else "one value"
        _refuse(f"it is {kind if text.strip() else 'empty'}; {cure}")
    _check(schema, "", 0)
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


def _loaded_yaml(text: str) -> Any:
    from batch_collection.schema.unique_yaml import load  # noqa: PLC0415 - trainers read none

    try:
        return load(text)
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique) if text.strip() else None
    except json.JSONDecodeError as error:
        problem = error.msg[:1].lower() + error.msg[1:].removesuffix(" at")
        message = f"no JSON in line {error.lineno}, column {error.colno}: {problem}"
        raise ValueError(message) from error
    except RecursionError as error:
        raise ValueError(_TOO_DEEP) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    known = dict[str, Any]()
    for name, type_ in pairs:
        if name in known:
            _refuse(f"{name} is given twice")
        known[name] = type_
    return known


def _check(type_: Any, path: str, above: int) -> None:
    """Refuse what is no type, or has too many levels, of which some are ``above``."""
    if not isinstance(type_, str) and above == MAX_LEVELS:
        _refuse(f"{_TOO_DEEP}; make it flatter")
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
