"""``batch-collection redrive``: dead letters, decoded again."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.checkpoints.dead_letters import grouped
from batch_collection.counted import counted
from batch_collection.storage.opening import open_storage
from pipeline.options.collect import (
    UNITS,
    check_decoding,
    configure_decoding,
    configure_files,
    configure_timestamp_unit,
    files_of,
    input_format_of,
    schema_of,
)
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags, configure_path
from pipeline.options.redrive import Asked, RedriveOptions
from pipeline.showing.lines import say
from pipeline.showing.streams import forgiven_output

if TYPE_CHECKING:
    import argparse

    from pipeline.running.redrive import Outcome

__all__ = ["NEEDS", "check", "configure", "described", "run", "starting"]


NEEDS = "pipeline.running.redrive"
_MOST_REASONS = 20


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument(
        "--dry_run", action="store_true", help="say what would come of it, and change nothing"
    )
    group = parser.add_argument_group("as the collector has them")
    configure_decoding(group)
    configure_timestamp_unit(group)
    configure_files(group)
    configure_config_file(group)
    group.add_argument(
        "--batch_size",
        metavar="ROWS",
        default="1000000",
        help="most rows of a file (default: 1000000)",
    )


def check(args: argparse.Namespace) -> RedriveOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    check_decoding(flags)
    if args.timestamp_unit is not None:
        flags.choice("timestamp_unit", UNITS)
    asked = Asked(
        schema=schema_of(flags),
        input_format=input_format_of(flags),
        numbers=args.numbers,
        timestamp_unit=args.timestamp_unit,
        files=files_of(flags),
        batch_size=flags.number("batch_size"),
    )
    flags.done()
    return RedriveOptions(args.path, asked, args.dry_run)


def starting(options: RedriveOptions) -> str:
    """Say what begins to be redriven, before Beam is imported."""
    return f"starting: dead letters of {options.path}"


def run(options: RedriveOptions) -> int:
    """Redrive, and say what came of it; return 0.

    Raises:
        CollectionError: there is no collection, or it can't be done.
    """
    from pipeline.running.redrive import redrive  # noqa: PLC0415 - Beam, no flag needs it

    with forgiven_output():
        outcome = redrive(open_storage(options.path), options.asked, dry_run=options.dry_run)
    say(*described(outcome, dry_run=options.dry_run))
    return 0


def described(outcome: Outcome, *, dry_run: bool = False) -> list[str]:
    """Write an outcome for people: one line, then the reasons of what is still dead."""
    dead = outcome.still_dead.total()
    if not outcome.files:
        of = f"none of {counted(dead, 'dead letter')} makes a row" if dead else "no dead letters"
        return [f"nothing to redrive: {of}", *_reasons(outcome)]
    parts = [f"{counted(outcome.rows, 'row')} in {counted(len(outcome.windows), 'window')}"]
    parts += [f"{outcome.empty:,} empty"] if outcome.empty else []
    parts += [f"{counted(dead, 'still dead letter')}"] if dead else []
    verb = "redrive would make of" if dry_run else "redrive:"
    what = f"{counted(outcome.messages, 'message')} of {counted(outcome.files, 'file')}"
    left = f"; {counted(outcome.left, 'file')} left as before" if outcome.left else ""
    return [f"{verb} {what}: {', '.join(parts)}{left}", *_reasons(outcome)]


def _reasons(outcome: Outcome) -> list[str]:
    kinds = grouped(outcome.still_dead)
    reasons = kinds.most_common(_MOST_REASONS)
    more = len(kinds) - len(reasons)
    lines = [f"  {count:,}  {reason}" for reason, count in reasons]
    return [*lines, f"  ... and {more:,} more reasons"] if more else lines
