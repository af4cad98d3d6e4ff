"""Which of many files are there: where each look is a request, folders are listed instead."""

from __future__ import annotations

from collections import defaultdict
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

from batch_collection.storage.fetching import each

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from batch_collection.storage.contract import Storage

__all__ = ["missing"]


_FEW = 12
"""Look-ups that cost what a listing does."""


def missing(storage: Storage, paths: Iterable[str]) -> set[str]:
    """Return those of some paths at which there is no file.

    Far away it takes a request for each few paths of a folder, or one listing of what lies between
    its first and its last one; several go on at once.
    """
    folders: defaultdict[str, list[str]] = defaultdict(list)
    for path in paths:
        folders[path.rpartition("/")[0]].append(path)
    groups: Iterable[list[str]] = folders.values()
    if storage.is_far:
        groups = chain.from_iterable(
            [group] if len(group) > _FEW else ([path] for path in group) for group in groups
        )
    return set().union(*each(storage, partial(_missing, storage), groups))


def _missing(storage: Storage, paths: Sequence[str]) -> set[str]:
    if not storage.is_far or len(paths) <= _FEW:
        return {path for path in paths if storage.size(path) is None}
    folder, first, last = paths[0].rpartition("/")[0], min(paths), max(paths)
    return set(paths).difference(storage.list(folder, first, last))
