"""From events to lines: what is said of a run, in whatever room."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import LogError
from batch_collection.log.entry import (
    BatchFile,
    CarryFile,
    DeadLetterFile,
    Pane,
    PartitionRead,
    Source,
)
from pipeline.showing.board import Board, said
from pipeline.showing.columns import width_of
from tests.builders import at, first_entry
from transforms.process.events import Away, Back, CycleCommitted, GivenUp, Note

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.showing.board import Line
    from transforms.process.events import Event

REASON = 'column id is int64 and can\'t hold "x"; give it type string: `batch-collection ...`'
COMMAND = "batch-collection dead-letters /data/orders"
MINUTE = timedelta(minutes=1)


def cycle(  # noqa: PLR0913 - each is one thing that a line says
    number: int = 1,
    *,
    topic: str = "orders",
    messages: int = 20,
    rows: int = 10,
    waiting: int = 10,
    dead: int = 0,
    lost: int = 0,
    left: int = 0,
    timing: str = "on_time",
    reason: str = "",
    **changes: Any,
) -> CycleCommitted:
    """Build the commit of a cycle."""
    file = BatchFile("data/x", "", rows, 1, "", at("10:29:30"), at("10:29:40"), {})
    pane = Pane(at("10:29:00"), at("10:30:00"), timing, rows, (file,))
    entry = replace(
        first_entry(cycle=number, cause="interval", source=Source("kafka", topic)),
        committed_at=at("10:30:02"),
        reads=(PartitionRead(0, 0, messages, messages=messages, dead_letters=dead, lost=lost),),
        panes=(pane,) if rows else (),
        carry=(CarryFile("carry/x", at("10:30:00"), waiting, 0, 1, ""),) if waiting else (),
        dead_letters=(DeadLetterFile("dead_letters/x", "", dead, 1, ""),) if dead else (),
    )
    took = timedelta(seconds=0.34)
    return CycleCommitted(f"/data/{topic}", replace(entry, **changes), left, took, reason)


IDLE = cycle(messages=0, rows=0, waiting=0)


def board(*topics: str, verbose: bool = False) -> Board:
    """Build one whose clock stands."""
    found = Board(lambda: at("10:30:05"), verbose)
    found.expect(topics)
    return found


def text_of(line: Line) -> str:
    """Return a line without its colours."""
    return "".join(part.text for part in line)


def texts(lines: list[Line]) -> list[str]:
    """Return lines without their colours."""
    return [text_of(line) for line in lines]


def test_a_cycle_is_one_line_where_nobody_counts_columns() -> None:
    """It says its topic, what came, what it became, what waits, and what it has closed."""
    (line,) = board().lines(cycle(7, rows=1, messages=1))
    assert text_of(line) == (
        "10:30:02  orders  cycle 7       1 message        1 row   1 file      10 waiting"
        "  closed to 10:30:00   0.3 s"
    )


def test_columns_stand_under_each_other_across_cycles_and_topics() -> None:
    """Whatever the numbers are, from the first line on."""
    shown = board("orders", "payments.europe")
    lines = [
        *shown.lines(cycle(1, rows=9, messages=0)),
        *shown.lines(cycle(99, topic="payments.europe", rows=90_000, messages=9_999, waiting=0)),
        *shown.total(),
    ]
    for words in (" message", " row", " file", " waiting"):
        assert len({text.index(words) for text in texts(lines)}) == 1


@pytest.mark.parametrize(
    ("room", "expected"),
    [
        (
            120,
            ["time", "topic", "cycle", "messages", "rows", "files", "waiting", "windows", "took"],
        ),
        (99, ["time", "topic", "cycle", "messages", "rows", "files", "waiting", "windows"]),
        (90, ["time", "topic", "messages", "rows", "files", "waiting", "windows"]),
        (59, ["time", "topic", "messages", "rows", "files"]),
        (20, ["topic", "rows"]),
    ],
)
def test_a_narrow_terminal_leaves_out_what_is_least_needed(room: int, expected: list[str]) -> None:
    """Rather than to break lines."""
    cells = {
        "time": "10:30:02",
        "topic": "orders",
        "cycle": "cycle 7",
        "messages": "20 messages",
        "rows": "10 rows",
        "files": "1 file",
        "waiting": "10 waiting",
        "windows": "closed to 10:30:00",
        "took": "0.3 s",
    }
    (line,) = texts(board().lines(cycle(7), room))
    assert re.split(" {2,}", line) == [cells[name] for name in expected]


def test_dead_letters_have_their_reason_and_the_next_command() -> None:
    """In the cycle's line; what to do about the reason is told by the command, at length."""
    (line,) = board().lines(cycle(dead=34, reason=REASON))
    told = 'dead letters: mostly column id is int64 and can\'t hold "x"'
    assert text_of(line).endswith(f"0.3 s  34 {told}  {COMMAND}")
    assert [part.text for part in line if part.is_alarm] == [f"34 {told}"]


def test_one_dead_letter_and_one_of_unknown_reason_are_said_as_such() -> None:
    """Nothing is made up."""
    (line,) = board().lines(cycle(dead=1, reason="not JSON"))
    assert text_of(line).endswith(f"  1 dead letter: not JSON  {COMMAND}")
    (line,) = board().lines(cycle(dead=2))
    assert text_of(line).endswith(f"  2 dead letters  {COMMAND}")


def test_where_the_tail_has_no_room_it_stands_below() -> None:
    """The reason gives way; the command is whole, to be copied."""
    lines = texts(board().lines(cycle(dead=34, reason=REASON), 99))
    assert lines[1:] == [f"          34 dead letters: mostly column id is int64...  {COMMAND}"]
    lines = texts(board().lines(cycle(dead=34, reason=REASON), 59))
    assert lines[1:] == [
        "          34 dead letters: mostly column id is int64 and...",
        "          batch-collection dead-letters /data/orders",
    ]


def test_a_collection_below_is_named_as_it_is_typed_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And quoted as a shell needs it."""
    monkeypatch.chdir(tmp_path)
    event = replace(cycle(dead=2), collection=f"{tmp_path}/my data/orders")
    assert text_of(board().lines(event)[0]).endswith(
        "batch-collection dead-letters 'my data/orders'"
    )
    event = replace(event, collection="gs://bucket/orders")
    assert text_of(board().lines(event)[0]).endswith("dead-letters gs://bucket/orders")


def test_what_few_cycles_have_is_said_of_them() -> None:
    """Late rows and what is left are no alarm, lost messages are."""
    (line,) = board().lines(cycle(rows=2, timing="late", left=5_000, lost=3))
    assert text_of(line).endswith("0.3 s  2 late rows  5,000 behind  3 messages lost")
    assert [part.text for part in line if part.is_alarm] == ["3 messages lost"]


def test_windows_of_another_day_have_their_date() -> None:
    """As those of a backfill."""
    event = cycle(committed_at=at("10:30:02") + timedelta(days=2))
    assert "closed to 2026-11-22 10:30:00" in text_of(board().lines(event)[0])


def test_windows_are_closed_up_to_the_boundary_with_those_that_are_empty() -> None:
    """As ``status`` says: the last one that had rows may be hours ago."""
    line = text_of(board().lines(cycle(boundary=at("10:44:00"), committed_at=at("10:45:02")))[0])
    assert "closed to 10:44:00 " in line


def test_what_flush_wrote_is_not_called_early_nor_closed() -> None:
    """Rows of open windows that ``--flush`` wrote are said to be that."""
    flushed = cycle(timing="early", cause="flush")
    assert "  flushed to 10:30:00  " in text_of(board().lines(flushed)[0])
    early = cycle(timing="early", cause="count")
    assert "flushed" not in text_of(board().lines(early)[0])


def test_a_cycle_that_did_nothing_is_silent_unless_asked_for() -> None:
    """It counts; one with something left, lost or dead has done something."""
    shown = board()
    assert shown.lines(IDLE) == []
    assert texts(shown.total()) == [
        "10:30:05  in all                0 messages       0 rows  0 files      0 waiting"
    ]
    (line,) = board(verbose=True).lines(IDLE)
    assert "0 messages" in text_of(line)
    assert said(IDLE) is None
    assert "0 messages" in (said(IDLE, verbose=True) or "")
    for event in (cycle(messages=0, rows=0, lost=1), replace(IDLE, left=1)):
        assert board().lines(event) != []


def test_a_run_is_summed_up() -> None:
    """Of topics together; not where the only cycle has just said the same, or there was none."""
    shown = board()
    assert shown.total() == []
    shown.lines(cycle(1, dead=2))
    shown.lines(cycle(2, messages=0, rows=0, cause="acknowledged"))
    assert shown.total() == []
    shown.lines(cycle(3, waiting=3, lost=1))
    shown.lines(cycle(1, topic="other", waiting=4))
    (line,) = shown.total()
    assert text_of(line).split("  ")[-2:] == ["2 dead letters", "1 message lost"]
    assert text_of(line).startswith(
        "10:30:05  in all               60 messages      30 rows  3 files      7 waiting"
    )
    assert [part.text for part in line if part.is_alarm] == ["2 dead letters", "1 message lost"]


def test_a_command_behind_which_collecting_goes_on_is_named() -> None:
    """With one time, not two."""
    assert texts(board().lines(cycle(3, cause="pin"))) == [
        "10:30:05  orders  cycle 3  pin by host=test pid=1; collecting goes on after it"
    ]


def test_errors_are_alarms_and_notes_are_not() -> None:
    """Whatever quotes steering characters stays a line."""
    (line,) = board().lines(Note("begins \x1b[2J\n"))
    assert text_of(line) == "10:30:05  begins \\x1b[2J\\n"
    assert not any(part.is_alarm for part in line)
    for event in (
        Note("error: no"),
        Away("orders", "no answer", is_of_source=True),
        GivenUp("orders", LogError("damaged")),
    ):
        (line,) = board().lines(event)
        assert line[1].is_alarm


FOREIGN = st.text(st.sampled_from("ab c-\x1b\n\r\x07温\u202e;'"), max_size=80)
EVENTS = st.one_of(
    st.builds(
        cycle,
        st.integers(1, 10**6),
        topic=FOREIGN.filter(lambda topic: "/" not in topic),
        messages=st.integers(0, 10**9),
        rows=st.integers(0, 10**12),
        waiting=st.integers(0, 10**9),
        dead=st.integers(0, 10**6),
        lost=st.integers(0, 9),
        left=st.integers(0, 10**9),
        timing=st.sampled_from(("early", "on_time", "late")),
        reason=FOREIGN,
        cause=st.sampled_from(("interval", "flush", "pin")),
    ),
    st.builds(Note, FOREIGN),
    st.builds(Away, FOREIGN, FOREIGN, is_of_source=st.booleans()),
    st.builds(Back, FOREIGN, is_of_source=st.booleans()),
)


@given(st.lists(EVENTS, max_size=6), st.none() | st.integers(20, 200))
def test_no_line_is_wider_than_its_room_nor_steers_a_terminal(
    events: list[Event], room: int | None
) -> None:
    """But for one word or command, which is to be copied and stands alone."""
    shown = board()
    lines = [shown.lines(event, room) for event in events] + [shown.total(room)]
    for line in (line for group in lines for line in group):
        text = text_of(line)
        assert text.isprintable()
        is_to_be_copied = any(part.is_whole for part in line) or " " not in text.strip()[10:]
        assert room is None or width_of(text) <= room or is_to_be_copied
    if room is None:
        assert all(len(group) <= 1 for group in lines)
