"""What goes on beside the thread that asks for it: calls that wait for a storage, reading ahead."""

from __future__ import annotations

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator, Sequence


__all__ = ["AT_ONCE", "R", "T", "Upcoming", "ahead", "in_parallel", "outcomes"]


AT_ONCE = 16
"""Calls in flight: enough to hide an object store's latency, few enough for its client."""

_COLLECTIONS = 2 * AT_ONCE  # each has one call in flight most of the time

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


def outcomes(call: Callable[[T], R], items: Sequence[T]) -> list[Future[R]]:
    """Call ``call`` with each item; return what came of each, in the items' order.

    Many are called at once: it is meant for calls that do one thing after the other. When this
    returns, all are done: an error of one is in its place, and keeps no other from being called.
    """
    if len(items) <= 1:
        return [_called(call, item) for item in items]
    with ThreadPoolExecutor(min(_COLLECTIONS, len(items)), "at-once") as pool:
        return [pool.submit(call, item) for item in items]


def _called(call: Callable[[T], R], item: T) -> Future[R]:
    outcome: Future[R] = Future()
    try:
        outcome.set_result(call(item))
    except Exception as error:  # noqa: BLE001 - whatever it is, it is raised where it is asked for
        outcome.set_exception(error)
    return outcome


class Upcoming(Generic[T]):
    """What a generator yields; a thread makes the next element while one is used.

    The first is being made at once, before any is asked for. What the generator raises is raised in
    its place. It is closed behind the last element, by who leaves it earlier, or by ``close``, once
    it has made what it is at.
    """

    def __init__(self, elements: Generator[T, None, None]) -> None:
        """Begin."""
        self._elements = elements
        self._thread: ThreadPoolExecutor | None = ThreadPoolExecutor(1, "prefetching")
        self._coming = self._thread.submit(next, elements, _END)

    def __iter__(self) -> Iterator[T]:
        """Yield the elements, once."""
        try:
            while self._thread and (element := self._coming.result()) is not _END:
                self._coming = self._thread.submit(next, self._elements, _END)
                yield element
        finally:
            self.close()

    def close(self) -> None:
        """Ask for no more; a second time, do nothing."""
        thread, self._thread = self._thread, None
        if thread is not None:
            with thread:
                thread.submit(self._elements.close).result()
