"""A set of names that keeps their hashes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batch_collection.inspection.known_names import KnownNames

NAMES = st.lists(st.text(max_size=5))


@given(NAMES, NAMES)
def test_names_that_were_not_taken_in_are_unknown(taken: list[str], asked: list[str]) -> None:
    """And no others, each as often as it is asked for."""
    known = KnownNames()
    for name in taken:
        known.add(name)

    assert list(known.unknown(asked)) == [name for name in asked if name not in taken]


def test_many_names_are_looked_up() -> None:
    """More than at once, in their order."""
    known = KnownNames()
    for number in range(25_000):
        known.add(f"data/{number}")

    names = (f"data/{number}" for number in range(24_990, 25_010))
    assert list(known.unknown(names)) == [f"data/{number}" for number in range(25_000, 25_010)]
    assert list(known.unknown(f"data/{number}" for number in range(25_000))) == []
