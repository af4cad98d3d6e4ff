"""``batch-collection announce``: tell others of each window that is closed and visible."""

from __future__ import annotations

import sys
import threading
from contextlib import closing
from typing import TYPE_CHECKING

from batch_collection.collection import open as open_collection
from batch_collection.counted import counted
from batch_collection.reading.cursor import Cursor
from batch_collection.storage.opening import open_storage
from pipeline.announcing.contract import UndeliveredError
from pipeline.announcing.target import FORMS
from pipeline.options.announcing import configure_target, target_of
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags, configure_path, configure_poll, configure_properties
from pipeline.options.log import configure_log
from pipeline.running.announcer import CURSOR, PATIENCE, Announcer
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse

    from pipeline.announcing.contract import Announcement

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    configure_target(parser, "to", "secret_file")
    parser.add_argument(
        "--bootstrap_servers", metavar="HOST:PORT,...", help="brokers (required for kafka://TOPIC)"
    )
    configure_properties(parser)
    parser.add_argument(
        "--cursor",
        metavar="NAME",
        help="the name its place is remembered under, in the collection's cursors/; each target "
        f"needs one of its own (default: {CURSOR})",
    )
    parser.add_argument(
        "--cursor_file",
        metavar="FILE",
        help="the file its place is remembered in instead, elsewhere: for who may only read the "
        "collection",
    )
    parser.add_argument(
        "--start",
        metavar="earliest|latest",
        default="earliest",
        help="where a new cursor begins (default: earliest)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="stop at the end of the log; an announcement that is not taken within a minute ends "
        "it, too, with exit code 1",
    )
    parser.add_argument(
        "--on_expired",
        metavar="fail|skip",
        default="fail",
        help="windows were expired before they were announced: fail, or go on with what is left "
        "(default: fail)",
    )
    configure_poll(parser)
    configure_log(parser)
    configure_config_file(parser)


def run(args: argparse.Namespace) -> int:
    """Announce window after window until a signal comes, or the log ends; return 0.

    1 is returned where one is not taken in time.

    Raises:
        CollectionError: flags are wrong, there is no collection, or the receiver wants no more.
    """
    flags = Flags(args)
    flags.check(
        args.cursor is None or args.cursor_file is None,
        "give --cursor=NAME or --cursor_file=FILE, not both",
    )
    poll = flags.poll().total_seconds()
    start = flags.choice("start", ("earliest", "latest"))
    skips = flags.choice("on_expired", ("fail", "skip")) == "skip"
    servers = flags.brokers() if args.bootstrap_servers else ""
    flags.given("to", f"name one of: {FORMS}")
    target = target_of(flags, "to", "secret_file", servers, flags.properties())
    flags.done()
    assert target is not None  # noqa: S101 - it was given
    newest = open_collection(args.path).newest
    storage, stop = open_storage(args.path), threading.Event()
    name = None if args.cursor_file else args.cursor or CURSOR
    with closing(target.open()) as publisher, stopped_by_signals(stop.set):
        announcer = Announcer(
            storage=storage,
            publisher=publisher,
            cursor=Cursor(storage, name, args.cursor_file),
            say=lambda line: say(line, to=sys.stderr),
            stop=stop,
            at_end=None if args.once else lambda: stop.wait(poll),
            patience=PATIENCE if args.once else None,
            latest=newest.cycle + 1 if start == "latest" else None,
            skips=skips,
            done=_print_line,
        )
        try:
            announcer.run()
        except UndeliveredError as error:
            say(f"error: {error}; the next run begins with it", to=sys.stderr)
            return 1
    return 0


def _print_line(announcement: Announcement) -> None:
    data = announcement.event["data"]
    say(
        f"{data['window_start']}  revision {data['revision']}  {data['timing']:<7}  "
        f"{counted(data['rows'], 'row'):>14}  {counted(data['files'], 'file'):>9}  announced"
    )
