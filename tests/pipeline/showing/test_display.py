"""What a user sees: on real terminals of some widths, and through a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch_collection.log.sums import Sums
from pipeline.showing.board import Totals
from pipeline.showing.display import LineDisplay, Progress, open_display
from tests.builders import at
from tests.collecting import Stream, run_command, sending
from transforms.process.events import CycleBegan, FileStaged, MessagesRead, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[3]
TOKENS = re.compile(r"\x1b\[([0-9;?]*)([A-Za-z])|(.)", re.DOTALL)
RED = "1;31"
SECONDS = 30


class Screen:
    """A terminal in miniature, which takes what ``rich`` writes.

    Attributes:
        lines: what stands there.
        alarms: what was written in red.
        moved: each state of the last line that was ever there.
    """

    def __init__(self) -> None:
        self.lines, self.moved, self.alarms = [""], list[str](), ""
        self._row, self._column, self._colour = 0, 0, ""

    def write(self, text: str) -> None:
        """Take what comes."""
        for found in TOKENS.finditer(text):
            numbers, code, letter = found.groups()
            if letter is None:
                self._steer(numbers, code)
            elif letter == "\r":
                self._column = 0
            elif letter == "\n":
                self._row += 1
                self.lines += [""] * (self._row + 1 - len(self.lines))
            else:
                self._put(letter)
        self.moved.append(self.lines[self._row])

    def _steer(self, numbers: str, code: str) -> None:
        if code == "m":
            self._colour = numbers
        elif (code, numbers) == ("K", "2"):
            self.lines[self._row] = ""
        elif code == "A":
            self._row -= int(numbers or 1)
        else:
            assert numbers in {"?25l", "?25h", "?25"}, (numbers, code)

    def _put(self, letter: str) -> None:
        assert letter.isprintable()
        line = self.lines[self._row].ljust(self._column)
        line = line[: self._column] + letter + line[self._column + 1 :]
        self.lines[self._row] = line
        self._column += 1
        if self._colour == RED:
            self.alarms += letter


class Terminal:
    """The collector on a real terminal of its own."""

    def __init__(self, columns: int, folder: Path, words: list[str], **environment: str) -> None:
        self.screen = Screen()
        self.raw = b""
        self._end, end = pty.openpty()
        fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        hidden = {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
        inherited = {name: text for name, text in os.environ.items() if name not in hidden}
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "pipeline", *words],
            cwd=folder,
            stdin=end,
            stdout=end,
            stderr=end,
            env={**inherited, "TERM": "xterm-256color", "PYTHONPATH": str(ROOT), **environment},
        )
        os.close(end)

    def until(self, *texts: str) -> None:
        """Read until each of some texts has been there."""
        deadline = time.monotonic() + SECONDS
        while not all(text.encode() in self.raw for text in texts):
            assert time.monotonic() < deadline, (texts, self.screen.lines)
            self._read()

    def end(self) -> int:
        """Press Ctrl-C, read all that comes, and return the exit code."""
        self.process.send_signal(signal.SIGINT)
        try:
            while True:
                self._read()
        except OSError:  # its other end is closed
            return self.process.wait(30)

    def _read(self) -> None:
        assert select.select([self._end], [], [], SECONDS)[0], self.screen.lines
        content = os.read(self._end, 65536)
        self.raw += content
        self.screen.write(content.decode())

    def close(self) -> None:
        """Kill it, if it still runs."""
        self.process.kill()
        self.process.wait(30)
        os.close(self._end)


@contextmanager
def terminal(
    columns: int, folder: Path, words: list[str], **environment: str
) -> Iterator[Terminal]:
    """Run the collector in a folder, on a terminal, as long as the block lasts."""
    found = Terminal(columns, folder, words, **environment)
    try:
        yield found
    finally:
        found.close()


def words_of(broker: EmbeddedBroker, *streams: Stream) -> list[str]:
    """Return the flags that collect some streams into a folder below."""
    return [
        f"--topics={','.join(stream.name for stream in streams)}",
        f"--bootstrap_servers={broker.bootstrap_servers}",
        "--output=out",
        "--interval=1s",
    ]


@pytest.fixture
def streams(embedded: EmbeddedBroker) -> list[Stream]:
    """Give three topics: one with rows, one with dead letters among them, one that is quiet."""
    found = [Stream(embedded) for _ in range(3)]
    found[0].send(*(sending(id=number) for number in range(20)))
    found[1].send(*(sending(id=number) for number in range(10)))
    found[1].send(sending(id="\x1b[2J; x"), sending(id="b"))
    return found


@pytest.mark.parametrize("columns", [100, 60])
def test_a_terminal_shows_aligned_lines_that_never_wrap(
    embedded: EmbeddedBroker, tmp_path: Path, streams: list[Stream], columns: int
) -> None:
    """And what begins at once, how it goes, dead letters in red, and a sum; Ctrl-C ends it well."""
    with terminal(columns, tmp_path, words_of(embedded, *streams)) as shown:
        shown.until("starting: 3 collections of k")
        said_after = time.monotonic() - shown.began
        shown.until("2 dead letters: mostly ", "next cycle ")
        streams[0].send(*(sending(id=number) for number in range(20)))
        shown.until("in all 50 rows")
        assert shown.end() == 0
    assert said_after < 5  # a second on a quiet machine

    screen = shown.screen
    wide = {line.strip() for line in screen.lines + screen.moved if len(line) > columns}
    copied = {f"{tmp_path}/out/{stream.name}" for stream in streams}
    assert wide <= copied
    told = [line for line in screen.lines if " rows" in line]
    assert len({line.index(" rows") for line in told}) == 1
    assert len({line.index(" message") for line in told}) == 1
    assert told[-1].startswith(told[-1][:8] + "  in all ")
    assert not any(f"  {streams[2].name}  " in line and " rows" in line for line in told)
    assert "2 dead letters: mostly " in screen.alarms
    command = f"batch-collection dead-letters out/{streams[1].name}"
    assert any(line.endswith(f"  {command}") for line in screen.lines)
    assert "stopped; the next run goes on from here" in "\n".join(screen.lines)
    assert not any("next cycle" in line for line in screen.lines)  # it was taken away
    assert any(re.search(r"of \d+ messages \(\d+%\)", line) for line in screen.moved)
    assert b"Traceback" not in shown.raw


def test_without_colours_words_say_the_same(
    embedded: EmbeddedBroker, tmp_path: Path, streams: list[Stream]
) -> None:
    """As NO_COLOR asks."""
    flags = words_of(embedded, streams[1])
    with terminal(100, tmp_path, flags, NO_COLOR="1") as shown:
        shown.until("2 dead letters: mostly ", "next cycle ")
        assert shown.end() == 0
    assert not re.search(rb"\x1b\[[0-9;]*3[0-9]m", shown.raw)


def test_a_pipe_has_one_line_an_event_and_nothing_else(
    tmp_path: Path, streams: list[Stream]
) -> None:
    """However long; it says what came of it, and not what begins."""
    found = run_command(streams, tmp_path, "--once", "--flush", "--grace=10m")  # nothing is due
    lines = found.stderr.splitlines()
    assert all(re.match(r"\d\d:\d\d:\d\d  \S", line) and line.isprintable() for line in lines)
    begins, cycles, total = lines[:3], lines[3:-1], lines[-1]
    assert all(" begins " in line for line in begins)
    assert [line.split()[1] for line in cycles] == [stream.name for stream in streams[:2]]
    assert "2 dead letters: mostly column id is int64" in cycles[1]
    _, _, path = cycles[1].rpartition("  batch-collection dead-letters ")
    assert Path(path).resolve() == tmp_path / streams[1].name  # told from here, if that is shorter
    assert "  flushed to " in cycles[0]
    assert total.split()[1:5] == ["in", "all", "32", "messages"]


def test_cycles_that_did_nothing_are_shown_if_asked_for(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """By ``--verbose``."""
    stream = Stream(embedded)
    found = run_command([stream], tmp_path, "--once", "--verbose", "--interval=1s")
    assert " cycle 1 " in found.stderr
    found = run_command([stream], tmp_path, "--once", "--interval=1s")
    assert not re.search(r" cycle \d+ +\d+ messages", found.stderr)


def text_of(progress: Progress, totals: Totals, room: int = 100) -> str:
    """Return the moving line."""
    return "".join(part.text for part in progress.line(totals, room))


def test_the_moving_line_says_how_it_goes_and_what_comes_next() -> None:
    """What is least needed has no room first."""
    now = at("10:30:00")
    progress, totals = Progress(lambda: now), Totals()
    assert text_of(progress, totals) == "starting"
    progress(CycleBegan(("orders",), messages=2_000, left=0))
    progress(MessagesRead("/data/orders", 500))
    progress(FileStaged("/data/orders", rows=5, bytes=9, is_late=False))
    now += timedelta(seconds=2)
    totals.cycles, totals.sums = 3, Sums(rows=12_345, dead_letters=2)
    told = "500 of 2,000 messages (25%)  250/s  1 file"
    assert text_of(progress, totals) == f"{told}  in all 12,345 rows  2 dead letters"
    assert text_of(progress, totals, 50) == told
    assert text_of(progress, totals, 20) == "500 of 2,000 mess..."
    progress(Waiting(at("10:30:07"), messages=1))
    assert text_of(progress, Totals()) == "next cycle in 5s  1 message waiting"
    progress(Waiting(at("10:35:02"), messages=0))
    assert text_of(progress, Totals()) == "next cycle in 5m  0 messages waiting"
    progress(Waiting(at("10:29:59"), messages=0))
    assert text_of(progress, Totals()) == "next cycle now  0 messages waiting"


def test_what_can_move_no_line_gets_plain_ones() -> None:
    """As tests have it, or an editor's shell."""
    assert isinstance(open_display(lambda: at("10:30:00")), LineDisplay)
