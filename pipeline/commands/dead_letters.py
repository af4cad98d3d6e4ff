"""``batch-collection dead-letters``: the messages of which no row could be made, and why."""

from __future__ import annotations

import base64
import json
import shlex
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.checkpoints.dead_letters import grouped
from batch_collection.counted import counted
from batch_collection.inspection.letters import letters_of
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_instant
from pipeline.options.flags import Flags, configure_path
from pipeline.showing.lines import say
from pipeline.showing.wording import aligned, described_instant

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterable, Iterator, Mapping

__all__ = ["DeadLettersOptions", "check", "configure", "run"]


_MOST_REASONS = 20
_MOST_SHOWN = 60  # bytes of a value


class DeadLettersOptions(NamedTuple):
    """``reason`` and ``partition`` are those that are wanted, None: all; ``limit`` is of lines."""

    path: str
    reason: str | None
    partition: int | None
    limit: int
    as_json: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; values stay text until ``check``."""
    configure_path(parser)
    parser.add_argument(
        "--reason", metavar="TEXT", help="only those whose reason holds this text (default: all)"
    )
    parser.add_argument("--partition", metavar="N", help="only those of a partition (default: all)")
    parser.add_argument(
        "--limit", metavar="N", default="20", help="messages to show; all are counted (default: 20)"
    )
    parser.add_argument(
        "--json", action="store_true", help="print each as a JSON object of a line, all of them"
    )


def check(args: argparse.Namespace) -> DeadLettersOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    partition = None if args.partition is None else flags.number("partition", least=0)
    options = DeadLettersOptions(
        args.path, args.reason, partition, flags.number("limit", least=0), args.json
    )
    flags.done()
    return options


def run(options: DeadLettersOptions) -> int:
    """Print the dead letters that are there; return 0.

    Raises:
        CollectionError: there is no collection, or a file of it can't be read.
    """
    found = _wanted(options)
    if options.as_json:
        for letter in found:
            say(json.dumps(_plain(letter)))
        return 0
    reasons, shown = Counter[str](), list[dict[str, Any]]()
    for letter in found:
        reasons[letter["error"]] += 1
        if len(shown) < options.limit:
            shown.append(letter)
    say(*_described(options.path, reasons, shown))
    return 0


def _wanted(options: DeadLettersOptions) -> Iterator[dict[str, Any]]:
    for table in letters_of(open_storage(options.path)):
        for letter in table.to_pylist():
            if options.partition not in {None, letter["partition"]}:
                continue
            if options.reason is None or options.reason in letter["error"]:
                yield letter


def _plain(letter: Mapping[str, Any]) -> dict[str, Any]:
    """Return what JSON can hold: bytes that are UTF-8 as text, others as base64."""
    plain = {name: value for name, value in letter.items() if name not in {"key", "value", "error"}}
    plain["timestamp"] = letter["timestamp"] and format_instant(letter["timestamp"])
    plain["reason"] = letter["error"]
    for name in ("key", "value"):
        try:
            plain[name] = None if letter[name] is None else letter[name].decode()
        except UnicodeDecodeError:
            plain[f"{name}_base64"] = base64.b64encode(letter[name]).decode()
    return plain


def _described(
    path: str, reasons: Mapping[str, int], shown: Iterable[Mapping[str, Any]]
) -> Iterator[str]:
    """Write them for people: by reason, then message by message, then what to do."""
    kinds, count = grouped(reasons), sum(reasons.values())
    yield counted(count, "dead letter")
    if not count:
        return
    width = len(f"{max(kinds.values()):,}")
    yield from (f"  {n:>{width},}  {reason}" for reason, n in kinds.most_common(_MOST_REASONS))
    if len(kinds) > _MOST_REASONS:
        yield f"  ... and {len(kinds) - _MOST_REASONS:,} more reasons"
    letters = list(shown)
    rows = [_cells(letter) for letter in letters]
    if rows:
        where = ("message id",) if "id" in letters[0] else ("partition", "offset")
        yield ""
        yield from aligned([(*where, "timestamp", "value"), *rows])
    if len(rows) < count:
        yield f"  ... and {count - len(rows):,} more; --limit shows more, --json all of them"
    yield f"to decode them again: batch-collection redrive {shlex.quote(path)}"


def _cells(letter: Mapping[str, Any]) -> tuple[str, ...]:
    stamp, value = letter["timestamp"], letter["value"]
    more = f" and {len(value) - _MOST_SHOWN:,} bytes" if len(value) > _MOST_SHOWN else ""
    where = (letter["id"],) if "id" in letter else (letter["partition"], letter["offset"])
    return (
        *map(str, where),
        described_instant(stamp) if stamp else "none",
        f"{value[:_MOST_SHOWN]!r}"[1:] + more,
    )
