"""``batch-collection wait``: end as soon as a window is closed and visible, for schedulers."""

from __future__ import annotations

import math
import sys
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_collection.announcing.closing import Window, newest_manifest, visible_boundary
from batch_collection.counted import counted
from batch_collection.log.entries import newest_again, no_collection
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_instant, window_start
from pipeline.options.flags import Flags, configure_path, configure_poll
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile

if TYPE_CHECKING:
    import argparse
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["TIMED_OUT", "configure", "run"]

TIMED_OUT = 3
"""The exit code where it was not closed in time."""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument(
        "--window",
        metavar="INSTANT",
        help="wait for the window that holds this instant, as 2026-11-22T10:30:00Z",
    )
    parser.add_argument(
        "--closed_through",
        metavar="INSTANT",
        help="wait until all windows that end by this instant are closed; one of the two is "
        "required",
    )
    parser.add_argument(
        "--timeout",
        metavar="DURATION",
        help="how long to wait at most; exit code 3 after that (default: for ever)",
    )
    configure_poll(parser)


def run(args: argparse.Namespace) -> int:
    """Wait; return 0 when it is closed and visible, 3 when that took too long.

    A collection that is not there yet is waited for, too: a scheduler may be earlier than the
    collector. A signal ends it as it ends any program.

    Raises:
        CollectionError: flags are wrong, or the log can't be read.
    """
    flags = Flags(args)
    flags.check(
        (args.window is None) != (args.closed_through is None),
        "give --window=INSTANT or --closed_through=INSTANT, one of the two",
    )
    window, through = flags.instant("window"), flags.instant("closed_through")
    poll = flags.poll()
    timeout = None if args.timeout is None else flags.duration("timeout", timedelta(0))
    flags.done()
    wanted = _Wanted(window, through)
    storage = open_storage(args.path)
    deadline = math.inf if timeout is None else time.monotonic() + timeout.total_seconds()
    newest: Entry | None = None
    with said_meanwhile(f"waiting for {storage.uri} ..."):
        while True:
            newest = newest_again(storage, newest)
            if newest is not None and (line := wanted.found(storage, newest)) is not None:
                break
            left = deadline - time.monotonic()
            if left <= 0:
                say(_missed(storage, newest, args.timeout), to=sys.stderr)
                return TIMED_OUT
            time.sleep(min(poll.total_seconds(), left))
    say(line)
    return 0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What is waited for: the window that holds an instant, or all that end by one."""

    window: datetime | None
    through: datetime | None

    def found(self, storage: Storage, newest: Entry) -> str | None:
        """Return what to say when it is closed and visible, None if it isn't yet."""
        closed = visible_boundary(storage, newest)
        if self.window is None:
            is_there = closed is not None and self.through is not None and closed >= self.through
            return f"closed through {format_instant(closed)}" if is_there and closed else None
        try:
            start = window_start(self.window, newest.interval)
            end = start + newest.interval
        except OverflowError:  # a window that is partly beyond the calendar never closes
            return None
        if closed is None or closed < end:
            return None
        found = newest_manifest(storage, Window(start, end))
        if found is None:
            return f"window {format_instant(start)} is closed: no rows"
        return (
            f"window {format_instant(start)} is closed: {counted(found.rows, 'row')} in "
            f"{counted(found.files, 'file')}, revision {found.revision}, {storage.uri}/{found.path}"
        )


def _missed(storage: Storage, newest: Entry | None, timeout: str) -> str:
    if newest is None:
        return f"not closed within {timeout}: {no_collection(storage)}"
    boundary = newest.boundary
    closed = (
        "nothing is closed yet" if boundary is None else f"closed up to {format_instant(boundary)}"
    )
    return f"not closed within {timeout}: {storage.uri} is at cycle {newest.cycle}, {closed}"
