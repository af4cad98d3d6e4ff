"""``batch-collection status``: how a collection stands, at a look."""

from __future__ import annotations

import json
import shlex
import threading
from contextlib import suppress
from datetime import timedelta
from itertools import chain
from typing import TYPE_CHECKING

from batch_collection.counted import counted
from batch_collection.errors import StorageError
from batch_collection.inspection.status import status
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_duration, utc_now
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags, configure_lag, configure_path
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
from pipeline.showing.watching import watched
from pipeline.showing.wording import (
    aligned,
    described_instant,
    described_source,
    humanised_bytes,
    humanised_duration,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from batch_collection.inspection.status import (
        CycleStatus,
        ExpiredStatus,
        OpenWindow,
        Quantiles,
        Status,
    )
    from batch_collection.storage.contract import Storage

__all__ = ["configure", "described", "run"]


_SHORTEST_LOOK = timedelta(milliseconds=100)
_MOST_LINES = 20  # of open windows, of reasons


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument(
        "--last",
        metavar="N",
        default="10",
        help="cycles to list, and to take the latency from (default: 10)",
    )
    parser.add_argument(
        "--watch",
        metavar="DURATION",
        nargs="?",
        const="2s",
        help="show it again and again, every two seconds, or --watch=10s: every ten; with --json "
        "a line each time (default: once)",
    )
    configure_lag(parser)
    configure_config_file(parser)


def run(args: argparse.Namespace) -> int:
    """Print the status, once or until a signal comes; return 0.

    Raises:
        CollectionError: flags are wrong, or there is no collection.
    """
    flags = Flags(args)
    last = flags.number("last")
    config = flags.lag_config()
    if (args.watch or "").isdecimal():
        args.watch += "s"
    every = None if args.watch is None else flags.pause("watch", _SHORTEST_LOOK)
    flags.done()
    storage = open_storage(args.path)
    if every is not None:
        _watch(lambda: _looked_up(storage, last, config), every, as_json=args.json)
        return 0
    found = _looked_up(storage, last, config)
    say(*found.to_json().split("\n") if args.json else described(found, utc_now()))
    return 0


def _looked_up(storage: Storage, last: int, config: dict[str, str] | None) -> Status:
    if config is None:
        return status(storage, last)
    from pipeline.planning.lag import lags_asked_of  # noqa: PLC0415 - seldom needed

    waiting = f"waiting for kafka at {config['bootstrap.servers']}, for the lag ..."
    with said_meanwhile(waiting), lags_asked_of(config) as lags:
        return lags.status(storage, last)


def _watch(look: Callable[[], Status], every: timedelta, *, as_json: bool) -> None:
    """Show what is found until a signal comes; what fails once is said, and looked for again."""
    stop = threading.Event()
    found = look()  # where nothing is, nothing is watched
    with stopped_by_signals(stop.set), watched() as show:
        while True:
            if as_json:
                say(json.dumps(found.plain()))
            else:
                show(described(found, utc_now()))
            if stop.wait(every.total_seconds()):
                return
            with suppress(StorageError):  # the next look may find it
                found = look()


def described(found: Status, now: datetime) -> list[str]:
    """Write a status for people, line by line; ``now`` is the clock."""
    windows = f"windows of {format_duration(found.interval)} by row time ({found.row_time})"
    head = [found.uri, f"{described_source(found.source)}, {windows}"]
    pairs = list(_facts(found, now))
    width = max(len(name) for name, _ in pairs)
    facts = [f"  {name:<{width}}  {text}" for name, text in pairs]
    parts = [facts, _cycles(found.cycles)]
    parts += [_open_windows(found.open_windows)] if found.open_windows else []
    parts += [_reasons(found)] if found.dead_letters_by_reason else []
    return [*head, *chain.from_iterable(["", *part] for part in parts)]


def _facts(found: Status, now: datetime) -> Iterator[tuple[str, str]]:
    totals, expired = found.totals, found.expired
    age = humanised_duration(now - found.committed_at)
    yield "newest entry", f"cycle {found.cycle}, {described_instant(found.committed_at)}, {age} ago"
    yield "closed up to", described_instant(found.boundary) if found.boundary else "nothing yet"
    yield (
        "rows",
        (
            f"{totals.rows:,} in {counted(totals.files, 'file')}, about "
            f"{round(totals.rows_per_file):,} in each, {humanised_bytes(totals.bytes)}"
        ),
    )
    if found.unpublished_files:
        yield (
            "NOT VISIBLE",
            (
                f"{found.unpublished_files:,} files of cycle {found.cycle} are committed, not in "
                "their place yet; its collector moves them, at its start at the latest"
            ),
        )
    if expired is not None:
        yield "expired", _expired(expired)
    yield "waiting", counted(totals.waiting_rows, "row")
    yield (
        "windows",
        (
            f"{totals.closed_windows:,} closed, {totals.empty_windows:,} empty, "
            f"{len(found.open_windows):,} open" + (", expired ones included" if expired else "")
        ),
    )
    yield "late", counted(totals.late_rows, "row")
    yield (
        "messages",
        (
            f"{totals.messages:,}, of them {counted(totals.dead_letters, 'dead letter')}"
            f"{f' ({expired.dead_letters:,} expired)' if expired else ''}, "
            f"{totals.tombstones:,} tombstones, {totals.empty:,} empty"
            + (f", {totals.redriven:,} redriven" if totals.redriven else "")
        ),
    )
    if repeated := sum(cycle.repeated_rows for cycle in found.cycles):
        yield "perhaps repeated", f"{repeated:,} rows of panes that came with other rows before"
    if (ids := found.ids) is not None:
        yield (
            "ids kept",
            (
                f"{ids.kept:,}, {humanised_bytes(ids.bytes)}, {ids.unanswered:,} of them not "
                f"known to be acknowledged; {ids.repeated:,} messages came again in these cycles"
            ),
        )
    if totals.lost:
        yield "LOST", f"{totals.lost:,} offsets were gone before they were read"
    yield "window end to visible", _quantiles(found.latency.window_end)
    estimated = " (estimated)" if found.latency.row_time else ""
    yield "row time to visible", _quantiles(found.latency.row_time) + estimated
    if found.lag_unknown is not None:
        yield "lag", f"unknown: {found.lag_unknown}"
    if found.lag is not None:
        lag = sum(found.lag.values())
        yield "lag", ": ".join(filter(None, (counted(lag, "message"), _behind(found.lag))))


def _expired(expired: ExpiredStatus) -> str:
    return (
        f"{expired.rows:,} in {counted(expired.files, 'file')}, "
        f"{humanised_bytes(expired.bytes)}, of windows before {described_instant(expired.before)}; "
        f"{counted(expired.entries, 'entry')}, {counted(expired.dead_letters, 'dead letter')}"
    )


def _behind(lag: dict[int, int]) -> str:
    behind = {partition: count for partition, count in lag.items() if count}
    shown = sorted(behind.items(), key=lambda item: -item[1])[:_MOST_LINES]
    return ", ".join(f"partition {partition} {count:,}" for partition, count in shown)


def _quantiles(found: Quantiles | None) -> str:
    if found is None:
        return "nothing in these cycles"
    return f"{humanised_duration(found.median)} median, {humanised_duration(found.p99)} p99"


def _cycles(cycles: Sequence[CycleStatus]) -> list[str]:
    rows = [
        (
            f"{cycle.cycle}",
            f"{cycle.committed_at:%m-%d %H:%M:%S}",
            cycle.cause,
            f"{cycle.messages:,}",
            f"{cycle.rows:,}",
            f"{cycle.windows:,}",
            f"{cycle.files:,}",
            humanised_bytes(cycle.bytes),
            f"{cycle.late_rows:,}",
            f"{cycle.dead_letters:,}",
        )
        for cycle in cycles
    ]
    head = (
        *("cycle", "committed", "cause", "messages", "rows", "windows", "files", "bytes"),
        *("late", "dead letters"),
    )
    return ["last cycles", *aligned([head, *rows])]


def _open_windows(windows: Sequence[OpenWindow]) -> list[str]:
    rows = [
        (described_instant(window.window_start), f"{window.rows:,}", f"{window.waiting_rows:,}")
        for window in windows[:_MOST_LINES]
    ]
    table = aligned([("start", "in batches", "waiting"), *rows])
    return ["open windows", *table, *_more(len(windows))]


def _reasons(found: Status) -> list[str]:
    reasons = found.dead_letters_by_reason
    rows = [(f"{count:,}", reason) for reason, count in list(reasons.items())[:_MOST_LINES]]
    width = max(len(count) for count, _ in rows)
    path = shlex.quote(found.uri)
    pin = f"batch-collection schema {path} --pin COLUMN=TYPE"
    return [
        "dead letters by reason",
        *(f"  {count:>{width}}  {reason}" for count, reason in rows),
        *_more(len(reasons)),
        f"  for another type (first with --dry_run): {pin}",
        f"  to decode them again: batch-collection redrive {path}",
        f"  to see them: batch-collection dead-letters {path}",
    ]


def _more(count: int) -> list[str]:
    return [f"  ... and {count - _MOST_LINES:,} more"] if count > _MOST_LINES else []
