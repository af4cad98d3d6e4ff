"""The one place that prints: lines for people, each of which stays one, whatever it quotes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from batch_collection.errors import printable

if TYPE_CHECKING:
    from typing import TextIO

__all__ = ["LogLines", "say", "shown"]


def shown(*lines: str) -> str:
    """Return lines as they may be shown: the line feeds between them are the only ones."""
    return "\n".join(map(printable, lines))


def say(*lines: str, to: TextIO | None = None) -> None:
    """Print lines at once, to standard output if nothing else is given.

    Raises:
        OutputError: standard output can't take them.
    """
    print(shown(*lines), file=sys.stdout if to is None else to, flush=True)


class LogLines(logging.Formatter):
    """Formats what libraries log; they break lines, tracebacks above all."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's lines as they may be shown."""
        return shown(*super().format(record).split("\n"))
