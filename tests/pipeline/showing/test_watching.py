"""What is shown again and again."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from typing import TYPE_CHECKING

from pipeline.showing.watching import watched
from tests.collecting import ROOT

if TYPE_CHECKING:
    import pytest

PROGRAM = """
from pipeline.showing.watching import watched
with watched() as show:
    show(["first", "\\x1b[2J"])
    show(["last", "below"])
"""


def test_without_a_terminal_all_is_left(capsys: pytest.CaptureFixture[str]) -> None:
    """Each showing ends with an empty line."""
    with watched() as show:
        show(["first", "\x1b[2J"])
        show(["last"])
    assert capsys.readouterr().out == "first\n\\x1b[2J\n\nlast\n\n"


def test_a_terminal_shows_the_newest_in_a_screen_of_its_own() -> None:
    """And the last of it is left when that is over; what is quoted steers nothing."""
    terminal, end = pty.openpty()
    done = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdout=end, env={**os.environ, "TERM": "xterm"}
    )
    os.close(end)
    shown = b""
    while chunk := _read(terminal):
        shown += chunk
    os.close(terminal)
    assert done.wait(60) == 0
    inside, _, left = shown.decode().partition("\x1b[?1049l")
    assert "\x1b[?1049h" in inside
    assert inside.index("first") < inside.index("last")
    assert "\\x1b[2J" in inside
    assert "first" not in left
    assert "last\r\nbelow\r\n" in left


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65_536)
    except OSError:  # its other end was closed
        return b""
