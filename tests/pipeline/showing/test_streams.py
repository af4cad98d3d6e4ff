"""Standard streams that are closed, full, unread or read too slowly: real processes, real pipes."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from confluent_kafka import Consumer, TopicPartition

import batch_collection
from batch_collection.storage.local import LocalStorage
from pipeline.showing.streams import NOBODY_READS
from tests.builders import Collector, dead_letter, message
from tests.collecting import Stream, check, entries_of, sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[3]
MODULE = """
import json, os, sys
from pathlib import Path
import pyarrow as pa

def ids(messages):
    print("something", flush=True)
    print("else", file=sys.stderr, flush=True)
    for number in (1, 2):
        try:
            os.write(number, b"as C libraries do")
        except OSError:
            pass
    Path("streams.txt").write_text(" ".join(os.readlink(f"/proc/self/fd/{n}") for n in range(3)))
    return pa.table({"id": [json.loads(value)["id"] for value in messages["value"].to_pylist()]})

def unheard(batch):
    print(batch.id)

def silent(batch):
    with Path("noted.txt").open("a") as file:
        file.write(f"{batch.id}\\n")
"""
BATCHES = ["0000000001-0000", "0000000001-0001"]
CLOSED = "error: cannot write to standard output: it is closed\n"
FULL = "error: cannot write to standard output: No space left on device\n"


def started(
    cwd: Path,
    *words: str,
    redirect: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> subprocess.Popen[str]:
    """Start a command from a shell that redirects its streams; what it prints is buffered."""
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    return subprocess.Popen(
        ["/bin/sh", "-c", f'exec "$0" "$@" {redirect}', sys.executable, "-m", "pipeline", *words],
        cwd=cwd,
        env={**inherited, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=stderr,
        text=True,
    )


def ended(
    cwd: Path,
    *words: str,
    redirect: str = "",
    stdout: int = subprocess.PIPE,
    stderr: int = subprocess.PIPE,
) -> tuple[int, str]:
    """Run a command to its end; return its exit code, and what it said on standard error."""
    with started(cwd, *words, redirect=redirect, stdout=stdout, stderr=stderr) as process:
        try:
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    return process.returncode, errors


@contextlib.contextmanager
def unread() -> Iterator[int]:
    """Give the end to write to of a pipe whose reader went away."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


def wait_until(is_so: Callable[[], bool]) -> None:
    """Wait for something that another process does."""
    deadline = time.monotonic() + 60
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a collection with two batches and a dead letter, beside a module of the user's."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2)
    messages = [*(message(offset) for offset in range(3)), dead_letter(3)]
    collector.collect(*messages, boundary="10:31:00")
    (tmp_path / "users_own.py").write_text(MODULE)
    return tmp_path / "collection"


# the collector


def flags(stream: Stream, *more: str) -> list[str]:
    """Return the flags to collect a topic into the current directory."""
    servers = f"--bootstrap_servers={stream.broker.bootstrap_servers}"
    return ["collect", servers, f"--topics={stream.name}", "--output=.", *more]


@pytest.mark.parametrize(
    ("redirect", "descriptors"),
    [
        ("<&- >&- 2>&-", ["/dev/null", "/dev/null", "/dev/null"]),
        (">/dev/full 2>&-", ["/dev/null", "/dev/full", "/dev/null"]),
        ("unread", ["/dev/null", "pipe", "pipe"]),
    ],
)
def test_what_becomes_of_its_output_changes_nothing_for_a_collector(
    embedded: EmbeddedBroker, path: Path, redirect: str, descriptors: list[str]
) -> None:
    """Nor does a function of the user's that prints; no file takes the number of a closed one."""
    stream = Stream(embedded)
    stream.send(*(sending(id=number) for number in range(100)))
    words = flags(stream, "--once", "--flush", "--input_format=users_own:ids")
    if redirect == "unread":
        with unread() as pipe:
            code, _ = ended(path.parent, *words, stdout=pipe, stderr=pipe)
    else:
        code, _ = ended(path.parent, *words, redirect=redirect)

    assert code == 0
    check(path.parent / stream.name, stream.produced)
    names = (path.parent / "streams.txt").read_text().split()
    assert [name.partition(":")[0] for name in names] == descriptors


def test_a_collector_goes_on_without_a_reader_and_ends_when_its_terminal_goes(
    embedded: EmbeddedBroker, path: Path
) -> None:
    """SIGHUP ends it in good order."""
    stream = Stream(embedded)
    words = flags(stream, "--interval=1s", "--grace=0s", "--batch_size=10")
    with started(path.parent, *words) as process:
        assert process.stderr is not None
        assert process.stderr.readline()
        process.stderr.close()
        for number in range(3):
            stream.send(*(sending(id=number) for _ in range(10)))
            wait_until(lambda: _rows(path.parent / stream.name) == len(stream.produced))
        process.send_signal(signal.SIGHUP)
        assert process.wait(30) == 0

    check(path.parent / stream.name, stream.produced)


def test_a_collector_with_a_moving_line_goes_on_without_its_terminal(
    embedded: EmbeddedBroker, path: Path
) -> None:
    """One that did not end it, as after ``disown``: what is written there fails from then on."""
    stream = Stream(embedded)
    terminal, end = pty.openpty()
    words = flags(stream, "--interval=1s", "--grace=0s", "--batch_size=10")
    with started(path.parent, *words, stderr=end) as process:
        os.close(end)
        try:
            assert os.read(terminal, 1)
        finally:
            os.close(terminal)
        for number in range(3):
            stream.send(*(sending(id=number) for _ in range(10)))
            wait_until(lambda: _rows(path.parent / stream.name) == len(stream.produced))
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0

    check(path.parent / stream.name, stream.produced)


def _rows(collection: Path) -> int:
    return sum(read.rows for entry in entries_of(collection) for read in entry.reads)


def test_a_reader_who_stands_still_does_not_stop_a_collector(
    embedded: EmbeddedBroker, path: Path
) -> None:
    """A pipe that nobody empties, as that of a pager; lines that find no room are missing there."""
    stream = Stream(embedded)
    stream.send(*(sending(id=number) for number in range(100)))
    reader, writer = os.pipe()
    try:
        _fill(writer)
        code, _ = ended(path.parent, *flags(stream, "--once", "--flush"), stderr=writer)
    finally:
        os.close(writer)
        os.close(reader)

    assert code == 0
    check(path.parent / stream.name, stream.produced)


def _fill(writer: int) -> None:
    """Fill a pipe; that it must not wait is unset again: it belongs to all who have the pipe."""
    before = fcntl.fcntl(writer, fcntl.F_GETFL)
    os.set_blocking(writer, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writer, b"x" * 4096)
    fcntl.fcntl(writer, fcntl.F_SETFL, before)


PROGRAM = """
import sys
from pipeline.showing.streams import hold_streams
hold_streams()
for number in range(20_000):
    print("line", number, file=sys.stderr)
print("all are written", flush=True)
for line in sys.stdin:
    print(line, end="", file=sys.stderr)
"""


def test_lines_that_found_no_room_are_counted_for_the_reader_who_comes_back() -> None:
    """In their place; what found room is there, whole."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [sys.executable, "-c", PROGRAM], cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == b"all are written\n"
        found = _emptied(process.stderr.fileno())
        _, rest = process.communicate(b"the end\n", timeout=60)

    assert process.returncode == 0
    *lines, note, end = (found + rest).decode().splitlines()
    assert lines == [f"line {number}" for number in range(len(lines))]
    assert note == f"... {20_000 - len(lines):,} lines are missing here"
    assert end == "the end"


def _emptied(reader: int) -> bytes:
    """Read what is in a pipe."""
    found = b""
    os.set_blocking(reader, False)
    try:
        while True:
            found += os.read(reader, 65536)
    except BlockingIOError:
        os.set_blocking(reader, True)
    return found


def test_a_reader_of_standard_output_is_waited_for() -> None:
    """Also where a pipe says that it is full, as one does that another program has set so."""
    program = (
        "import os\n"
        "from pipeline.showing.streams import hold_streams\n"
        "hold_streams()\n"
        "os.set_blocking(1, False)\n"
        "for number in range(20_000):\n"
        "    print(number)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.splitlines() == [str(number) for number in range(20_000)]


# commands whose output is what they are for


@pytest.mark.parametrize("command", ["status", "audit", "schema"])
def test_what_cannot_be_printed_is_told(path: Path, command: str) -> None:
    """By the exit code, and but for a reader who went away by one line."""
    assert ended(path.parent, command, str(path), redirect=">&-") == (1, CLOSED)
    assert ended(path.parent, command, str(path), redirect=">/dev/full") == (1, FULL)
    with unread() as pipe:
        assert ended(path.parent, command, str(path), stdout=pipe) == (NOBODY_READS, "")


def test_help_that_cannot_be_printed_is_told(path: Path) -> None:
    """The parser of flags keeps what goes wrong to itself."""
    assert ended(path.parent, "status", "--help", redirect=">/dev/full") == (1, FULL)


@pytest.mark.parametrize("redirect", ["2>&-", "2>/dev/full", "<&- >&- 2>&-"])
def test_an_error_that_nobody_hears_is_an_error(path: Path, redirect: str) -> None:
    """The exit code says it."""
    assert ended(path.parent, "status", str(path / "nothing"), redirect=redirect) == (2, "")


def test_what_a_command_does_is_done_whoever_hears_of_it(path: Path) -> None:
    """Only the exit code is another one."""
    words = ("export", str(path), "--to=jsonl", "--output=exported")

    assert ended(path.parent, *words, redirect=">/dev/full") == (1, FULL)

    assert (path.parent / "exported/part-00000-of-00001.jsonl").exists()


# follow


@pytest.mark.parametrize(
    ("redirect", "more", "expected"),
    [
        (">&-", "", (1, CLOSED)),
        (">/dev/full", "--process=users_own:unheard", (1, FULL)),
        ("unread", "", (NOBODY_READS, "")),
    ],
)
def test_a_batch_that_nobody_was_told_of_comes_again(
    path: Path, redirect: str, more: str, expected: tuple[int, str]
) -> None:
    """Also where a function prints, and leaves it to us to write that out."""
    words = ("follow", str(path), "--cursor=a", "--once", *more.split())
    if redirect == "unread":
        with unread() as pipe:
            assert ended(path.parent, *words, stdout=pipe) == expected
    else:
        assert ended(path.parent, *words, redirect=redirect) == expected

    with started(path.parent, *words) as process:
        told, _ = process.communicate(timeout=60)
    assert [line.split()[0] for line in told.splitlines()] == BATCHES


def test_a_function_that_prints_nothing_needs_no_output(path: Path) -> None:
    """What it does with a batch is its own affair."""
    words = ("follow", str(path), "--cursor=a", "--once", "--process=users_own:silent")

    assert ended(path.parent, *words, redirect="<&- >&- 2>&-") == (0, "")

    assert (path.parent / "noted.txt").read_text().split() == BATCHES
    place = json.loads((path / "cursors/a.json").read_text())
    assert (place["cycle"], place["index"]) == (2, 0)  # all of cycle 1


def test_a_second_hangup_changes_nothing() -> None:
    """When a terminal goes, the system sends one, and the shell another."""
    program = (
        "import os, signal\n"
        "from pipeline.running.signals import stopped_by_signals\n"
        "with stopped_by_signals(lambda: print('stop')):\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "    os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('end')\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stdout) == (0, "stop\nend\n")


def test_a_hangup_that_came_ignored_stays_so(path: Path) -> None:
    """As ``nohup`` starts a program."""
    words = ("follow", str(path), "--cursor=a", "--poll=50ms")
    program = [sys.executable, "-m", "pipeline", *words]
    with subprocess.Popen(
        ["/bin/sh", "-c", 'trap \'\' HUP; exec "$0" "$@"', *program],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            lines = _lines(process.stdout)
            assert [next(lines).split()[0] for _ in BATCHES] == BATCHES
            process.send_signal(signal.SIGHUP)
            place = path / "cursors/a.json"
            wait_until(lambda: json.loads(place.read_text())["cycle"] == 2)  # all of cycle 1
            log = LocalStorage(str(path))
            collector = Collector(log, batch_size=2, newest=batch_collection.open(log).newest)
            collector.collect(message(4, "10:31:10"), boundary="10:32:00")
            assert next(lines).startswith("0000000002-0000")
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0
        finally:
            process.kill()  # where it hasn't ended


def _lines(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


# others that go on for a while


def test_produce_delivers_the_round_whose_lines_nobody_reads(
    embedded: EmbeddedBroker, path: Path
) -> None:
    """And sends no other: it ends as other programs do whose reader went away."""
    names = [Stream(embedded).name for _ in range(3)]
    servers = f"--bootstrap_servers={embedded.bootstrap_servers}"
    words = ("produce", servers, f"--topics={','.join(names)}", "--every=10ms")
    with unread() as pipe:
        assert ended(path.parent, *words, stdout=pipe) == (NOBODY_READS, "")

    assert [_messages(embedded, name) for name in names] == [1, 1, 1]


def _messages(broker: EmbeddedBroker, topic: str) -> int:
    settings = {"bootstrap.servers": broker.bootstrap_servers, "group.id": "test", "log_level": 0}
    consumer = Consumer(settings)
    places = [TopicPartition(topic, number) for number in range(broker.partitions)]
    ends = [consumer.get_watermark_offsets(place, timeout=10)[1] for place in places]
    consumer.close()
    return sum(ends)


def test_the_demo_ends_when_nobody_looks_at_it(path: Path) -> None:
    """In good order, within seconds: what it has collected is whole."""
    words = ("demo", "--interval=1s", f"--output={path.parent / 'demo'}")
    with started(path.parent, *words) as process:
        assert process.stdout is not None
        killer = threading.Timer(60, process.kill)
        killer.start()
        while not next(process.stdout).startswith("time UTC"):
            pass
        process.stdout.close()
        assert process.stderr is not None
        assert (process.wait(60), process.stderr.read()) == (NOBODY_READS, "")
        killer.cancel()

    assert ended(path.parent, "audit", str(path.parent / "demo/batch-topic")) == (0, "")


def test_what_an_encoding_lacks_is_written_as_an_escape(path: Path) -> None:
    """A column's name in ASCII, or a path that is no UTF-8: never a traceback."""
    own = path.parent / "own"
    collector = Collector(LocalStorage(str(own)))
    collector.start()
    collector.collect(dead_letter(0, "größe"), message(1, größe=1), boundary="10:31:00")
    ascii_only = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    for words, shown in ((["status"], r"1  gr\xf6\xdfe"), (["schema"], r"gr\xf6\xdfe")):
        done = subprocess.run(
            [sys.executable, "-m", "pipeline", *words, str(own)],
            env=ascii_only,
            capture_output=True,
            check=False,
        )
        assert (done.returncode, done.stderr) == (0, b"")
        assert shown in done.stdout.decode("ascii")
