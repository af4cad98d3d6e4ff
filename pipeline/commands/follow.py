"""``batch-collection follow``: hand each committed batch to a function, in order."""

from __future__ import annotations

import json
import sys
import threading
import traceback
from contextlib import closing, suppress
from typing import TYPE_CHECKING, Any

from batch_collection.collection import open as open_collection
from batch_collection.errors import CollectionError
from batch_collection.loading import load_function
from batch_collection.log.entries import read_entry
from batch_collection.windows import format_instant
from pipeline.options.flags import Flags, configure_path, configure_poll
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say
from pipeline.showing.streams import OutputError
from pipeline.showing.wording import to_the_second

if TYPE_CHECKING:
    import argparse

    from batch_collection.log.batch import Batch

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument(
        "--cursor",
        metavar="NAME",
        help="the name its place is remembered under, in the collection's cursors/",
    )
    parser.add_argument(
        "--cursor_file",
        metavar="FILE",
        help="the file its place is remembered in, elsewhere: for who may only read the "
        "collection; one of the two is required",
    )
    parser.add_argument(
        "--process",
        metavar="MODULE:FUNCTION",
        help="called with each batch; a module of the current directory comes first "
        "(default: print a line a batch)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a batch")
    parser.add_argument(
        "--start",
        metavar="earliest|latest",
        default="earliest",
        help="where a new cursor begins (default: earliest)",
    )
    parser.add_argument("--once", action="store_true", help="stop at the end of the log")
    parser.add_argument(
        "--on_expired",
        metavar="fail|skip",
        default="fail",
        help="batches were expired before they were read: fail, or go on with what is left "
        "(default: fail)",
    )
    configure_poll(parser)


def run(args: argparse.Namespace) -> int:
    """Process batch after batch until a signal comes, or the log ends; return 0.

    A batch whose processing failed or was killed comes again, and so does one of which not all that
    was printed could be delivered. Where the function raises, 1 is returned.

    Raises:
        OutputError: what was printed can't be delivered.
        CollectionError: flags are wrong, there is no collection, or no such function.
    """
    flags = Flags(args)
    flags.check(
        (args.cursor is None) != (args.cursor_file is None),
        "give --cursor=NAME or --cursor_file=FILE, one of the two",
    )
    flags.check(
        not (args.json and args.process),
        "--json prints batches, and --process hands them to a function; leave one of both out",
    )
    poll = flags.poll()
    start = flags.choice("start", ("earliest", "latest"))
    on_expired = flags.choice("on_expired", ("fail", "skip"))
    flags.done()
    process = load_function("process", args.process) if args.process else _Lines(as_json=args.json)
    stop = threading.Event()
    batches = open_collection(args.path).follow(
        args.cursor,
        cursor_file=args.cursor_file,
        start=start,
        poll=poll,
        once=args.once,
        on_expired=on_expired,
        wait=stop.wait,
    )
    with stopped_by_signals(stop.set), closing(batches):
        for batch in batches:
            if stop.is_set():
                break  # this batch is not begun, the one before is done and remembered
            try:
                process(batch)
            except (CollectionError, OutputError):
                raise
            except Exception as error:  # noqa: BLE001 - whatever a user's function raises
                say(*_told(error, batch, args), to=sys.stderr)
                return 1
            sys.stdout.flush()  # what was printed is delivered before the batch is remembered
    return 0


def _told(error: Exception, batch: Batch, args: argparse.Namespace) -> list[str]:
    """Say what a user's function raised: its own frames, without those that called it."""
    frames = error.__traceback__ and error.__traceback__.tb_next
    trace = "".join(traceback.format_exception(type(error), error, frames))
    return [
        *trace.rstrip("\n").split("\n"),
        (
            f"error: --process={args.process} failed at batch {batch.id} ({batch.path}); it is not "
            "remembered as read, and comes again with the next run"
        ),
    ]


class _Lines:
    """Prints a line a batch; an entry has many of them, and is looked at once."""

    def __init__(self, *, as_json: bool) -> None:
        self._as_json = as_json
        self._cycle, self._cause = -1, ""

    def __call__(self, batch: Batch) -> None:
        if self._as_json:
            say(json.dumps(self._plain(batch)))
            return
        window = f"{to_the_second(batch.window_start)}  {self._timing(batch):<7}"
        say(f"{batch.id}  {window}  {batch.rows:>9,} rows  {batch.path}")

    def _plain(self, batch: Batch) -> dict[str, Any]:
        return {
            "id": batch.id,
            "cycle": batch.cycle,
            "number": batch.number,
            "window_start": format_instant(batch.window_start),
            "window_end": format_instant(batch.window_end),
            "timing": self._timing(batch),
            "rows": batch.rows,
            "path": batch.path,
            "uri": batch.uri,
        }

    def _timing(self, batch: Batch) -> str:
        """Say when a batch was written; the rest of an open window was not early, but flushed."""
        if batch.timing != "early":
            return batch.timing
        if batch.cycle != self._cycle:
            self._cycle, self._cause = batch.cycle, ""
            with suppress(CollectionError):  # its entry was expired meanwhile
                self._cause = read_entry(batch.storage, batch.cycle).cause
        return "flushed" if self._cause == "flush" else batch.timing
