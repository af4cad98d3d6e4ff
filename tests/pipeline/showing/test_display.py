"""What a user sees: lines, and on a real terminal the moving one."""

from __future__ import annotations

import os
import pty
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests.collecting import Stream, sending

if TYPE_CHECKING:
    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[3]
ESCAPES = re.compile(rb"\x1b\[[0-9;?]*[A-Za-z]")


def shown_until(terminal: int, *texts: bytes) -> bytes:
    """Read a terminal until each text was there."""
    shown = b""
    while not all(text in shown for text in texts):
        shown = ESCAPES.sub(b"", shown + os.read(terminal, 65536))
    return shown


def test_a_terminal_shows_the_running_cycle_and_the_time_to_the_next(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """On a real one, through the real program; Ctrl-C takes the moving line away."""
    stream = Stream(embedded)
    stream.send(*(sending(id=number) for number in range(20)))
    terminal, end = pty.openpty()
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "pipeline", f"--topics={stream.name}", "--interval=1s"),
            *(f"--bootstrap_servers={embedded.bootstrap_servers}", f"--output={tmp_path}"),
        ],
        cwd=ROOT,
        stderr=end,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "150"},
    )
    os.close(end)
    try:
        shown = shown_until(terminal, b"next boundary in 0:00:0", b"20 rows in 1 file")
        process.send_signal(signal.SIGINT)
        shown += shown_until(terminal, b"stopped; the next run goes on from here")
        assert process.wait(30) == 0
    finally:
        process.kill()
        os.close(terminal)
    assert re.search(rb"of 20 messages \(\d+%\)", shown)
    assert b"messages wait" in shown
    assert b"Traceback" not in shown
