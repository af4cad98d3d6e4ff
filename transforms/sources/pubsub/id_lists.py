"""The lists of ids that entries name, as a process looks messages up in them, and merges them."""

from __future__ import annotations

import threading
from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from batch_collection.errors import CollectionError, FileGoneError, LogError
from batch_collection.windows import format_instant
from transforms.sources.pubsub.ids import IdSet

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    import pyarrow as pa
    from numpy.typing import NDArray

    from batch_collection.log.entry import IdFile
    from batch_collection.storage.contract import Storage
    from transforms.sources.contract import Remembering

__all__ = ["IdLists", "alike", "repeated"]

_MOST_ALIKE = 4
_AGES = 8  # a merged list goes when its youngest part does: an eighth of its time later
_CLOCKS_APART = timedelta(minutes=1)


def alike(files: Iterable[IdFile], rules: Remembering) -> list[tuple[IdFile, ...]]:
    """Return the groups of lists that are better merged: of like size and age. Pure.

    An id is written once for each time its list has grown fourfold. Those that are young and not
    acknowledged are left: each of them is about to be.
    """
    groups: dict[tuple[bool, int, int], list[IdFile]] = defaultdict(list)
    for file in files:
        lasts = rules.lasts(acknowledged=file.acknowledged)
        if file.acknowledged or file.age >= rules.horizon.total_seconds():
            age = int(_AGES * file.age / lasts.total_seconds())
            size = max(file.ids, 1).bit_length() // 2  # the powers of four in it
            groups[file.acknowledged, age, size].append(file)
    return [tuple(group) for group in groups.values() if len(group) >= _MOST_ALIKE]


class IdLists:
    """The lists of a collection's newest entry, each read once. Threads may share it."""

    def __init__(self, storage: Storage) -> None:
        """Read from a storage, once lists are asked for."""
        self._storage = storage
        self._sets: dict[str, IdSet] = {}
        self._lock = threading.Lock()

    def of(self, file: IdFile) -> IdSet:
        """Return the ids of a list.

        Raises:
            FileGoneError: a later entry has released it.
        """
        with self._lock:
            found = self._sets.get(file.path)
        return self._read(file) if found is None else found

    def hold(self, files: Sequence[IdFile], rules: Remembering) -> list[IdSet]:
        """Return the ids of an entry's lists, and keep those until another entry's are asked for.

        Raises:
            CollectionError: they take more memory than they may.
            FileGoneError: a later entry has released one.
        """
        sets = {file.path: self.of(file) for file in files}
        with self._lock:
            self._sets = sets
        taken = sum(each.nbytes for each in sets.values())
        if taken > rules.bytes:
            message = (
                f"the ids of {sum(map(len, sets.values()))} messages that may come again take "
                f"{taken} bytes of {self._storage.uri}, more than --dedupe_bytes={rules.bytes}: "
                "allow more, or shorten --dedupe_horizon"
            )
            raise CollectionError(message)
        return list(sets.values())

    def _read(self, file: IdFile) -> IdSet:
        for path in (file.path, file.staged or file.path, file.path):
            try:
                return IdSet.from_parquet(self._storage.read(path))[0]
            except FileNotFoundError:
                continue
        message = f"{file.path} in {self._storage.uri} is gone: a later entry has released it"
        raise FileGoneError(message)


def repeated(
    taken: pa.Table, files: Sequence[IdFile], sets: Sequence[IdSet], stream: str
) -> NDArray[np.bool_]:
    """Tell of each message whether its id is in a list of the log.

    Args:
        taken: the messages, with ``id`` and ``published``.
        files: the lists.
        sets: the ids of each.
        stream: what they come from, for people.

    Raises:
        LogError: one was published after the log had its id: then it is another message.
    """
    found = np.zeros(taken.num_rows, bool)
    for file, ids in zip(files, sets, strict=True):
        mask = ids.contains(taken["id"])
        if file.named_at is not None and mask.any():
            again = taken.filter(mask)
            newest = pc.max(again["published"])
            if newest.as_py() > file.named_at + _CLOCKS_APART:
                name = again["id"][pc.index(again["published"], newest).as_py()].as_py()
                message = (
                    f"message id={name} of subscription={stream} was published at "
                    f"{format_instant(newest.as_py())}, but is in the log since "
                    f"{format_instant(file.named_at)}: the server was restarted and counts its "
                    "messages anew; collect into another --output"
                )
                raise LogError(message)
        found |= mask
    return found
