"""How many there are, as people read it."""

from __future__ import annotations

import pytest

from batch_collection.counted import counted


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0 rows"), (1, "1 row"), (2, "2 rows"), (1_234_567, "1,234,567 rows")]
)
def test_one_is_one_and_all_else_are_more(number: int, text: str) -> None:
    """Thousands are told apart."""
    assert counted(number, "row") == text


def test_a_name_has_a_plural_of_its_own() -> None:
    """As English has it."""
    assert [counted(number, "batch") for number in (1, 2)] == ["1 batch", "2 batches"]
