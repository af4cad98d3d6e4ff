"""``batch-collection schema``: a collection's columns, where their types are from, and new ones."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from batch_collection.collection import no_collection
from batch_collection.errors import CollectionError
from batch_collection.expiry import first_kept, undisturbed
from batch_collection.log import newest_entry, read_entries, read_entry
from batch_collection.maintenance import append, successor
from batch_collection.names import RESERVED_COLUMNS
from batch_collection.schema import merge_types, read_type, to_arrow, type_text
from batch_collection.schema_history import schema_history
from batch_collection.storage import open_storage
from batch_collection.unified import unified
from batch_collection.windows import format_instant
from pipeline.flags import EXACTNESS, Flags
from transforms.additions import folded, refusal

if TYPE_CHECKING:
    import argparse
    from collections.abc import Sequence

    from batch_collection.entry import Entry
    from batch_collection.expiry import Expiry
    from batch_collection.schema import Schema
    from batch_collection.schema_history import ColumnHistory
    from batch_collection.storage import Storage

__all__ = ["SchemaOptions", "check", "configure", "pin", "run"]


_READERS = (
    "to read both, DuckDB needs union_by_name=true, pyarrow schema=SCHEMA, Polars schema=SCHEMA "
    'and cast_options=ScanCastOptions(integer_cast="allow-float")'
)


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """What ``schema`` was asked to do; ``pins`` are types by column."""

    path: str
    pins: Schema
    json: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("path", metavar="PATH", help="the collection, OUTPUT/NAME")
    parser.add_argument(
        "--pin",
        dest="pins",
        metavar="NAME=TYPE",
        action="append",
        default=[],
        help="give a column a type from now on, as in a file of --schema; may be repeated; "
        f"{EXACTNESS}",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def check(args: argparse.Namespace) -> SchemaOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags, pins = Flags(args), dict[str, Any]()
    for text in args.pins:
        name, equals, type_ = text.partition("=")
        try:
            if not name.strip() or not equals:
                message = "write it as NAME=TYPE, as value=double"
                raise ValueError(message)  # noqa: TRY301 - all are told in one form
            pins[name] = read_type(type_, name)
        except ValueError as error:
            flags.errors.append(f"--pin={text}: {error}")
    flags.done()
    return SchemaOptions(args.path, pins, args.json)


def run(options: SchemaOptions) -> int:
    """Pin what is to be pinned, else print the columns; return 0.

    Raises:
        CollectionError: there is no collection, or a name is taken.
    """
    storage = open_storage(options.path)
    if options.pins:
        print(_pinned(pin(storage, options.pins), options.pins, storage))
        return 0
    newest, found = undisturbed(storage, partial(_look, storage))
    print(_json(found) if options.json else _described(storage.uri, newest, found))
    return 0


def _look(storage: Storage, expiry: Expiry | None) -> tuple[Entry, tuple[ColumnHistory, ...]]:
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    first = first_kept(expiry)
    folded = expiry.folded.last if expiry is not None and expiry.folded is not None else None
    return newest, schema_history(read_entries(storage, first, newest.cycle), folded)


def pin(storage: Storage, pins: Schema) -> Entry | None:
    """Give columns types for all that is collected from now on.

    Returns:
        The entry that says so; None if they have those types already.

    Raises:
        CollectionError: a name is taken, or there is no collection.
    """

    def pinned(newest: Entry, digest: str) -> Entry | None:
        new = sorted(pins.keys() - newest.schema.keys())
        taken = [name for name in new if folded(name, newest.fold) in RESERVED_COLUMNS]
        if taken:
            message = f"--pin={taken[0]}=...: a name of the metadata or path; choose another"
            raise CollectionError(message)
        types = {name: _with_fields(type_, newest.schema, name) for name, type_ in pins.items()}
        changed = tuple(name for name, type_ in types.items() if newest.schema.get(name) != type_)
        schema = {**newest.schema, **types}
        if problem := refusal(newest.schema, schema, newest.fold):
            message = f"--pin: {problem}"
            raise CollectionError(message)
        entry = replace(successor(newest, digest, "pin"), schema=schema, pinned=changed)
        return entry if changed else None

    return append(storage, pinned)


def _with_fields(type_: Any, schema: Schema, name: str) -> Any:
    """Return a pinned type with the fields that the column has and the pin doesn't name."""
    return merge_types(type_, schema[name], widen=False) if name in schema else type_


def _pinned(entry: Entry | None, pins: Schema, storage: Storage) -> str:
    """Say what was pinned, and what it means for what is there."""
    if entry is None:
        return f"nothing to pin: {storage.uri} has {_columns(pins, pins)} already"
    before = read_entry(storage, entry.cycle - 1).schema
    lines = [f"cycle {entry.cycle}: from now on {_columns(entry.pinned, entry.schema)}"]
    changed = [name for name in entry.pinned if name in before]
    if changed:
        both = unified(
            to_arrow({name: of[name] for name in changed}) for of in (before, entry.schema)
        )
        needs = "no reader takes both as one column" if both.conflicts else _READERS
        lines.append(f"batches that are there keep {_columns(changed, before)}; {needs}")
    lines.append(f"dead letters of before: batch-collection redrive {storage.uri}")
    return "\n".join(lines)


def _columns(names: Sequence[str] | Schema, types: Schema) -> str:
    return ", ".join(f"{name}={type_text(types[name])}" for name in names)


def _described(uri: str, newest: Entry, found: Sequence[ColumnHistory]) -> str:
    """Write the columns for people."""
    head = f"{uri}\n{newest.source.kind} topic {newest.source.topic}, cycle {newest.cycle}"
    if not found:
        return f"{head}\n\n  no columns yet"
    rows = [("column", "type", "since", "committed", "by")]
    for column in found:
        for number, change in enumerate(column.changes):
            name = "" if number else column.name
            at = f"{change.committed_at:%Y-%m-%d %H:%M:%S} UTC"
            rows.append((name, type_text(change.type), f"cycle {change.cycle}", at, change.by))
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    lines = ("  ".join(map(str.ljust, row, widths)).rstrip() for row in rows)
    return "\n".join([head, "", *(f"  {line}" for line in lines)])


def _json(found: Sequence[ColumnHistory]) -> str:
    """Write the columns for programs."""
    columns = [
        {
            "name": column.name,
            "type": column.type,
            "changes": [
                {
                    "cycle": change.cycle,
                    "committed_at": format_instant(change.committed_at),
                    "type": change.type,
                    "by": change.by,
                }
                for change in column.changes
            ],
        }
        for column in found
    ]
    return json.dumps({"columns": columns}, indent=1)
