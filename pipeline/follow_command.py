"""``batch-collection follow``: hand each committed batch to a function, in order."""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING

from batch_collection.collection import open as open_collection
from batch_collection.errors import CollectionError
from pipeline.flags import Flags

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator

    from batch_collection.collection import Batch

__all__ = ["configure", "load", "run"]

_SHORTEST_POLL = timedelta(milliseconds=10)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("path", metavar="PATH", help="the collection, OUTPUT/NAME")
    parser.add_argument(
        "--cursor", metavar="NAME", help="the name its place is remembered under (required)"
    )
    parser.add_argument(
        "--process",
        metavar="MODULE:FUNCTION",
        help="called with each batch; a module of the current directory will do "
        "(default: print a line a batch)",
    )
    parser.add_argument(
        "--start",
        metavar="earliest|latest",
        default="earliest",
        help="where a new cursor begins (default: earliest)",
    )
    parser.add_argument("--once", action="store_true", help="stop at the end of the log")
    parser.add_argument(
        "--poll", metavar="DURATION", default="1s", help="how often to look (default: 1s)"
    )


def run(args: argparse.Namespace) -> int:
    """Process batch after batch until a signal comes, or the log ends; return 0.

    A batch whose processing failed or was killed comes again; what the function raises is raised.

    Raises:
        CollectionError: flags are wrong, there is no collection, or no such function.
    """
    flags = Flags(args)
    cursor = flags.given("cursor")
    poll = flags.duration("poll", _SHORTEST_POLL)
    start = flags.choice("start", ("earliest", "latest"))
    flags.done()
    process = load(args.process) if args.process else _print_line
    batches = open_collection(args.path)
    with _stopping() as stop:
        for batch in batches.follow(cursor, start=start, poll=poll, once=args.once, wait=stop.wait):
            if stop.is_set():
                break  # this batch is not begun, the one before is done and remembered
            process(batch)
    return 0


def load(name: str) -> Callable[[Batch], object]:
    """Return the function ``MODULE:FUNCTION``; the current directory is importable.

    Raises:
        CollectionError: there is none.
    """
    module_name, colon, attribute = name.partition(":")
    if not (module_name and colon and attribute):
        message = f"--process must be MODULE:FUNCTION, got {name!r}"
        raise CollectionError(message)
    if os.getcwd() not in sys.path:  # noqa: PTH109 - sys.path holds strings
        sys.path.insert(0, os.getcwd())  # noqa: PTH109
    try:
        found = getattr(importlib.import_module(module_name), attribute)
    except (ImportError, AttributeError) as error:
        message = f"cannot load --process={name}: {error}"
        raise CollectionError(message) from error
    if not callable(found):
        message = f"--process={name} is no function but a {type(found).__name__}"
        raise CollectionError(message)
    return found


def _print_line(batch: Batch) -> None:
    window = f"{batch.window_start:%Y-%m-%d %H:%M:%S}  {batch.timing:<7}"
    print(f"{batch.id}  {window}  {batch.rows:>9,} rows  {batch.path}", flush=True)


@contextlib.contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Give an event that the first SIGINT or SIGTERM sets; a second one ends at once."""
    stop = threading.Event()

    def set_stop(number: int, _frame: object) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    before = {number: signal.signal(number, set_stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
