"""What is shown again and again: in the same place of a terminal, below one another elsewhere."""

from __future__ import annotations

import os
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pipeline.showing.lines import say, styled

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

__all__ = ["watched"]


@contextmanager
def watched() -> Iterator[Callable[[Sequence[str]], None]]:
    """Yield what shows lines in the place of those before, on standard output.

    On a terminal the last of them are left when the block ends; what has no room below is cut
    meanwhile. Elsewhere each showing ends with an empty line.
    """
    if not sys.stdout.isatty() or os.environ.get("TERM", "") in {"", "dumb", "unknown"}:
        yield lambda lines: say(*lines, "")
        return
    from rich.console import Console  # noqa: PLC0415 - only for terminals
    from rich.live import Live  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    last: list[str] = []
    with Live(console=Console(highlight=False), screen=True, auto_refresh=False) as live:

        def show(lines: Sequence[str]) -> None:
            last[:] = lines
            text = Text("\n", no_wrap=True).join(styled([(line, "")]) for line in lines)
            live.update(text, refresh=True)

        yield show
    say(*last)
