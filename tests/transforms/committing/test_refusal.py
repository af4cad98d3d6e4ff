"""Which cycles are not committed: wrong row times at the beginning, too many dead letters."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.log.entry import CarryFile, Entry, PartitionRead, Source
from tests.builders import first_entry
from tests.tasks import MINUTE, NOON, plan
from transforms.committing.refusal import FEWEST, refusal
from transforms.decoding.row_time import row_times
from transforms.elements.failure import NOTHING, Failure
from transforms.elements.plan import ACKNOWLEDGED, DeadLetterLimit
from transforms.elements.report import Report
from transforms.sources.contract import Remembering

SCHEMA = {"id": "int64", "meta": {"ts": "string"}, "all": ["int64"]}


def before(**changes: Any) -> Entry:
    """Build entry 0 of a collection whose row time is a field's."""
    plain = {
        "row_time": "field:nope",
        "source": Source("kafka", "orders"),
        "reads": (PartitionRead(0, 5, 5),),
    }
    return first_entry(**{**plain, **changes})


def task(
    messages: int, dead: int = 0, untimed: int = 0, reason: str = "why", why: str = "why"
) -> Report:
    """Build what became of a task's messages, one row each if they have any."""
    became = PartitionRead(0, 5, 5, messages, rows=messages - dead, dead_letters=dead)
    return Report(
        plan(),
        0,
        "a",
        reads=(PartitionRead(0, 5, 5 + messages, messages),),
        decoded=(became,),
        untimed=untimed,
        why_untimed=(untimed, why if untimed else ""),
        commonest=(dead, reason),
    )


def refused(*tasks: Report, previous: Entry | None = None, **limit: Any) -> Failure | None:
    """Say what is against a cycle."""
    asked = plan(max_dead_letters=DeadLetterLimit(**limit)) if limit else plan()
    return refusal(asked, previous or before(), tasks, SCHEMA)


def test_the_first_messages_must_have_a_row_time() -> None:
    """The flag, the field, the commonest reason, and what fields there are."""
    found = refused(task(4_000, 4_000, 4_000), task(3, 3, 0, "other"))
    assert found is not None
    assert found.kind == "RowTimeError"
    assert found.text == (
        "--timestamp=field:nope: none of the 4,003 messages of topic=orders has a row time; "
        "nothing was committed; why; their fields are id, meta.ts"
    )


def test_the_reason_is_that_of_messages_without_a_row_time() -> None:
    """Though more of them are no JSON."""
    found = refused(
        task(90, 90, 10, "not JSON", "field nope is missing"), task(9, 9, 0, "not JSON")
    )
    assert found is not None
    assert "nothing was committed; field nope is missing; their fields are" in found.text


def test_a_rule_that_is_kept_is_said_to_be() -> None:
    """Once windows were closed, empty ones, another rule takes another collection."""
    found = refused(task(3, 3, 3), previous=before(cause="interval", boundary=NOON))
    assert found is not None
    assert found.text.endswith(
        "their fields are id, meta.ts; this collection has closed windows by that rule and keeps "
        "it: collect into another --output with another one"
    )


def test_fields_are_told_as_the_flag_takes_them() -> None:
    """Names with dots in quotes where these would lead elsewhere."""
    schema = {
        "meta.ts": "string",
        "o": {"a.b": "int64", "c": "int64", "": "int64"},
        "x.y": {"z": "int64"},
        'q"': "int64",
        "o.c": "int64",
    }
    found = refusal(plan(), before(), [task(1, 1, 1)], schema)
    assert found is not None
    told = found.text.partition("their fields are ")[2].split(", ")
    assert told == ["meta.ts", '"o"."a.b"', '"o"."c"', '"o".""', '"x.y"."z"', '"q"""', "o.c"]

    def value(n: int, names: tuple[str, ...]) -> dict[str, Any]:
        return {names[0]: value(n, names[1:]) if names[1:] else n}

    paths = [("meta.ts",), ("o", "a.b"), ("o", "c"), ("o", ""), ("x.y", "z"), ('q"',), ("o.c",)]
    for n, (text, names) in enumerate(zip(told, paths, strict=True)):
        rows = pa.array([value(n, names)])
        times = row_times(f"field:{text}", "us", timedelta(seconds=1), NOON, pa.nulls(1), rows)
        assert times.to_pylist() == [n]


@pytest.mark.parametrize(
    ("tasks", "previous"),
    [
        ((task(9, 9, 9), task(1)), before()),
        ((task(9, 9, 0),), before()),
        ((task(9, 9, 9),), before(reads=(PartitionRead(0, 0, 5, max_time=NOON),))),
    ],
    ids=["another task has rows", "none came so far", "there were rows before"],
)
def test_dead_letters_alone_are_no_wrong_flag(tasks: tuple[Report, ...], previous: Entry) -> None:
    """As long as one message had a row time, or none was looked for."""
    assert refused(*tasks, previous=previous) is None


@given(
    counts=st.lists(
        st.integers(0, 150).flatmap(lambda n: st.tuples(st.just(n), st.integers(0, n)))
    ),
    percent=st.floats(0, 100),
    most=st.integers(0, 300),
    had=st.integers(0, 300),
)
def test_no_cycle_passes_the_limit(
    counts: list[tuple[int, int]], percent: float, most: int, had: int
) -> None:
    """Of its own messages, from 100 on, or of those of the run."""
    tasks = [task(messages, dead) for messages, dead in counts]
    messages, dead = (sum(each) for each in zip(*counts, strict=True)) if counts else (0, 0)
    is_many = messages >= FEWEST and dead > 0 and dead / messages * 100 > percent
    if abs(dead * 100 - percent * messages) > 1e-6:
        assert (refused(*tasks, percent=percent) is not None) == is_many
    is_more = dead > 0 and had + dead > most
    assert (refused(*tasks, most=most, before=had) is not None) == is_more


@pytest.mark.parametrize(
    ("limit", "said"),
    [
        ({"percent": 2.5}, "became dead letters, more than 2.5%"),
        ({"most": 7, "before": 4}, "became dead letters (1,004 of this run), more than 7"),
    ],
)
def test_too_many_dead_letters_are_told_with_the_commonest_reason(
    limit: dict[str, Any], said: str
) -> None:
    """And with the topic, the cycle and the numbers."""
    found = refused(task(19_000, 900, reason="not\nJSON"), task(1_000, 100), **limit)
    assert found is not None
    assert found.kind == "DeadLettersError"
    assert found.text.replace("--max_dead_letters=", "") == (
        f"1,000 of 20,000 messages of topic=orders, cycle=1, {said}; nothing of it was committed; "
        "most often: not JSON"
    )


def test_an_entry_that_would_say_nothing_is_not_made() -> None:
    """Pulls may bring nothing; but a boundary, offset, batch, carry or repeat is something."""
    still = plan(boundary=NOON, previous_boundary=NOON, remembering=Remembering())
    nothing, lost = task(0), replace(task(0), reads=(PartitionRead(0, 5, 6, lost=1),))
    waiting = CarryFile("carry/x", NOON, 1, 0, 1, "crc")
    assert refusal(still, before(), [nothing, nothing], SCHEMA) == Failure(NOTHING, "nothing came")
    again = replace(nothing, repeated=1)
    for something in (task(1), lost, again, replace(nothing, taken=(waiting,))):
        assert refusal(still, before(), [nothing, something], SCHEMA) is None
    told = replace(nothing, acknowledged=("ids/x",))
    assert refusal(still, before(), [told], SCHEMA) is not None
    assert refusal(replace(still, cause=ACKNOWLEDGED), before(), [nothing, told], SCHEMA) is None
    assert refusal(replace(still, cause=ACKNOWLEDGED), before(), [nothing], SCHEMA) is not None
    assert refusal(replace(still, boundary=NOON + MINUTE), before(), [nothing], SCHEMA) is None
    assert refusal(replace(still, remembering=None), before(), [nothing], SCHEMA) is None
