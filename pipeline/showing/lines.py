"""The one place that prints: lines for people, each of which stays one, whatever it quotes.

Standard error is a log: with ``--log_format=json`` each line there is an object, whoever says it.
"""

from __future__ import annotations

import json
import logging
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_collection.errors import printable
from batch_collection.windows import format_instant, utc_now

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import TextIO

    from rich.console import Console
    from rich.text import Text

__all__ = [
    "LogForm",
    "LogLines",
    "level_of",
    "log_form",
    "say",
    "say_record",
    "say_styled",
    "shown",
    "styled",
]

_PREFIXES = {"error: ": logging.ERROR, "warning: ": logging.WARNING}


@dataclass(slots=True)
class LogForm:
    """How what is said on standard error is written.

    Attributes:
        as_json: each line is an object.
        level: what is less important is left out.
    """

    as_json: bool = False
    level: int = logging.INFO

    def use(self, *, as_json: bool, level: int) -> None:
        """Write so from now on."""
        self.as_json, self.level = as_json, level


log_form = LogForm()
"""The process's own, as its standard error is; ``cli.py`` sets it by the flags."""


def level_of(line: str) -> int:
    """Return how important a line is by how it begins: an error, a warning, or neither."""
    found = (level for prefix, level in _PREFIXES.items() if line.startswith(prefix))
    return next(found, logging.INFO)


def shown(*lines: str) -> str:
    """Return lines as they may be shown: the line feeds between them are the only ones."""
    return "\n".join(map(printable, lines))


def say(*lines: str, to: TextIO | None = None, level: int | None = None) -> None:
    """Print lines at once, to standard output if nothing else is given.

    Args:
        lines: what to say.
        to: standard error is written as ``log_form`` has it.
        level: how important they are (default: as ``level_of`` says of each).

    Raises:
        OutputError: standard output can't take them.
    """
    if to is not sys.stderr:
        _print(*lines, to=to)
        return
    levels = [level_of(line) if level is None else level for line in lines]
    heard = [each for each in zip(lines, levels, strict=True) if each[1] >= log_form.level]
    if heard:
        _print(*(_logged(*each) if log_form.as_json else each[0] for each in heard), to=to)


def _print(*lines: str, to: TextIO | None) -> None:
    print(shown(*lines), file=sys.stdout if to is None else to, flush=True)


def _logged(line: str, level: int) -> str:
    prefix = next((each for each in _PREFIXES if line.startswith(each)), "")
    event = prefix.partition(":")[0] or "note"
    return _record(level, event, line.removeprefix(prefix), {})


def say_record(level: int, event: str, message: str, fields: Mapping[str, Any]) -> None:
    """Print what happened as one object on standard error, if it is important enough."""
    if level >= log_form.level:
        _print(_record(level, event, message, fields), to=sys.stderr)


def _record(level: int, event: str, message: str, fields: Mapping[str, Any]) -> str:
    """Write JSON of one line, which holds nothing that steers a terminal."""
    head = {
        "time": format_instant(utc_now()),
        "level": logging.getLevelName(level).lower(),
        "event": event,
        "message": message,
    }
    return json.dumps({**head, **fields}, default=str)


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
        """Return a record's lines as they may be shown, or as one object."""
        if not log_form.as_json:
            return shown(*super().format(record).split("\n"))
        fields = {"logger": record.name}
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return _record(record.levelno, "log", record.getMessage(), fields)
