"""What is said while something is waited for."""

from __future__ import annotations

import sys
import threading
from typing import TYPE_CHECKING

from pipeline.showing import patience
from pipeline.showing.patience import said_at_once, said_meanwhile

if TYPE_CHECKING:
    import pytest


def test_a_long_wait_is_told_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """While it lasts."""
    written, said = [], threading.Event()

    class Screen:
        def write(self, text: str) -> None:
            written.append(text)

        def flush(self) -> None:
            said.set()

    monkeypatch.setattr(sys, "stderr", Screen())
    with said_meanwhile("waiting ...", seconds=0):
        assert said.wait(10)
    assert "".join(written) == "waiting ...\n"


def test_a_terminal_is_told_what_begins(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a line as wide as it; a log is not."""
    monkeypatch.setenv("COLUMNS", "30")
    said_at_once("starting: sensor of kafka at localhost:9092")
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(patience, "is_terminal", lambda: True)
    said_at_once("starting: sensor of kafka at \x1b[2J")
    assert capsys.readouterr().err == "starting: sen...ka at \\x1b[2J\n"


def test_a_short_wait_is_not_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Not afterwards either."""
    before = threading.active_count()
    with said_meanwhile("waiting ...", seconds=3600):
        timers = [each for each in threading.enumerate() if isinstance(each, threading.Timer)]
        assert threading.active_count() == before + 1
    timers[-1].join(10)
    assert not timers[-1].is_alive()
    assert capsys.readouterr().err == ""
