"""What goes on beside the thread that asks for it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from batch_collection.parallel import Upcoming, outcomes

if TYPE_CHECKING:
    from collections.abc import Generator


class Numbers:
    """A generator of numbers that says how far it is."""

    def __init__(self, end: int, error: Exception | None = None) -> None:
        self.end, self.error = end, error
        self.made = [threading.Event() for _ in range(end)]
        self.is_closed = False

    def __call__(self) -> Generator[int, None, None]:
        """Begin."""
        try:
            for number in range(self.end):
                self.made[number].set()
                yield number
            if self.error is not None:
                raise self.error
        finally:
            self.is_closed = True


def threads() -> list[str]:
    """Return the threads that prefetch just now."""
    return [each.name for each in threading.enumerate() if each.name.startswith("prefetching")]


@pytest.mark.parametrize("end", [0, 1, 2, 100])
def test_elements_come_in_their_order(end: int) -> None:
    """All of them; then nothing is left behind."""
    numbers = Numbers(end)

    assert list(Upcoming(numbers())) == list(range(end))
    assert numbers.is_closed
    assert not threads()


def test_the_next_one_is_made_while_one_is_used_and_no_more() -> None:
    """One ahead: memory is that of one more."""
    numbers = Numbers(3)
    found = iter(Upcoming(numbers()))

    assert next(found) == 0
    assert numbers.made[1].wait(10)
    assert not numbers.made[2].wait(0.05)
    assert list(found) == [1, 2]


def test_an_error_is_raised_in_its_place() -> None:
    """Behind everything that came before it."""
    numbers = Numbers(2, ValueError("no more"))
    found = iter(Upcoming(numbers()))

    assert [next(found), next(found)] == [0, 1]
    with pytest.raises(ValueError, match="no more"):
        next(found)
    assert not threads()


def test_left_early_it_is_closed() -> None:
    """Also where the one who reads has failed."""
    numbers = Numbers(100)
    found = iter(Upcoming(numbers()))
    next(found)

    found.close()  # type: ignore[attr-defined]

    assert numbers.is_closed
    assert not numbers.made[2].is_set()
    assert not threads()


def test_what_is_never_asked_for_has_begun_and_is_closed() -> None:
    """The first element is made at once; a second ``close`` does nothing."""
    numbers = Numbers(3)
    coming = Upcoming(numbers())

    assert numbers.made[0].wait(10)
    for _ in range(2):
        coming.close()
    assert numbers.is_closed
    assert not numbers.made[1].is_set()
    assert list(coming) == []
    assert not threads()


@pytest.mark.parametrize("count", [0, 1, 5])
def test_an_error_of_one_keeps_no_other_from_its_outcome(count: int) -> None:
    """Each in its place, in the items' order, and all of them are called at once."""
    together = threading.Barrier(max(count, 1))

    def halved(number: int) -> int:
        together.wait(10)
        if number % 2:
            raise ValueError(number)
        return number // 2

    found = outcomes(halved, range(count))
    assert [each.exception() is None for each in found] == [n % 2 == 0 for n in range(count)]
    assert [each.result() for each in found[::2]] == list(range((count + 1) // 2))
