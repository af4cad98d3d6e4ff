"""A ``--schema`` against the types that a collection has."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError, LogError
from batch_collection.log.entry import FORMAT, FORMS
from batch_collection.schema.files import type_text
from batch_collection.schema.retyped import pin_of
from batch_collection.schema.types import is_changed, merge
from transforms.decoding.additions import folded, objection

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry
    from batch_collection.schema.types import Schema

__all__ = ["check_schema", "newly_pinned"]


def check_schema(given: Schema, newest: Entry | None, uri: str, reserved: frozenset[str]) -> None:
    """Refuse a ``--schema`` that gives a column another type than its collection has, or no more.

    And one that adds what no file can hold, or a name that readers take for another's; and
    metadata that would have the name of a column.

    Args:
        newest: the collection's newest entry; None: it is about to be begun.
        reserved: names that a column can't have.

    Raises:
        CollectionError: it names the column and the cures.
    """
    known, fold = ({}, FORMS[FORMAT].fold) if newest is None else (newest.schema, newest.fold)
    dropped = {} if newest is None else newest.dropped
    masked = [name for name in {**dropped, **known} if folded(name, fold) in reserved]
    if masked:
        message = (
            f"--metadata adds {folded(masked[0], fold)}, but messages gave {uri} a column "
            f"{masked[0]}; go on with --metadata=none, or use another --output"
        )
        raise LogError(message)
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
        else objection(known, merged, fold, dropped)
    )
    if problem is not None:
        message = f"--schema: {problem}"
        raise CollectionError(message)


def newly_pinned(given: Schema, wanted: Schema, known: Schema) -> tuple[str, ...]:
    """Return the columns of ``--schema`` whose type is ``wanted`` now, and was not ``known``."""
    return tuple(name for name in given if wanted.get(name, known.get(name)) != known.get(name))
