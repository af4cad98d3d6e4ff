"""A ``--schema`` against the types that a collection has."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from batch_collection.errors import LogError
from batch_collection.schema import is_changed, merge, type_text

if TYPE_CHECKING:
    from batch_collection.schema import Schema

__all__ = ["check_schema", "newly_pinned"]


def check_schema(given: Schema, known: Schema, uri: str) -> None:
    """Refuse a ``--schema`` that gives a column another type than its collection has.

    Raises:
        LogError: it names the column and the cures.
    """
    merged = merge(known, given, widen=False)
    for name, type_ in given.items():
        if is_changed({name: type_}, merged):
            pin = shlex.quote(f"{name}={type_text(type_)}")
            message = (
                f"--schema gives column {name} the type {type_text(type_)}, but in {uri} it is "
                f"{type_text(known[name])}; leave it, pin it for the future with "
                f"`batch-collection schema {uri} --pin {pin}`, or use another --output"
            )
            raise LogError(message)


def newly_pinned(given: Schema, wanted: Schema, known: Schema) -> tuple[str, ...]:
    """Return the columns of ``--schema`` whose type is ``wanted`` now, and was not ``known``."""
    return tuple(name for name in given if wanted.get(name, known.get(name)) != known.get(name))
