"""Calls to a storage, some of them at once where it is far."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

from batch_collection.parallel import AT_ONCE, R, T, ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_collection.storage.contract import Storage

__all__ = ["both", "each"]


def each(
    storage: Storage,
    call: Callable[[T], R],
    items: Iterable[T],
    weigh: Callable[[T], float] = lambda _: 1,
) -> Iterator[R]:
    """Yield ``call(item)``, which reads from ``storage``, in order; where it is far, some ahead."""
    return ahead(call, items, AT_ONCE if storage.is_far else 0, weigh)


def both(storage: Storage, one: Callable[[], T], other: Callable[[], R]) -> tuple[T, R]:
    """Return what two calls to ``storage`` give; where it is far, they go on at once.

    When this returns or raises, both are over; the first one's error comes before the other's.
    """
    if not storage.is_far:
        return one(), other()
    with ThreadPoolExecutor(1, "beside") as pool:
        coming = pool.submit(other)
        return one(), coming.result()
