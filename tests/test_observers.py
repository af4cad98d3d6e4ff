"""The suite that every observer passes; and what a run tells them."""

from __future__ import annotations

import io
import logging
from collections import Counter
from dataclasses import replace
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, get_args

import pytest
from rich.console import Console

from batch_collection.errors import LogError
from batch_collection.log.entry import Source
from batch_collection.windows import utc_now
from pipeline.commands.demo import _WindowLines
from pipeline.running import plan_cycle
from pipeline.running.waiting import Heard
from pipeline.serving.health import Health
from pipeline.serving.run import Watched
from pipeline.showing.board import Board
from pipeline.showing.display import LineDisplay, TerminalDisplay
from pipeline.showing.event_log import EventLog
from tests.builders import at, first_entry
from tests.collecting import Collecting, Recorder, Sending, Stream, entries_of, sending
from transforms.elements import observers
from transforms.elements.observers import tell
from transforms.process.events import (
    Away,
    Back,
    CycleBegan,
    CycleCommitted,
    Event,
    FileStaged,
    Finished,
    GivenUp,
    MessagesRead,
    Note,
    PanesSkipped,
    RowsDecoded,
    Spent,
    Waiting,
)
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transforms.process.events import Observer
    from transforms.sources.kafka.embedded import EmbeddedBroker


def _same(observer: Observer) -> Observer:
    return observer


PATH = "projects/p/subscriptions/s"
ENTRY = first_entry()
EVENTS: tuple[Event, ...] = (
    CycleBegan(("orders",), messages=4, left=2),
    MessagesRead("/data/orders", 4),
    RowsDecoded("/data/orders", rows=3, dead_letters=1, undated=1),
    Spent("read", 12),
    FileStaged("/data/orders", rows=3, bytes=200, is_late=True),
    PanesSkipped("/data/orders", panes=2),
    CycleCommitted("/data/orders", ENTRY, left=2, took=timedelta(seconds=1)),
    CycleCommitted("/data/orders", first_entry(cause="pin"), left=2, took=timedelta(seconds=1)),
    Waiting(at("10:30:10"), messages=2),
    Away("orders", "no answer", is_of_source=True),
    Away("orders", "no space left", is_of_source=False),
    Back("orders", is_of_source=True),
    Back("orders", is_of_source=False),
    GivenUp("orders", LogError("damaged")),
    GivenUp("orders", LogError("damaged"), is_last=True),
    Finished("orders"),
    Note("warning: [mind] this\N{ZERO WIDTH SPACE}"),
)
OBSERVERS: dict[str, Callable[[], Observer]] = {
    **{f"each {n}": partial(_same, each) for n, each in enumerate(observers.OBSERVERS)},
    "objects": EventLog,
    "lines": lambda: LineDisplay(Board(utc_now), io.StringIO()),
    "terminal": lambda: TerminalDisplay(Board(utc_now)),
    "demo": lambda: _WindowLines(Console(file=io.StringIO()), 3),
    "served": lambda: Watched(timedelta(seconds=60)),
    "engine": lambda: Heard(topics=1),
    "engine's log": lambda: plan_cycle._log,  # noqa: SLF001
    "tests": Recorder,
}
"""Those of each process, and those of a run, each new for a test."""


def test_the_suite_has_every_event() -> None:
    """A new class of events is one that all observers are tried with."""
    assert {type(event) for event in EVENTS} == set(get_args(Event))


@pytest.mark.parametrize("name", OBSERVERS)
@pytest.mark.parametrize("order", [1, -1])
def test_an_observer_takes_every_event(name: str, order: int) -> None:
    """In any order, as workers of a job tell only some; nothing is raised."""
    observer = OBSERVERS[name]()

    for event in EVENTS[::order]:
        observer(event)


def of_subscription(event: Event) -> Event:
    """Return an event as a collector of a subscription tells it."""
    match event:
        case CycleBegan():
            return replace(event, topics=(PATH,))
        case Away() | Back():
            return replace(event, topic=PATH, stream="subscription")
        case GivenUp():
            return replace(event, topic=PATH)
        case CycleCommitted():
            return replace(event, entry=replace(event.entry, source=Source("pubsub", PATH)))
    return event


@pytest.mark.parametrize("event", [*map(of_subscription, EVENTS)])
def test_no_line_calls_a_subscription_a_topic(event: Event) -> None:
    """Wherever it is written: here, by a job, or over HTTP."""
    board, health = Board(utc_now, verbose=True), Health(60)
    health.started()
    health(event)
    lines = [part.text for line in board.lines(event) for part in line]
    lines += [plan_cycle.line_of(event, verbose=True) or "", *health.reasons()]
    lines += [trouble.text for trouble in health.troubles]
    assert not any("topic" in line for line in lines)
    if isinstance(event, Back):
        assert any(f"subscription={PATH}" in line for line in lines)


def test_an_observer_that_raises_keeps_nobody_else_from_hearing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """It is said once; it is told on."""
    heard, failed = list[Event](), list[Event]()

    def fail(event: Event) -> None:
        failed.append(event)
        message = "no such metric"
        raise ValueError(message)

    current().observers += [fail, heard.append]
    for event in EVENTS:
        tell(event)

    assert heard == failed == list(EVENTS)
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().endswith("raises; collecting goes on")
    assert record.exc_info is not None
    assert str(record.exc_info[1]) == "no such metric"


def test_an_observer_of_each_process_hears_all_of_a_run(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is registered by a line in ``OBSERVERS``; what is told adds up to what the log has."""
    events: list[Event] = []
    monkeypatch.setattr(observers, "OBSERVERS", (*observers.OBSERVERS, events.append))
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    rows = [sending(at("10:30:01"), n % 4, id=n) for n in range(8)]
    stream.send(*rows, Sending(b"{", at("10:30:01")))
    collecting.run(at("10:30:02"), at("10:30:13"), lambda _: None)

    entries = entries_of(collecting.path)[1:]
    files = [file for entry in entries for file in entry.files]
    totals = Counter[str]()
    for event in events:
        match event:
            case CycleBegan():
                totals["planned"] += event.messages
            case MessagesRead():
                totals["messages"] += event.messages
            case RowsDecoded():
                totals["rows"] += event.rows
                totals["dead letters"] += event.dead_letters
            case FileStaged():
                totals["files"] += 1
                totals["bytes"] += event.bytes
    assert totals == {
        "planned": 9,
        "messages": 9,
        "rows": 8,
        "dead letters": 1,
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
    }
    assert [each.entry for each in events if isinstance(each, CycleCommitted)] == entries
    assert {each.collection for each in events if isinstance(each, FileStaged)} == {
        str(collecting.path)
    }
    assert any(isinstance(event, Waiting) for event in events)
    assert {event.doing for event in events if isinstance(event, Spent)} == {"read", "write"}
