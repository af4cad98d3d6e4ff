"""Changes of a collection's columns by ``batch-collection schema``, each as an entry of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError, LogError
from batch_collection.log.entries import read_entry
from batch_collection.publishing.append import successor
from batch_collection.schema.columns import reserved_names
from batch_collection.schema.types import Schema, merge_types
from transforms.decoding.additions import folded, objection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

    Change = Callable[[Entry, str], Entry | None]
    """Makes the entry that follows another, given with the digest of its bytes; None: no need."""

__all__ = ["dropping", "pinning", "undoing"]


_FIRST_FORMAT = 2
"""The first format whose collectors know that columns may be dropped."""


def pinning(pins: Schema) -> Change:
    """Return what gives columns types for all that is collected from then on."""

    def pinned(newest: Entry, digest: str) -> Entry | None:
        new = sorted(pins.keys() - newest.schema.keys())
        reserved = reserved_names(newest.source.kind)
        taken = [name for name in new if folded(name, newest.fold) in reserved]
        if taken:
            message = f"--pin={taken[0]}=...: a name of the metadata or path; choose another"
            raise CollectionError(message)
        types = {name: _with_fields(type_, newest.schema, name) for name, type_ in pins.items()}
        changed = tuple(name for name, type_ in types.items() if newest.schema.get(name) != type_)
        if not changed:
            return None
        schema = {**newest.schema, **types}
        if problem := objection(newest.schema, schema, newest.fold, newest.dropped):
            message = f"--pin: {problem}"
            raise CollectionError(message)
        return successor(
            newest,
            digest,
            "pin",
            schema=schema,
            pinned=changed,
            dropped=_without(newest.dropped, types),
        )

    return pinned


def _with_fields(type_: Any, schema: Schema, name: str) -> Any:
    """Return a pinned type with the fields that the column has and the pin doesn't name."""
    return merge_types(type_, schema[name], widen=False) if name in schema else type_


def _without(schema: Schema, names: Sequence[str] | Schema) -> Schema:
    return {name: type_ for name, type_ in schema.items() if name not in names}


def dropping(names: Sequence[str]) -> Change:
    """Return what leaves columns out of all that is collected from then on."""

    def dropped(newest: Entry, digest: str) -> Entry | None:
        leaving = [name for name in dict.fromkeys(names) if name not in newest.dropped]
        for name in leaving:
            _check_drop(name, newest)
        if not leaving:
            return None
        return successor(
            newest,
            digest,
            "drop",
            schema=_without(newest.schema, leaving),
            dropped={**newest.dropped, **{name: newest.schema[name] for name in leaving}},
        )

    return dropped


def _check_drop(name: str, newest: Entry) -> None:
    """Refuse to drop what is no column, or what rows can't do without."""
    if name not in newest.schema:
        message = (
            f"--drop={name}: there is no such column, and columns are dropped whole; "
            f"the collection has: {', '.join(newest.schema) or 'none'}"
        )
        raise CollectionError(message)
    field = newest.row_time.removeprefix("field:")
    if field != newest.row_time and f"{field}.".startswith(f"{name}."):
        message = f"--drop={name}: the time of rows is read from it ({newest.row_time}); leave it"
        raise CollectionError(message)
    if newest.format < _FIRST_FORMAT:
        message = (
            f"--drop={name}: the collection is of format {newest.format}, whose collectors would "
            "learn the column again; first run `batch-collection upgrade PATH`"
        )
        raise CollectionError(message)


def undoing(storage: Storage) -> Change:
    """Return what takes the last ``--pin`` or ``--drop`` back, for all that is collected then.

    Columns that it named get the types that they had before it, and keep the fields that they have
    gained since. To undo an undo is to do it again.
    """

    def undone(newest: Entry, digest: str) -> Entry | None:
        before, changed = _before_last_change(storage, newest)
        types = {
            name: _with_fields(before.schema[name], newest.schema, name)
            for name in changed
            if name in before.schema
        }
        dropped = {name: before.dropped[name] for name in changed if name in before.dropped}
        return successor(
            newest,
            digest,
            "drop" if dropped else "pin",
            schema={**_without(newest.schema, changed), **types},
            pinned=tuple(types),
            dropped={**_without(newest.dropped, changed), **dropped},
        )

    return undone


def _before_last_change(storage: Storage, newest: Entry) -> tuple[Entry, Sequence[str]]:
    """Return the entry before the last ``--pin`` or ``--drop``, and the columns that it named."""
    entry = newest
    try:
        while entry.cycle:
            before = read_entry(storage, entry.cycle - 1)
            if entry.cause in {"pin", "drop"}:
                moved = sorted(before.dropped.keys() ^ entry.dropped.keys())
                return before, tuple(dict.fromkeys([*entry.pinned, *moved]))
            entry = before
    except LogError as error:
        message = f"the log of {storage.uri} has no --pin or --drop left to take back: {error}"
        raise CollectionError(message) from error
    message = f"there is no --pin or --drop to take back in {storage.uri}"
    raise CollectionError(message)
