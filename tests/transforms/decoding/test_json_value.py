"""Values without a type, and numbers: what their columns say of them."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_collection.log.entry import CarryFile, DeadLetterFile, Entry
from tests.decoding import (
    MINUTE,
    NOW,
    chunk,
    decoded,
    errors,
    expected,
    offsets,
    rows,
    shown,
)
from tests.tasks import NOON
from tests.transforms.committing.test_settle import entry, plan
from transforms.committing.settle import settle
from transforms.decoding import json_rows
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.decode import Decoded, decode
from transforms.decoding.rules import RowRules
from transforms.elements.failure import Failure
from transforms.elements.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transforms.elements.plan import Plan

    Split = list[list[list[bytes]]]  # messages, chunk by chunk, task by task

EMPTY = [b"null", b"{}", b"[]", b"[null]", b"[null,null]", b"[[]]", b'{"x":[]}', b'{"x":{}}']
TYPED = [b"1.5", b'"s"', b"[1.5]", b"[[1.5]]", b'{"x":1.5}', b'{"x":[1.5]}', b'[{"x":true}]']


@pytest.mark.parametrize("value", TYPED)
@pytest.mark.parametrize("empty", EMPTY)
def test_what_has_no_type_fits_every_column(empty: bytes, value: bytes) -> None:
    """It is kept where the column is made of the same, null where not, before and after a type."""
    for count in (1, 63, 64, 200):
        values = [*[b'{"k":1,"c":%s}' % empty] * count, b'{"k":1,"c":%s}' % value]

        for order in (values, values[::-1]):
            done = decoded(*order)

            assert (errors(done), done.rows.num_rows) == ({}, count + 1)
            assert rows(done) == [
                row for each in order for row in expected(each, done.schema) or ()
            ]


def test_a_message_is_read_as_it_was_written_beside_what_has_no_type() -> None:
    """Numbers keep their digits, text its characters, whatever is put in the place of ``[]``."""
    pinned = {"i": "int64", "f": "float", "u": "uint64", "s": "string", "d": "double"}
    rest = '"f":0.10000000149011612,"u":18446744073709551615,"s":"\\u00e4\\n\\"ß😀","d":-0.0'

    done = decoded(*(f'{{"i":{i},{rest}}}'.encode() for i in ("[]", "{}", "null")), pinned=pinned)

    assert rows(done) == [json.loads(f'{{"i":null,{rest}}}')] * 3
    assert [str(row["d"]) for row in rows(done)] == ["-0.0"] * 3


def untyped_places(*values: bytes) -> dict[str, Any]:
    """Return where rows of messages say null for want of a type."""
    return decoded(*values).untyped


def test_it_is_told_where_rows_are_null_for_want_of_a_type() -> None:
    """So that a cycle whose later messages give it a type is planned again; nulls don't count."""
    assert untyped_places(b'{"a":1,"b":null,"c":[[]],"d":{"e":{}}}') == {"c": "empty", "d": "empty"}
    assert untyped_places(b'{"d":{"e":1}}', b'{"d":{"f":[null]}}') == {"d": {"f": "empty"}}
    assert untyped_places(b'{"l":[{"a":1},{"b":{}},{"c":[]},{"e":null}]}') == {
        "l": [{"b": "empty", "c": "empty"}]
    }


# However messages are cut into chunks and tasks, they make what they say under the final types.

NOTHING = st.recursive(
    st.none(),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=3,
)
SOMETHING = st.recursive(
    st.sampled_from([1, 1.5, "s", True]) | NOTHING,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("xy"), inner),
    max_leaves=4,
)
ROWS = st.dictionaries(st.sampled_from("cd"), NOTHING | SOMETHING)
MESSAGES = (ROWS | st.lists(ROWS, max_size=3)).map(lambda value: json.dumps(value).encode())
SPLITS = st.lists(
    st.lists(st.lists(MESSAGES, min_size=1, max_size=6), max_size=3), min_size=1, max_size=3
)


def decoded_task(chunks: Sequence[list[bytes]], pinned: dict[str, Any]) -> Iterator[Decoded]:
    """Decode the chunks of a task one after the other."""
    known = pinned
    for values in chunks:
        done = decode(chunk(*values), Columns(pinned, known), RowRules(), NOW, MINUTE)
        known = done.schema
        yield done


def reported(asked: Plan, number: int, task: Sequence[Decoded]) -> list[Report]:
    """Report on a task all of whose rows wait."""
    nothing = Report(asked, number, "a", read=True, cut=True, schema=asked.schema)
    return [
        nothing,
        *(
            replace(
                nothing,
                reads=done.counts,
                decoded=done.counts,
                carried=(CarryFile("", NOON, done.rows.num_rows, 0, 0, "", indexed=False),),
                dead_letters=(DeadLetterFile("", "", done.dead_letters.num_rows, 0, ""),),
                schema=done.schema,
                untyped=done.untyped,
            )
            for done in task
        ),
    ]


def collected(split: Split) -> tuple[dict[str, Any], list[list[Decoded]]]:
    """Plan, decode and settle until an entry comes of it: its schema, and what each chunk made."""
    pinned: dict[str, Any] = {}
    for _ in range(20):
        asked = plan(len(split), schema=pinned)
        try:
            tasks = [list(decoded_task(chunks, pinned)) for chunks in split]
        except SchemaChange as change:
            pinned = change.schema
            continue
        reports = [r for number, task in enumerate(tasks) for r in reported(asked, number, task)]
        found = settle(asked, entry(schema={}), "f" * 64, reports, NOON)
        if isinstance(found, Entry):
            return found.schema, tasks
        assert isinstance(found, Failure)
        assert found.schema is not None
        pinned = found.schema
    message = "it is planned again and again"
    raise AssertionError(message)


@settings(deadline=None)  # machines pause
@given(SPLITS)
@example([[[b'[{"c": 1}, {"c": [1]}]', b'[{"c": [1, [1]]}]', b'[{"c": null}]']]])
def test_it_makes_no_difference_how_what_has_no_type_is_cut_into_chunks_and_tasks(
    split: Split,
) -> None:
    """Each message is the rows that it says under the types of the entry, or a dead letter."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_rows, "_CLOSE_LOOK", 2)
        schema, tasks = collected(split)

    for chunks, task in zip(split, tasks, strict=True):
        for values, done in zip(chunks, task, strict=True):
            wanted = {place: expected(value, schema) for place, value in enumerate(values)}
            assert list(errors(done)) == [place for place, made in wanted.items() if made is None]
            made = [shown(row, schema) for row in rows(done)]
            assert made == [row for of_one in wanted.values() for row in of_one or ()]


# Integers are exact or dead letters; fractions are the nearest value that their column's type has.

INTEGERS = st.builds("{}{}".format, st.sampled_from(["", "-"]), st.integers(0, 10**25)) | st.builds(
    lambda base, more: str(base + more),
    st.sampled_from([2**24, -(2**24), 2**31, 2**53, -(2**53), 2**63, 2**64, 10**22, 10**23]),
    st.integers(-2, 2),
)
FRACTIONS = st.builds(
    "{}{}{}".format,
    INTEGERS,
    st.sampled_from(["", ".0", ".5", ".78", ".000000000000000000001"]),
    st.sampled_from(["e0", "E+2", "e-3", "e15", "e-45", "e300", "e-340", "e400"]),
) | st.builds("{}.{}".format, INTEGERS, st.integers(0, 10**18))
RANGES = {"int32": (-(2**31), 2**31 - 1), "int64": (-(2**63), 2**63 - 1), "uint64": (0, 2**64 - 1)}
FLOATS: dict[str, Any] = {"double": np.float64, "float": np.float32}
PLACES: dict[bytes, tuple[Any, ...]] = {
    b'{"x":%s}': ("x",),
    b'{"n":{"l":[%s]}}': ("n", "l", 0),
    b'[{"m":[[{"y":%s}]]}]': ("m", 0, 0, "y"),
}


def types_of(type_: str) -> dict[str, Any]:
    """Give each place of a number that type."""
    return {"x": type_, "n": {"l": [type_]}, "m": [[{"y": type_}]]}


def exact(text: str) -> Fraction:
    """Return what a JSON number says."""
    digits, _, exponent = text.lower().partition("e")
    return Fraction(digits) * Fraction(10) ** int(exponent or 0)


def is_right(text: str, type_: str, found: float | None) -> bool:
    """Tell whether a number's column rightly says ``found`` of it, or rightly refuses it (None)."""
    said, is_integer = exact(text), not set(text.lower()) & {".", "e"}
    if type_ in RANGES:
        least, most = RANGES[type_]
        fits = is_integer and least <= said <= most and (text != "-0" or least < 0)
        return found == (said if fits else None)
    of = FLOATS[type_]
    largest = Fraction(float(np.finfo(of).max))
    if found is None:
        double = float(said) if abs(said) < 2**1024 else math.inf
        rounded = abs(double) > largest or Fraction(float(of(double))) != said
        is_odd = not said and "e400" in text  # Arrow takes a zero that is written so for too large
        return is_odd or abs(said) > largest or (is_integer and rounded)
    beside = (np.nextafter(of(found), of(side * np.inf)) for side in (-1, 1))
    gap = abs(Fraction(found) - said)
    is_nearest = all(gap <= abs(Fraction(float(b)) - said) for b in beside if np.isfinite(b))
    return is_nearest and (gap == 0 or not is_integer)


@settings(deadline=None)  # machines pause
@given(
    st.lists(INTEGERS | FRACTIONS, min_size=1, max_size=8),
    st.sampled_from([*RANGES, *FLOATS]),
    st.sampled_from(sorted(PLACES)),
    st.sampled_from([[], [b"{"]]),
)
def test_integers_are_exact_and_fractions_the_nearest_value(
    texts: list[str], type_: str, template: bytes, bad: list[bytes]
) -> None:
    """Wherever they stand, and whether their chunk was looked at closely or parsed at once."""
    values = [template % text.encode() for text in texts]
    place = PLACES[template]

    done = decoded(*bad, *values, b"{}", pinned=types_of(type_))

    made = dict(zip(offsets(done), rows(done), strict=True))
    for number, text in enumerate(texts, len(bad)):
        found: Any = made.get(number)
        for step in place if number in made else ():
            found = found[step]
        assert is_right(text, type_, found), (text, type_, found)
        assert (number in errors(done)) == (number not in made)
