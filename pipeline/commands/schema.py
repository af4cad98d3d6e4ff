"""``batch-collection schema``: a collection's columns, where their types are from, and changes."""

from __future__ import annotations

import json
import shlex
from dataclasses import dataclass
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.collection import open as open_collection
from batch_collection.log.entries import newest_entry, no_collection, read_entries, read_entry
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.log.schema_history import schema_history
from batch_collection.paths import staged_cycle
from batch_collection.publishing.append import append
from batch_collection.schema.files import read_type, type_text
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_instant
from pipeline.options.flags import EXACTNESS, Flags, configure_path, nearest
from pipeline.planning.schema_change import dropping, pinning, undoing
from pipeline.showing.lines import say
from pipeline.showing.reader_needs import reader_needs
from pipeline.showing.schema_export import ENDINGS, exported
from pipeline.showing.wording import aligned, described_instant, described_source

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator, Sequence

    from batch_collection.log.entry import Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.log.schema_history import ColumnHistory
    from batch_collection.schema.types import Schema
    from batch_collection.storage.contract import Storage
    from pipeline.planning.schema_change import Change

__all__ = ["SchemaOptions", "check", "configure", "pin", "run"]


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    """What ``schema`` was asked to do; ``pins`` are types by column, ``export`` a file."""

    path: str
    pins: Schema
    json: bool
    drops: tuple[str, ...] = ()
    undo: bool = False
    dry_run: bool = False
    export: str | None = None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument(
        "--pin",
        dest="pins",
        metavar="NAME=TYPE",
        action="append",
        default=[],
        help="give a column a type from now on, as in a file of --schema; may be repeated; "
        f"{EXACTNESS}",
    )
    parser.add_argument(
        "--drop",
        dest="drops",
        metavar="NAME",
        action="append",
        default=[],
        help="leave a column out from now on; may be repeated",
    )
    parser.add_argument(
        "--undo",
        action="store_true",
        help="take the last --pin or --drop back, for all that is collected from now on",
    )
    parser.add_argument(
        "--dry_run",
        action="store_true",
        help="only say what would be changed, and what readers would see and need",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--export",
        metavar="FILE",
        help="write all columns that any file has, as an empty Parquet file for readers of data/ "
        "(FILE.parquet), or the types of the payload as a file for --schema (FILE.json)",
    )


def check(args: argparse.Namespace) -> SchemaOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags, pins = Flags(args), dict[str, Any]()
    for text in args.pins:
        try:
            name, type_ = _read_pin(text)
            pins[name] = type_
        except ValueError as error:
            flags.errors.append(f"--pin={text}: {error}")
    changes = sum(map(bool, (args.pins, args.drops, args.undo)))
    flags.check(changes <= 1, "--pin, --drop and --undo change one thing each; run them apart")
    flags.check(changes or not args.dry_run, "--dry_run needs a --pin, --drop or --undo to try")
    if args.export is not None:
        is_known = args.export.endswith(ENDINGS)
        flags.check(is_known, f"--export must end in {' or '.join(ENDINGS)}, got {args.export!r}")
        flags.local("export")
        flags.check(not changes, "--export goes without --pin, --drop and --undo; run them apart")
    flags.done()
    return SchemaOptions(
        args.path, pins, args.json, tuple(args.drops), args.undo, args.dry_run, args.export
    )


def _read_pin(text: str) -> tuple[str, Any]:
    """Read ``NAME=TYPE``; a name may hold ``=``, and so may names in a type.

    Raises:
        ValueError: it is none.
    """
    errors = []
    for place in (place for place, letter in enumerate(text) if letter == "="):
        name, type_ = text[:place], text[place + 1 :]
        try:
            if name.strip():
                return name, read_type(type_, name)
        except ValueError as error:
            errors.append(error)
    raise errors[0] if errors else ValueError("write it as NAME=TYPE, as value=double")


def run(options: SchemaOptions) -> int:
    """Change what is to be changed, or export, else print the columns; return 0.

    Raises:
        CollectionError: there is no collection, or a change makes no sense.
    """
    storage = open_storage(options.path)
    change = _change(storage, options)
    if change is not None:
        say(*_changed(storage, change, options))
        return 0
    if options.export is not None:
        say(exported(open_collection(storage), options.export))
        return 0
    found = undisturbed(storage, partial(_look, storage))
    lines = _json(found.columns) if options.json else _described(storage.uri, found)
    say(*lines)
    return 0


def _change(storage: Storage, options: SchemaOptions) -> Change | None:
    """Return the change that was asked for, None: just a look."""
    if options.pins:
        return pinning(options.pins)
    if options.drops:
        return dropping(options.drops)
    return undoing(storage) if options.undo else None


class _Look(NamedTuple):
    """What the log says: its newest entry, all columns, whether batches are Parquet files.

    Without any, nobody knows what files there will be. ``held``: by column, the types that batches
    have it under, and rows that wait, oldest first.
    """

    newest: Entry
    columns: tuple[ColumnHistory, ...]
    parquet: bool
    held: dict[str, list[Any]]


def _look(storage: Storage, expiry: Expiry | None) -> _Look:
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    are_parquet, held = set[bool](), dict[str, list[Any]]()
    waiting = {staged_cycle(file.path) for file in newest.carry}

    def read() -> Iterator[Entry]:
        for entry in read_entries(storage, first_kept(expiry), newest.cycle):
            are_parquet.update(each.path.endswith(".parquet") for each in entry.files)
            schemas = [each.types for each in entry.files if each.types]
            # rows that waited may have kept any older type in format 1, where no entry says so
            if entry.files or entry.cycle in waiting or entry.format == 1:
                schemas.append(entry.schema)
            for name, type_ in chain.from_iterable(schema.items() for schema in schemas):
                known = held.setdefault(name, [])
                if type_ not in known:
                    known.append(type_)
            yield entry

    folded = expiry.folded.last if expiry is not None and expiry.folded is not None else None
    return _Look(newest, schema_history(read(), folded), are_parquet == {True}, held)


def pin(storage: Storage, pins: Schema) -> Entry | None:
    """Give columns types for all that is collected from now on.

    Returns:
        The entry that says so; None if they have those types already.

    Raises:
        CollectionError: a name is taken, or there is no collection.
    """
    return append(storage, pinning(pins))


def _changed(storage: Storage, change: Change, asked: SchemaOptions) -> list[str]:
    """Make a change; say what was changed, and what it means for what is there."""
    if asked.dry_run:
        newest = newest_entry(storage)
        if newest is None:
            raise no_collection(storage)
        entry = change(newest, "")
    else:
        entry = append(storage, change)
    if entry is None:
        if asked.drops:
            return [f"nothing to drop: {storage.uri} is without {', '.join(asked.drops)} already"]
        return [f"nothing to pin: {storage.uri} has {_columns(asked.pins, asked.pins)} already"]
    before = read_entry(storage, entry.cycle - 1)
    found = undisturbed(storage, partial(_look, storage))
    head = "nothing was changed; it would be" if asked.dry_run else f"cycle {entry.cycle}:"
    lines = [f"{head} {_said(entry, before)}", *_meant(storage, entry, before, found)]
    if not asked.dry_run:
        path = shlex.quote(storage.uri)
        lines.append(f"dead letters of before: batch-collection redrive {path}")
    return lines


def _said(entry: Entry, before: Entry) -> str:
    """Say what an entry changes."""
    gone = [name for name in before.schema if name not in entry.schema]
    parts = []
    if entry.pinned:
        parts.append(f"from now on {_columns(entry.pinned, entry.schema)}")
    if gone:
        parts.append(f"from now on without {', '.join(gone)}")
    return ", ".join(parts)


def _meant(storage: Storage, entry: Entry, before: Entry, found: _Look) -> list[str]:
    """Say what readers see of batches that are there and those to come, and what they need."""
    had = {**before.dropped, **before.schema}
    new = [name for name in entry.pinned if name not in had]
    lines = [f"{name} is a new column: no row has it yet{nearest(name, had)}" for name in new]
    there = [name for name, type_ in had.items() if type_ in found.held.get(name, ())]
    changed = [name for name in entry.pinned if name in there and had[name] != entry.schema[name]]
    if changed:
        lines.append(f"batches that are there keep {_columns(changed, had)}")
    gone = [name for name in there if name in before.schema and name in entry.dropped]
    if gone:
        lines.append(
            f"batches that are there keep {_columns(gone, before.schema)}; in others it is null"
        )
    types = dict(found.held)
    for name, type_ in {**entry.dropped, **entry.schema}.items():
        types[name] = [*(each for each in types.get(name, ()) if each != type_), type_]
    if all(len(types[name]) == 1 for name in entry.pinned):
        return lines
    return [*lines, *reader_needs(storage.uri, types, entry.pinned, parquet=found.parquet)]


def _columns(names: Sequence[str] | Schema, types: Schema) -> str:
    return ", ".join(f"{name}={type_text(types[name])}" for name in names)


def _described(uri: str, found: _Look) -> list[str]:
    """Write the columns for people."""
    newest = found.newest
    head = [uri, f"{described_source(newest.source)}, cycle {newest.cycle}", ""]
    if not found.columns:
        return [*head, "  no columns yet"]
    rows = [("column", "type", "since", "committed", "by")]
    for column in found.columns:
        for number, change in enumerate(column.changes):
            name = "" if number else column.name
            at = described_instant(change.committed_at)
            type_ = "-" if change.type is None else type_text(change.type)
            rows.append((name, type_, f"cycle {change.cycle}", at, change.by))
    return [*head, *aligned(rows, "<")]


def _json(found: Sequence[ColumnHistory]) -> list[str]:
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
    return json.dumps({"columns": columns}, indent=1).split("\n")
