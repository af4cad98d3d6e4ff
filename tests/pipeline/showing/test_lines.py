"""Lines for people: what they quote stays within them."""

from __future__ import annotations

import io
import logging
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError, SourceError, printable
from pipeline.showing.lines import LogLines, say, shown
from pipeline.showing.wording import aligned


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Größe 温度 €", "Größe 温度 €"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nok: b\tc", "a\\r\\nok: b\\tc"),
        ("\x00\x7f\x9b", "\\x00\\x7f\\x9b"),
        ("\u202etxt\u2066\u200f", "\\u202etxt\\u2066\\u200f"),
        ("\u2028\u2029\udc80", "\\u2028\\u2029\\udc80"),
        ("\U000e0041", "\\U000e0041"),
        ("C:\\new", "C:\\new"),
    ],
)
def test_what_is_not_printable_is_written_as_python_writes_it(text: str, expected: str) -> None:
    """Lines, terminals and the direction of writing are ours."""
    assert printable(text) == expected


@given(st.text())
def test_printable_text_is_one_line_and_stays_as_it_is(text: str) -> None:
    """So it may be asked for by everybody through whose hands a text goes."""
    found = printable(text)

    assert found.isprintable()
    assert printable(found) == found


def test_an_error_is_one_line_for_each_mistake() -> None:
    """Whatever it quotes, also where it comes from another process."""
    error = SourceError("topic=a\nerror: b", "column=\x1b[2J")

    assert error.lines == ("topic=a\\nerror: b", "column=\\x1b[2J")
    assert str(error) == "topic=a\\nerror: b\ncolumn=\\x1b[2J"
    assert pickle.loads(pickle.dumps(error)).lines == error.lines  # noqa: S301 - our own
    assert CollectionError(str(error)).lines == ("topic=a\\nerror: b\\ncolumn=\\x1b[2J",)


def test_lines_are_printed_as_they_are_counted() -> None:
    """A line feed within one is none."""
    stream = io.StringIO()
    say("one\ntwo", "three", to=stream)

    assert stream.getvalue() == "one\\ntwo\nthree\n" == shown("one\ntwo", "three") + "\n"


def test_columns_are_as_wide_as_what_is_shown() -> None:
    """Two characters may be six."""
    rows = [("a\x1b", "1"), ("bb", "2")]

    assert aligned(rows, "<") == ["  a\\x1b  1", "  bb     2"]
    assert aligned(rows) == ["  a\\x1b  1", "     bb  2"]


def test_what_libraries_log_keeps_its_lines_and_nothing_else() -> None:
    """A traceback is several; a terminal is steered by none."""
    record = logging.LogRecord("x", logging.WARNING, "", 0, "one\n\x1b[2J%s", ("\x7f",), None)

    assert LogLines("%(levelname)s %(message)s").format(record) == "WARNING one\n\\x1b[2J\\x7f"
