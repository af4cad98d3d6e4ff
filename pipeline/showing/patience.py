"""What is said while something is waited for that nobody sees coming: an import, an answer."""

from __future__ import annotations

import shutil
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from batch_collection.errors import printable
from pipeline.showing.columns import shortened
from pipeline.showing.lines import say
from pipeline.showing.streams import is_terminal

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["said_at_once", "said_meanwhile"]


_SECONDS = 1.0


def said_at_once(text: str) -> None:
    """Say what begins, on a terminal: a log has what comes of it, in a second."""
    if is_terminal():
        say(shortened(printable(text), shutil.get_terminal_size().columns - 1), to=sys.stderr)


@contextmanager
def said_meanwhile(text: str, seconds: float = _SECONDS) -> Iterator[None]:
    """Write a line for people once the block has lasted so long; most blocks are over before."""
    timer = threading.Timer(seconds, lambda: say(text, to=sys.stderr))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
