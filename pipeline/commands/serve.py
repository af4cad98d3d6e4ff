"""``batch-collection serve``: show collections over HTTP, whoever collects them."""

from __future__ import annotations

import os
import sys
import threading
from typing import TYPE_CHECKING

from batch_collection.storage.opening import open_storage
from pipeline.options.flags import Flags
from pipeline.options.log import configure_log
from pipeline.options.serving import address_of, configure_http
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]

_DEFAULT = "127.0.0.1:8080"


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "root", metavar="ROOT", help="a collection, or the directory that collections lie in"
    )
    configure_http(parser, _DEFAULT)
    configure_log(parser)


def run(args: argparse.Namespace) -> int:
    """Serve until a signal comes; return 0.

    Raises:
        CollectionError: flags are wrong, or nobody can listen there.
    """
    flags = Flags(args)
    address, path = address_of(flags), open_storage(args.root).local_path("")
    flags.check(
        path is None or path.is_dir() or not os.path.lexists(path),
        f"{args.root} is no directory; give a collection, or the directory that collections lie in",
    )
    flags.done()
    assert address is not None  # noqa: S101 - there is a default
    from pipeline.serving.root import Root  # noqa: PLC0415 - imports what exposes metrics
    from pipeline.serving.server import Served, serving  # noqa: PLC0415 - as above

    root, stop = Root(args.root), threading.Event()
    served = Served(root.views, root.reasons)
    with stopped_by_signals(stop.set), serving(*address, served) as url:
        say(f"serving {args.root} at {url}", to=sys.stderr)
        stop.wait()
    return 0
