"""``batch-collection expire``: take old windows away, and leave proof of what they were."""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from datetime import datetime, timezone
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.counted import counted
from batch_collection.publishing.expire import expire
from batch_collection.storage.opening import open_storage
from batch_collection.windows import (
    TooLongError,
    format_instant,
    parse_duration,
    parse_instant,
)
from pipeline.options.flags import Flags, configure_path
from pipeline.showing.lines import say
from pipeline.showing.wording import described_instant, humanised_bytes

if TYPE_CHECKING:
    import argparse

    from batch_collection.publishing.expire import Expired

__all__ = ["ExpireOptions", "check", "configure", "run"]


class ExpireOptions(NamedTuple):
    """``is_exact``: ``before`` was given as an instant, not as a duration back from now."""

    path: str
    before: datetime
    now: datetime
    is_exact: bool
    dry_run: bool
    asks: bool
    as_json: bool = False


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; values stay text until ``check``."""
    configure_path(parser)
    parser.add_argument(
        "--before",
        metavar="INSTANT|DURATION",
        help="windows that end by then are deleted: 2026-11-22T10:30:00Z, or 30d (4w, 1y) for "
        "all that are older than that, as far as they are closed (required)",
    )
    parser.add_argument("--yes", action="store_true", help="don't ask first, as on a terminal")
    parser.add_argument("--dry_run", action="store_true", help="only say what would go")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def check(args: argparse.Namespace) -> ExpireOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags, now = Flags(args), datetime.now(timezone.utc)
    text = flags.given("before", "give an instant, or a duration back from now")
    before, is_exact = _before(flags, text, now)
    flags.done()
    asks = not (args.yes or args.dry_run) and sys.stdin.isatty() and sys.stderr.isatty()
    return ExpireOptions(args.path, before, now, is_exact, args.dry_run, asks, args.json)


def _before(flags: Flags, text: str, now: datetime) -> tuple[datetime, bool]:
    try:
        return now - parse_duration(text), False
    except TooLongError as error:
        flags.errors.append(f"--before is {error}")
        return now, False
    except ValueError:
        pass
    try:
        return parse_instant(text), True
    except ValueError:
        flags.check(
            not text,
            f"--before must be an instant or a duration, got {text!r}; write it as "
            "2026-11-22T10:30:00Z, or 30d",
        )
        return now, True


def run(options: ExpireOptions) -> int:
    """Expire, and print what went; return 0, or 1 if somebody was asked and did not say yes.

    Raises:
        CollectionError: there is no collection, it can't be written, or ``--before`` is too late or
            too early for it.
    """
    if options.asks and not _is_wanted(_expired(options, dry_run=True)):
        say("nothing was deleted", to=sys.stderr)
        return 1
    found = _expired(options, dry_run=options.dry_run)
    if options.as_json:
        plain = asdict(found) | {"before": format_instant(found.before)}
        say(json.dumps({**plain, "dry_run": options.dry_run}))
    else:
        say(*_described(found, dry_run=options.dry_run))
    return 0


def _expired(options: ExpireOptions, *, dry_run: bool) -> Expired:
    storage = open_storage(options.path)
    return expire(storage, options.before, options.now, exact=options.is_exact, dry_run=dry_run)


def _is_wanted(found: Expired) -> bool:
    """Ask whether it is to go, if there is anything."""
    if found.stub is None:
        return True
    say(*_described(found, dry_run=True), to=sys.stderr)
    sys.stderr.write("delete them for good? [y/N] ")
    sys.stderr.flush()
    return sys.stdin.readline().strip().lower() in {"y", "yes"}


def _described(found: Expired, *, dry_run: bool) -> list[str]:
    """Write it for people."""
    before = described_instant(found.before)
    if found.stub is None:
        return [f"nothing to expire before {before}"]
    expired, folded = ("would expire", "would be ") if dry_run else ("expired", "")
    gone = (
        f"{counted(found.windows, 'window')}, {counted(found.files, 'file')} "
        f"({humanised_bytes(found.bytes)}), {counted(found.rows, 'row')}, "
        f"{counted(found.dead_letters, 'dead letter')}"
    )
    entries = f"{counted(found.entries, 'entry')} {folded}folded into {found.stub}"
    return [
        f"{expired} windows before {before}: {gone}",
        f"{entries}, {found.entries_left:,} left",
    ]
