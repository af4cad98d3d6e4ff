"""Fetch what lies in a storage, some of it ahead where the storage is far."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.parallel import AT_ONCE, R, T, ahead

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_collection.storage.contract import Storage

__all__ = ["each"]


def each(
    storage: Storage,
    call: Callable[[T], R],
    items: Iterable[T],
    weigh: Callable[[T], float] = lambda _: 1,
) -> Iterator[R]:
    """Yield ``call(item)``, which reads from ``storage``, in order; where it is far, some ahead."""
    return ahead(call, items, AT_ONCE if storage.is_far else 0, weigh)
