"""What the steps count, as Beam metrics of one namespace; no result depends on them."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

from apache_beam.metrics import Metrics

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["NAMESPACE", "clocked", "count", "observe", "timed"]


_T = TypeVar("_T")

NAMESPACE = "batch_collection"


def count(name: str, number: int = 1) -> None:
    """Add to a counter of the step that runs: ``messages``, ``rows``, ``bytes``, ..."""
    if number:
        Metrics.counter(NAMESPACE, name).inc(number)


def observe(name: str, value: int) -> None:
    """Add a value to a distribution of the step that runs."""
    Metrics.distribution(NAMESPACE, name).update(value)


def clocked(name: str, elements: Iterable[_T]) -> Iterator[_T]:
    """Yield elements; add the milliseconds that they took to come, together, to a distribution."""
    spent, began = 0.0, time.monotonic()
    for element in elements:
        spent += time.monotonic() - began
        yield element
        began = time.monotonic()
    observe(name, round((spent + time.monotonic() - began) * 1000))


@contextmanager
def timed(name: str) -> Iterator[None]:
    """Add the milliseconds that a block takes to a distribution."""
    began = time.monotonic()
    try:
        yield
    finally:
        observe(name, round((time.monotonic() - began) * 1000))
