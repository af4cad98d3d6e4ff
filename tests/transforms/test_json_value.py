"""What has no type: objects and arrays that hold nothing but nulls and each other."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.entry import CarryFile, DeadLetterFile, Entry
from tests.decoding import NOW, chunk, decoded, errors, expected, rows, shown
from tests.transforms.test_settle import NOON, entry, plan
from transforms import json_rows
from transforms.decode import Decoded, RowRules, SchemaChange, decode
from transforms.report import Failure, Report
from transforms.settle import settle

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from transforms.plan import Plan

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
MESSAGES = st.dictionaries(st.sampled_from("cd"), NOTHING | SOMETHING).map(
    lambda value: json.dumps(value).encode()
)
SPLITS = st.lists(
    st.lists(st.lists(MESSAGES, min_size=1, max_size=6), max_size=3), min_size=1, max_size=3
)


def decoded_task(chunks: Sequence[list[bytes]], pinned: dict[str, Any]) -> Iterator[Decoded]:
    """Decode the chunks of a task one after the other."""
    known = pinned
    for values in chunks:
        done = decode(chunk(*values), pinned, known, RowRules(), NOW)
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
