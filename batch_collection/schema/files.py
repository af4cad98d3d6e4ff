"""Types as users write them: in a schema file, or behind a flag."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NoReturn

from batch_collection.errors import CollectionError
from batch_collection.schema.arrow import PRIMITIVES
from batch_collection.schema.types import MAX_LEVELS, Schema

__all__ = ["read_schema_file", "read_type", "type_text"]


def read_schema_file(path: str) -> Schema:
    """Read the file of ``--schema=FILE``: JSON, or YAML if its name ends in ``.yaml`` or ``.yml``.

    Raises:
        CollectionError: it can't be read or is no schema; names the file and the field.
    """
    try:
        content = Path(path).read_text(encoding="utf-8")
        schema = _parse(content, yaml=path.endswith((".yaml", ".yml")))
        if not isinstance(schema, dict):
            _refuse("not a mapping from columns to types")
        _check(schema, "", 0)
    except (OSError, ValueError) as error:
        message = f"--schema={path}: {getattr(error, 'strerror', None) or error}"
        raise CollectionError(message) from error
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


def _parse(content: str, *, yaml: bool) -> Any:
    if not yaml:
        return _loaded(content)
    try:
        import yaml as yaml_  # noqa: PLC0415 - only those who write YAML need it
    except ImportError:
        _refuse("reading YAML needs PyYAML; pip install pyyaml, or write JSON")
    try:
        return yaml_.safe_load(content)
    except (yaml_.YAMLError, RecursionError) as error:
        raise ValueError(str(error).replace("\n", " ")) from error


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_unique)
    except RecursionError as error:
        raise ValueError(str(error)) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) < len(pairs):
        _refuse(f"a column twice among {', '.join(name for name, _ in pairs)}")
    return fields


def _check(type_: Any, path: str, above: int) -> None:
    """Refuse what is no type, or has too many levels, of which some are ``above``."""
    if not isinstance(type_, str) and above == MAX_LEVELS:
        _refuse(f"a field is nested more than {MAX_LEVELS} levels deep; make it flatter")
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
