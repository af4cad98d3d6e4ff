"""Names of fields: an exact column first, then dots; quotes keep dots."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.field_path import quoted_path, split_path


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("value", ("value",)),
        ("place.x", ("place", "x")),
        ('"meta.ts"', ("meta.ts",)),
        ('"meta.ts".x', ("meta.ts", "x")),
        ('place."a.b".x', ("place", "a.b", "x")),
        ('"say ""hi"".x"', ('say "hi".x',)),
        ('inch"es.x', ('inch"es', "x")),
        ("a..b", ("a", "", "b")),
        ('""', ("",)),
        ("", ("",)),
        ('"line\n.x"', ("line\n.x",)),
    ],
)
def test_dots_lead_into_structs_and_quotes_keep_them(text: str, names: tuple[str, ...]) -> None:
    """What is quoted is one name; a quote within it is written twice."""
    assert split_path(text, set().__contains__) == names


@pytest.mark.parametrize("text", ["a.b", '"a.b"', '"a', 'a."b'])
def test_a_column_of_exactly_that_name_comes_first(text: str) -> None:
    """A key with dots, or with quotes, needs no quoting where nothing else is meant."""
    assert split_path(text, {text}.__contains__) == (text,)


@pytest.mark.parametrize("text", ['"a', '"a"\n', 'x."a.b', '"a"b', '"a".b."', '"""'])
def test_a_quote_that_is_not_closed_is_refused(text: str) -> None:
    """It is told which name it is, and how quotes are written."""
    with pytest.raises(CollectionError, match=re.escape(f"cannot read the field name {text!r}")):
        split_path(text, set().__contains__)


@given(st.lists(st.text(), min_size=1))
def test_any_names_can_be_quoted(names: list[str]) -> None:
    """Whatever a key is, there is a way to write it."""
    assert split_path(quoted_path(names), set().__contains__) == tuple(names)
