"""Calls that wait for a storage, several at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

__all__ = ["AT_ONCE", "in_parallel"]

AT_ONCE = 16
"""Calls in flight: enough to hide an object store's latency, few enough for its client."""

T = TypeVar("T")


def in_parallel(act: Callable[[T], object], items: Iterable[T]) -> None:
    """Call ``act`` with each item, in no order.

    When this returns or raises, no call is going on any more. The first error is raised; calls that
    had not begun by then are not made.
    """
    waiting = list(items)
    if len(waiting) <= 1:
        for item in waiting:
            act(item)
        return
    with ThreadPoolExecutor(min(AT_ONCE, len(waiting)), "storage") as pool:
        calls = [pool.submit(act, item) for item in waiting]
        wait(calls, return_when="FIRST_EXCEPTION")
        for call in calls:
            call.cancel()
    for call in calls:
        if not call.cancelled():
            call.result()
