"""Which attempt of a task may decode a message that several have pulled: the first to say so."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import AlreadyExistsError, FileGoneError
from batch_collection.paths import claim_path, new_token
from transforms.sources.pubsub.ids import IdSet

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from numpy.typing import NDArray

    from batch_collection.storage.contract import Storage

__all__ = ["Claim", "claim"]


class Claim(NamedTuple):
    """What an attempt has claimed.

    Attributes:
        path: the file that says so.
        ours: of each id whether the attempt is to decode it.
    """

    path: str
    ours: NDArray[np.bool_]


def claim(
    storage: Storage, cycle: int, plan: str, task: str, ids: pa.Array | pa.ChunkedArray
) -> Claim:
    """Claim messages for one attempt of a task of a plan.

    The claims of a plan are numbered from 0 without a gap, and whoever has created one sees all
    with lower numbers. What one of those of another task names is left out: so of two tasks not
    both decode a message. Attempts of one task don't keep each other out, since at most one counts.

    Args:
        storage: where the collection lies.
        cycle: the plan's.
        plan: its name.
        task: the same for all attempts of a task.
        ids: of what the attempt has pulled, strings.

    Raises:
        StorageError: claims can't be written or read; a ``FileGoneError`` if the cycle is over.
    """
    notes = {"task": task, "attempt": new_token()}  # no two attempts' bytes are the same
    content = IdSet.of(ids).to_parquet(notes)
    for number in count():
        path = claim_path(cycle, plan, number)
        try:
            storage.create(path, content)
        except AlreadyExistsError:
            continue
        break
    earlier = (_read(storage, claim_path(cycle, plan, lower)) for lower in range(number))
    others = IdSet.union(claimed for claimed, noted in earlier if noted["task"] != task)
    return Claim(path, ~others.contains(ids))


def _read(storage: Storage, path: str) -> tuple[IdSet, dict[str, str]]:
    try:
        return IdSet.from_parquet(storage.read(path))
    except FileNotFoundError as error:
        message = f"claim={path} is gone: its cycle is over"
        raise FileGoneError(message) from error
