"""Reasons of dead letters: counted by what they have in common."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

import pytest

from batch_collection.checkpoints.dead_letters import commonest_reason, grouped, reason_kind
from tests.builders import Collector, dead_letter
from tests.decoding import decoded, errors

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage


def test_the_commonest_reason_is_read_from_the_files(storage: Storage) -> None:
    """One that differs from others in values alone is their example; no file, no reason."""
    collector = Collector(storage)
    entry = collector.collect(
        *(
            dead_letter(offset, f"column id can't hold {offset}; give a type")
            for offset in range(3)
        ),
        *(dead_letter(offset, "not JSON") for offset in (3, 4)),
    )
    assert commonest_reason(storage, entry.dead_letters) == "column id can't hold 0; give a type"
    assert commonest_reason(storage, ()) == ""

    storage.delete([file.path for file in entry.dead_letters])
    storage.delete([file.staged for file in entry.dead_letters])
    assert commonest_reason(storage, entry.dead_letters) == ""


def test_reasons_that_differ_in_values_are_one_with_an_example() -> None:
    """Thousands of bad ids are one line; another column, type or cure is another one."""
    bad = [b'{"id":"x; send %d"}' % number for number in range(50)]
    bad += [b'{"id":"%s"}' % (b"y" * number) for number in (100, 200)]
    other = [b'{"id":1.5}', b'{"id":2.25}', b'{"k2":"x"}', b'{"id":[1]}']
    reasons = errors(decoded(*bad, *other, pinned={"id": "int64", "k2": "int64"}))
    assert len(set(reasons.values())) == len(bad) - 1 + len(other)  # long ones are shortened
    found = grouped(Counter(reasons.values()))
    assert sorted(found.values()) == [1, 1, 2, 52]
    ((example, count),) = found.most_common(1)
    assert count == 52
    assert example in reasons.values()


def test_where_a_message_is_wrong_makes_no_other_reason() -> None:
    """Nor does what it says there."""
    reasons = errors(decoded(b'{"a":}', b'{"abc":}', b"\xc0", b"  \xc0", b'{"a":1,"a":2}'))
    assert len(set(reasons.values())) == 5
    assert sorted(grouped(Counter(reasons.values())).values()) == [1, 2, 2]
    times = errors(decoded(b'{"t":"then"}', b'{"t":"at 5; send"}', row_time="field:t"))
    assert list(grouped(Counter(times.values())).values()) == [2]


@pytest.mark.parametrize(
    "reason", ["column int64 is int64", "names 'k1' and 'K1' differ by case alone", "field h2o.x"]
)
def test_names_and_types_stay(reason: str) -> None:
    """Though they have digits."""
    assert reason_kind(reason) == reason
