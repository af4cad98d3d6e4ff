"""What goes on beside the thread that asks for it: calls that wait for a storage, reading ahead."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator


__all__ = ["AT_ONCE", "R", "T", "ahead", "in_parallel", "prefetched"]


AT_ONCE = 16
"""Calls in flight: enough to hide an object store's latency, few enough for its client."""

T = TypeVar("T")
R = TypeVar("R")
_END: Any = object()


def ahead(
    call: Callable[[T], R],
    items: Iterable[T],
    count: int,
    weigh: Callable[[T], float] = lambda _: 1,
) -> Iterator[R]:
    """Yield ``call(item)`` for each item, in order; ``count`` calls go on ahead of the reader.

    With 0 none is made before it is asked for. The first error is raised in its place. ``weigh``
    says as how many calls an item counts, for what its answer takes of memory.
    """
    if not count:
        yield from map(call, items)
        return
    waiting: deque[tuple[Future[R], float]] = deque()
    with ThreadPoolExecutor(count, "ahead") as pool:
        try:
            for item in items:
                waiting.append((pool.submit(call, item), weigh(item)))
                while waiting and sum(weight for _, weight in waiting) > count:
                    yield waiting.popleft()[0].result()
            while waiting:
                yield waiting.popleft()[0].result()
        finally:
            for future, _ in waiting:
                future.cancel()


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


def prefetched(elements: Generator[T, None, None]) -> Iterator[T]:
    """Yield what a generator yields; while one element is used, a thread has the next one made.

    What it raises is raised in its place. Left early, it is closed once it has made what it is at.
    """
    with ThreadPoolExecutor(1, "prefetching") as thread:
        try:
            coming = thread.submit(next, elements, _END)
            while (element := coming.result()) is not _END:
                coming = thread.submit(next, elements, _END)
                yield element
        finally:
            thread.submit(elements.close).result()
