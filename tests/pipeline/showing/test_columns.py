"""Cells under each other, and texts within the room that there is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.showing.columns import (
    Column,
    Columns,
    Part,
    cut,
    flowed,
    shortened,
    width_of,
    wrapped,
)

LETTERS = st.text(st.sampled_from("ab-é温🙂 "), max_size=60)
WORDS = st.text(st.sampled_from("ab温 "), max_size=120).map(str.strip)


@pytest.mark.parametrize(
    ("text", "width", "expected"),
    [
        ("sensor", 6, "sensor"),
        ("payments.europe-west.v2", 15, "paymen...est.v2"),
        ("温度温度温度温度", 10, "温度...度"),
        ("sensor", 4, "sens"),
        ("sensor", 0, ""),
    ],
)
def test_what_has_no_room_is_left_out_of_the_middle(text: str, width: int, expected: str) -> None:
    """The end of a name tells as much as its begin; letters of East Asia take two columns."""
    assert shortened(text, width) == expected


@given(LETTERS, st.integers(0, 60))
def test_a_shortened_text_has_room(text: str, width: int) -> None:
    """And is the text itself if that has, whether its middle or its end is left out."""
    for found in (shortened(text, width), cut(text, width)):
        assert width_of(found) <= width
        assert width_of(text) > width or found == text


def test_of_sentences_the_end_is_left_out() -> None:
    """They begin with what matters."""
    assert cut("not JSON: Expecting value", 12) == "not JSON:..."
    assert cut("not JSON", 2) == "no"


@given(st.lists(st.builds(Part, LETTERS, is_whole=st.booleans()), max_size=6), st.integers(8, 80))
def test_parts_flow_within_their_room(parts: list[Part], room: int) -> None:
    """In their order, each of them there; only what is to be copied may need more, then alone."""
    lines = list(flowed(parts, room))
    found = [part for line in lines for part in line[::2]]
    assert [cut(part.text, room) for part in parts if not part.is_whole] == [
        part.text for part in found if not part.is_whole
    ]
    assert [p for p in parts if p.is_whole] == [p for p in found if p.is_whole]
    for line in lines:
        is_alone = len(line) == 1 and line[0].is_whole
        assert is_alone or sum(width_of(part.text) for part in line) <= room


@given(WORDS, st.integers(1, 40), st.integers(1, 40))
def test_words_are_broken_at_spaces_only(text: str, first: int, room: int) -> None:
    """Nothing is lost, and a line is longer than its room only where a single word is."""
    lines = wrapped(text, first, room)
    assert " ".join(lines).split() == text.split()
    for number, line in enumerate(lines):
        assert width_of(line) <= (room if number else first) or " " not in line.strip()


COLUMNS = {
    "time": Column("<", 8, 1),
    "topic": Column("<", 1),
    "rows": Column(">", 8),
    "took": Column(">", 5, 2),
}
CELLS = st.fixed_dictionaries(
    {"time": st.just("10:30:00"), "topic": st.text("ab", min_size=1, max_size=50)},
    optional={
        "rows": st.integers(0, 10**9).map(lambda n: f"{n:,} rows"),
        "took": st.integers(0, 10**5).map(lambda n: f"{n} s"),
    },
)


@given(st.lists(CELLS, min_size=1, max_size=5), st.integers(1, 200))
def test_a_line_has_room_whatever_came_before(rows: list[dict[str, str]], room: int) -> None:
    """However wide the cells are, and however narrow a terminal."""
    columns = Columns(COLUMNS, "topic")
    assert all(width_of(columns.line(cells, room)) <= room for cells in rows)


@given(st.lists(CELLS, min_size=1, max_size=5), st.none() | st.integers(40, 200))
def test_cells_of_a_column_stay_under_each_other(
    rows: list[dict[str, str]], room: int | None
) -> None:
    """Once it is known how wide they get."""
    columns = Columns(COLUMNS, "topic")
    for cells in rows:
        columns.widen(cells)
    ends = {line.index(" rows") for cells in rows if " rows" in (line := columns.line(cells, room))}
    assert len(ends) <= 1
    begins = {
        line.index(cells["topic"][0], 0) for cells in rows if (line := columns.line(cells, room))
    }
    assert len(begins) == 1


def test_the_least_needed_column_has_no_room_first() -> None:
    """Names are shortened to a third of the room before one is left out."""
    columns = Columns(COLUMNS, "topic")
    cells = {"time": "10:30:00", "topic": "t" * 30, "rows": "12 rows", "took": "0.3 s"}
    assert columns.line(cells, None) == f"10:30:00  {'t' * 30}   12 rows  0.3 s"
    assert columns.line(cells, 48) == f"10:30:00  {'t' * 7}...{'t' * 6}   12 rows  0.3 s"
    assert columns.line(cells, 36) == "10:30:00  ttttt...tttt   12 rows"
    assert columns.line(cells, 24) == "ttt...tt   12 rows"
