"""What is said while an answer that nobody sees coming is waited for."""

from __future__ import annotations

import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.showing.lines import say

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["said_meanwhile"]


_SECONDS = 1.0


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
