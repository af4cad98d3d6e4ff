"""``batch-collection export``: a collection as TFRecord or JSON lines, whole or split."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.collection import open as open_collection
from batch_collection.errors import CollectionError
from batch_collection.exporting.export import EXPORTS, export
from batch_collection.reading.splits import sides
from pipeline.options.flags import Flags, configure_path
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from batch_collection.collection import Collection
    from batch_collection.exporting.export import Exported

__all__ = ["ExportOptions", "check", "configure", "run"]

_PART = re.compile(r"(?P<name>[\w-]+)\s*=\s*(?P<fraction>[0-9]*\.?[0-9]+(?:[eE]-?[0-9]+)?)")
_MOST_SHARDS = 99_999  # names of files have five digits


@dataclass(frozen=True, slots=True)
class ExportOptions:
    """``split`` gives fractions by name, none for a whole; ``columns`` None: all."""

    path: str
    output: Path
    to: str
    shards: int
    columns: tuple[str, ...] | None
    split: dict[str, float]
    by: tuple[str, ...]
    start: datetime | None
    end: datetime | None
    complete: bool
    shuffle: int | None


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; values stay text until ``check``."""
    configure_path(parser)
    parser.add_argument(
        "--output", metavar="DIR", help="a new directory; it is there when all is (required)"
    )
    parser.add_argument("--to", metavar="|".join(EXPORTS), help="the format (required)")
    parser.add_argument(
        "--shards", metavar="N", default="1", help="files of each part, equally large (default: 1)"
    )
    parser.add_argument("--columns", metavar="A,B", help="which, in that order (default: all)")
    parser.add_argument(
        "--split",
        metavar="NAME=FRACTION,...",
        help="parts, a folder each: train=0.8,valid=0.1,test=0.1 (default: one whole)",
    )
    parser.add_argument(
        "--by", metavar="A,B", help="the key of --split: no key is in two parts, for ever"
    )
    parser.add_argument("--start", metavar="INSTANT", help="leave earlier windows out")
    parser.add_argument("--end", metavar="INSTANT", help="leave later windows out")
    parser.add_argument(
        "--complete", action="store_true", help="leave windows out that are not closed"
    )
    parser.add_argument(
        "--shuffle", metavar="SEED", help="mix the rows (default: in the order of their windows)"
    )


def check(args: argparse.Namespace) -> ExportOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    split = _fractions(flags, args.split)
    flags.check(bool(args.split) == bool(args.by), "--split and --by go together; give both")
    flags.given("output", "name a new directory")
    to = flags.given("to", f"use one of: {', '.join(EXPORTS)}") and flags.choice("to", EXPORTS)
    options = ExportOptions(
        path=args.path,
        output=flags.folder("output") or Path(),
        to=to,
        shards=flags.number("shards", most=_MOST_SHARDS),
        columns=flags.names("columns") if args.columns else None,
        split=split,
        by=flags.names("by") if args.by else (),
        start=flags.instant("start"),
        end=flags.instant("end"),
        complete=args.complete,
        shuffle=None if args.shuffle is None else flags.number("shuffle", 0),
    )
    flags.check(
        options.start is None or options.end is None or options.start < options.end,
        f"--start={args.start} must be before --end={args.end}",
    )
    flags.done()
    return options


def run(options: ExportOptions) -> int:
    """Write the files, and one line for each part; return 0.

    Raises:
        CollectionError: there is no collection, the directory is not empty, or a column has no
            place in the format.
    """
    view = open_collection(options.path).between(options.start, options.end)
    view = view.complete() if options.complete else view
    views = view.split(options.split, by=options.by) if options.split else {"": view}
    found = export(
        views,
        options.output,
        options.to,
        shards=options.shards,
        columns=options.columns,
        shuffle=options.shuffle,
    )
    say(*_summary(options, view, found))
    return 0


def _summary(options: ExportOptions, view: Collection, found: tuple[Exported, ...]) -> list[str]:
    lines = [f"{options.output} holds cycle {view.newest.cycle} of {options.path}"]
    for each in found:
        files = f"{each.files} file{'s' * (each.files > 1)}"
        lines.append(f"  {each.name or 'all':<8}{each.rows:>12,} rows  {files}")
    return lines


def _fractions(flags: Flags, text: str | None) -> dict[str, float]:
    """Read ``NAME=FRACTION,...``."""
    found: dict[str, float] = {}
    for part in text.split(",") if text else []:
        each = _PART.fullmatch(part.strip())
        flags.check(each, f"--split must be NAME=FRACTION,..., as train=0.8,test=0.2, got {part!r}")
        if each is not None:
            name = each["name"]
            flags.check(name not in found, f"--split names {name} twice; leave one out")
            found[name] = float(each["fraction"])
    try:
        if found:
            sides(found, (), "")
    except CollectionError as error:
        flags.errors.append(f"--split: {error}")
    return found
