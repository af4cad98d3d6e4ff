"""The one place that prints: lines for people, each of which stays one, whatever it quotes."""

from __future__ import annotations

import logging
import sys
from typing import TYPE_CHECKING

from batch_collection.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterable
    from typing import TextIO

    from rich.console import Console
    from rich.text import Text

__all__ = ["LogLines", "say", "say_styled", "shown", "styled"]


def shown(*lines: str) -> str:
    """Return lines as they may be shown: the line feeds between them are the only ones."""
    return "\n".join(map(printable, lines))


def say(*lines: str, to: TextIO | None = None) -> None:
    """Print lines at once, to standard output if nothing else is given.

    Raises:
        OutputError: standard output can't take them.
    """
    print(shown(*lines), file=sys.stdout if to is None else to, flush=True)


def styled(parts: Iterable[tuple[str, str]]) -> Text:
    """Return a line for rich, of texts that each have a style."""
    from rich.text import Text  # noqa: PLC0415 - only for terminals

    return Text.assemble(*((printable(text), style) for text, style in parts), no_wrap=True)


def say_styled(parts: Iterable[tuple[str, str]], to: Console) -> None:
    """Print a line on a terminal, of texts that each have a style."""
    to.print(styled(parts), soft_wrap=True)


class LogLines(logging.Formatter):
    """Formats what libraries log; they break lines, tracebacks above all."""

    def format(self, record: logging.LogRecord) -> str:
        """Return a record's lines as they may be shown."""
        return shown(*super().format(record).split("\n"))
