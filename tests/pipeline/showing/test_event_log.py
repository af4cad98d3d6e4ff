"""Standard error as objects: ``--log_format``, ``--log_level``, ``--quiet``."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.errors import LogError
from batch_collection.windows import parse_instant
from pipeline.cli import main
from pipeline.showing.board import Board
from pipeline.showing.display import LineDisplay, open_display
from pipeline.showing.event_log import EventLog, importance
from pipeline.showing.lines import LogLines, log_form, say
from tests.builders import at, first_entry
from tests.collecting import ROOT, Sending, Stream, sending
from transforms.process.events import Away, Back, CycleCommitted, Event, GivenUp, Note, Waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

HEAD = ["time", "level", "event", "message"]
"""What each object begins with."""


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    """Write as before, once a test is over."""
    hook = threading.excepthook
    yield
    threading.excepthook = hook
    log_form.use(as_json=False, level=logging.INFO)
    logging.getLogger().setLevel(logging.WARNING)
    sys.excepthook = sys.__excepthook__


def objects(text: str) -> list[dict[str, Any]]:
    """Return what each line is, all of which are objects of ours."""
    found = [json.loads(line) for line in text.splitlines()]
    for each in found:
        assert list(each)[:4] == HEAD
        assert parse_instant(each["time"])
        assert each["level"] in {"debug", "info", "warning", "error", "critical"}
    return found


def test_a_run_is_objects_and_nothing_else(
    embedded: EmbeddedBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Of each event what it tells, by names that stay; its message is the line for people."""
    stream = Stream(embedded)
    stream.send(*(sending(None, value=value) for value in range(3)), Sending(b"{"))
    servers = f"--bootstrap_servers={embedded.bootstrap_servers}"
    words = [servers, f"--topics={stream.name}", f"--output={tmp_path}", "--once", "--flush"]
    assert main([*words, "--log_format=json", "--grace=10m"]) == 0  # no window is due meanwhile
    said = objects(capfd.readouterr().err)
    # a slow machine is said to wait for its broker
    begins, cycle, ended = (each for each in said if not each["message"].startswith("waiting "))
    assert (begins["event"], begins["level"]) == ("note", "info")
    assert begins["message"].startswith(f"{stream.name} (4 partitions) begins {tmp_path}")
    entry_fields = {"messages": 4, "rows": 3, "files": 1, "dead_letters": 1, "lost": 0}
    assert {name: cycle[name] for name in entry_fields} == entry_fields
    assert (cycle["event"], cycle["level"]) == ("cycle_committed", "warning")
    assert (cycle["topic"], cycle["collection"]) == (stream.name, f"{tmp_path}/{stream.name}")
    assert cycle["reason"].startswith("not JSON")
    assert (ended["event"], ended["rows"], ended["dead_letters"]) == ("ended", 3, 1)


@pytest.mark.parametrize("flag", ["--quiet", "--log_level=warning"])
def test_a_quiet_run_says_what_is_not_well(
    flag: str, embedded: EmbeddedBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing at all where nothing is wrong, and the line of a cycle with dead letters."""
    stream = Stream(embedded)
    servers = f"--bootstrap_servers={embedded.bootstrap_servers}"
    words = [servers, f"--topics={stream.name}", f"--output={tmp_path}", "--once", "--flush", flag]
    stream.send(sending(None, value=1))
    assert main(words) == 0
    assert capfd.readouterr().err == ""
    stream.send(Sending(b"{"))
    assert main(words) == 0
    (line,) = capfd.readouterr().err.splitlines()
    assert "1 dead letter: not JSON" in line


def test_mistakes_are_objects_too(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Of flags, of a file of flags, of brokers that are away; also where the level is highest."""
    config = tmp_path / "collect.yaml"
    config.write_text("log_format: json\ninterval: soon\n")
    absent = "--bootstrap_servers=127.0.0.1:1"
    for words, count in (
        (["--topics=a", "--log_format=json", "--batch_size=0"], 3),
        ([f"--config={config}", "--topics=a", absent], 2),
        ([f"--config={tmp_path}/not-there", "--log_format=json"], 1),
        (["--topics=a", absent, f"--output={tmp_path}", "--log_format=json"], 1),
    ):
        assert main([*words, "--log_level=error"]) == 2
        found = objects(capfd.readouterr().err)
        assert {(each["event"], each["level"]) for each in found} == {("error", "error")}
        assert len(found) == count


def test_the_flags_themselves_may_be_wrong(capsys: pytest.CaptureFixture[str]) -> None:
    """They are told with all others."""
    assert main(["--topics=a", "--log_format=yaml", "--log_level=inf", "--quiet"]) == 2
    said = capsys.readouterr().err
    assert "error: unknown --log_format=yaml; use one of: text, json\n" in said
    assert "error: unknown --log_level=inf; did you mean info?" in said
    assert "error: --quiet goes without --log_level; leave one of both out\n" in said


COMMITTED = CycleCommitted("/data/orders", first_entry(), left=0, took=timedelta(seconds=1))


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (COMMITTED, logging.DEBUG),
        (CycleCommitted("/data/orders", first_entry(), 2, timedelta(0)), logging.INFO),
        (CycleCommitted("/data/o", first_entry(cause="pin"), 2, timedelta(0)), logging.INFO),
        (Away("orders", "no answer", is_of_source=True), logging.WARNING),
        (Back("orders", is_of_source=True), logging.INFO),
        (GivenUp("orders", LogError("damaged")), logging.ERROR),
        (Note("warning: mind this"), logging.WARNING),
        (Note("error: this is wrong"), logging.ERROR),
        (Note("begins"), logging.INFO),
        (Waiting(at("10:30:10"), messages=2), logging.DEBUG),
    ],
)
def test_an_event_is_as_important_as_it_is(event: Event, level: int) -> None:
    """Whatever writes it leaves out the same."""
    assert importance(event) == level


def test_objects_hold_foreign_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    """But nothing that steers a terminal that shows the log."""
    evil = "\x1b[2J\u202e\x9b\nok: all is well"
    log_form.use(as_json=True, level=logging.INFO)
    EventLog()(Away("orders", evil, is_of_source=True))
    say(f"error: {evil}", to=sys.stderr)
    said = capsys.readouterr().err
    assert all(letter == "\n" or letter.isprintable() for letter in said)
    away, error = objects(said)
    assert (away["event"], away["topic"], away["error"]) == ("away", "orders", evil)
    assert (error["event"], error["message"]) == ("error", evil)


def test_what_libraries_log_is_an_object() -> None:
    """With its traceback in it."""
    log_form.use(as_json=True, level=logging.INFO)
    try:
        raise ValueError("no such metric")  # noqa: EM101, TRY003, TRY301 - any
    except ValueError:
        failed = sys.exc_info()
    record = logging.LogRecord("library", logging.WARNING, "", 0, "it %s", ("fails",), failed)
    (found,) = objects(LogLines("%(levelname)s %(message)s").format(record))
    assert (found["event"], found["logger"], found["message"]) == ("log", "library", "it fails")
    assert found["exception"].endswith("ValueError: no such metric")


def test_a_crash_is_an_object() -> None:
    """A defect of ours is found by who collects the log."""
    program = (
        "import sys, threading\n"
        "from pipeline.commands import serve\n"
        "def run(args):\n"
        "    thread = threading.Thread(target=lambda: 1 / 0)\n"
        "    thread.start(), thread.join()\n"
        "    raise RuntimeError('a defect')\n"
        "serve.run = run\n"
        "sys.argv = ['batch-collection', 'serve', 'a', '--log_format=json']\n"
        "from pipeline.__main__ import entry_point\n"
        "entry_point()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    of_thread, found = objects(done.stderr)
    assert (found["level"], found["message"]) == ("critical", "a defect")
    assert "Traceback" in found["exception"]
    assert "ZeroDivisionError" in of_thread["exception"]


def test_a_display_is_chosen_by_the_flags() -> None:
    """Objects need no terminal, and a quiet run moves no line."""
    assert isinstance(open_display(lambda: at("10:30:00")), LineDisplay)
    log_form.use(as_json=True, level=logging.INFO)
    assert isinstance(open_display(lambda: at("10:30:00")), EventLog)


def test_cycles_that_had_nothing_to_do_are_said_where_all_is(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Either as objects or as lines."""
    for as_json in (True, False):
        for level, count in ((logging.INFO, 0), (logging.DEBUG, 1)):
            log_form.use(as_json=as_json, level=level)
            open_display(lambda: at("10:30:00"))(COMMITTED)
            assert len(capsys.readouterr().err.splitlines()) == count
    assert Board(lambda: at("10:30:00")).lines(COMMITTED) == []
