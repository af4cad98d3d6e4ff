"""A ``--schema`` against the types that a collection has."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from batch_collection.entry import FORMAT, FORMS
from batch_collection.errors import CollectionError, LogError
from batch_collection.retyped import pin_of
from batch_collection.schema import is_changed, merge, type_text
from transforms.additions import folded, refusal

if TYPE_CHECKING:
    from batch_collection.entry import Entry
    from batch_collection.schema import Schema

__all__ = ["check_schema", "newly_pinned"]


def check_schema(given: Schema, newest: Entry | None, uri: str, reserved: frozenset[str]) -> None:
    """Refuse a ``--schema`` that gives a column another type than its collection has, or no more.

    And one that adds what no file can hold, or a name that readers take for another's.

    Args:
        newest: the collection's newest entry; None: it is about to be begun.
        reserved: names that a column can't have.

    Raises:
        CollectionError: it names the column and the cures.
    """
    known, fold = ({}, FORMS[FORMAT].fold) if newest is None else (newest.schema, newest.fold)
    dropped = {} if newest is None else newest.dropped
    merged = merge(known, given, widen=False)
    for name, type_ in given.items():
        if name not in dropped and not is_changed({name: type_}, merged):
            continue
        held = f"it is {type_text(known[name])}" if name in known else "it was dropped"
        message = (
            f"--schema gives column {name} the type {type_text(type_)}, but in {uri} {held}; "
            "leave it, pin it for the future with "
            f"`batch-collection schema {shlex.quote(uri)} {pin_of((name,), type_)}`, "
            "or use another --output"
        )
        raise LogError(message)
    taken = [n for n in given if n not in known and folded(n, fold) in reserved]
    problem = (
        f"column {taken[0]!r} has a name of the metadata or path; rename it"
        if taken
        else refusal(known, merged, fold, dropped)
    )
    if problem is not None:
        message = f"--schema: {problem}"
        raise CollectionError(message)


def newly_pinned(given: Schema, wanted: Schema, known: Schema) -> tuple[str, ...]:
    """Return the columns of ``--schema`` whose type is ``wanted`` now, and was not ``known``."""
    return tuple(name for name in given if wanted.get(name, known.get(name)) != known.get(name))
