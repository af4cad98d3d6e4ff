"""Sets of ids: none is lost, none is made up, whatever they look like."""

from __future__ import annotations

import random
import time

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from transforms.sources.pubsub.ids import IdSet

MANY = 100_000
ODD = [
    *("", "0", "00", "01", "-1", "+1", " 1", "1 ", "1\n", "1.0", "1e3", "\u0661", "a", "é"),
    *(str(2**63), str(2**64 - 1), str(2**64), "9" * 19, "9" * 20, "9" * 40, "0" * 19, "m1"),
]
"""What is no plain decimal, or nearly one."""
IDS = st.one_of(
    st.sampled_from(ODD),
    st.integers(0, 50).map(str),
    st.integers(0, 2**64).map(str),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=5),
)


def strings(ids: list[str]) -> pa.Array:
    """Return ids as a column."""
    return pa.array(ids, pa.string())


def of(ids: list[str]) -> IdSet:
    """Return a set of ids."""
    return IdSet.of(strings(ids))


def as_google_gives_them(count: int, seed: int = 0) -> list[str]:
    """Return ids of 17 digits, as the service's are."""
    return [str(each) for each in random.Random(seed).sample(range(10**16, 2 * 10**16), count)]


@given(st.lists(IDS), st.lists(IDS))
def test_a_set_has_what_was_put_in_and_nothing_else(ids: list[str], asked: list[str]) -> None:
    """Each once, by its text: ``01`` is not ``1``."""
    found = of(ids)
    assert sorted(found.strings().to_pylist()) == sorted(set(ids))
    assert len(found) == len(set(ids))
    mask = found.contains(strings(asked))
    assert mask.tolist() == [each in set(ids) for each in asked]


@given(st.lists(IDS), st.dictionaries(st.text(max_size=3), st.text(max_size=3)))
def test_a_file_gives_the_set_and_its_notes(ids: list[str], notes: dict[str, str]) -> None:
    """Sorted: two with the same ids are the same file."""
    found, noted = IdSet.from_parquet(of(ids).to_parquet(notes))
    assert found.strings() == of(ids).strings()
    assert noted == notes
    assert of(ids[::-1]).to_parquet(notes) == of(ids).to_parquet(notes)


@given(st.lists(st.lists(IDS)))
def test_a_union_has_the_ids_of_all(lists: list[list[str]]) -> None:
    """Each once, sorted."""
    union = IdSet.union(of(each) for each in lists)
    assert union.strings() == of([each for every in lists for each in every]).strings()


@given(st.lists(st.lists(IDS)), st.lists(IDS))
def test_a_union_tells_what_any_of_them_has(lists: list[list[str]], asked: list[str]) -> None:
    """Of ids of all kinds, asked for in whatever order."""
    union = IdSet.union(of(each) for each in lists)
    known = {each for every in lists for each in every}
    assert union.contains(strings(asked)).tolist() == [each in known for each in asked]


def test_numbers_and_texts_are_told_apart() -> None:
    """Only what has one text is a number."""
    found = of(ODD)
    assert found.numbers.tolist() == [0, 2**63, 9_999_999_999_999_999_999]
    assert len(found.texts) == len(ODD) - 3


def test_a_message_takes_few_bytes_in_a_file() -> None:
    """Of ids as the service gives them five; of an emulator's, in a row, next to none."""
    content = of(as_google_gives_them(MANY)).to_parquet()
    assert len(content) / MANY < 5.2
    in_a_row = of([str(10**16 + n) for n in range(MANY)]).to_parquet()
    assert len(in_a_row) / MANY < 0.1


def test_looking_up_is_quick() -> None:
    """A hundred thousand among three million, merged from 120 lists."""
    every = np.random.default_rng(0).permutation(np.arange(3_000_000, dtype=np.uint64))
    parts = (IdSet(np.sort(part), pa.array([], pa.string())) for part in np.split(every, 120))
    merged = IdSet.union(parts)
    asked = strings([str(n) for n in every[:MANY]])
    begin = time.perf_counter()
    assert merged.contains(asked).all()
    assert time.perf_counter() - begin < 1.0  # 0.1 s on a quiet machine
