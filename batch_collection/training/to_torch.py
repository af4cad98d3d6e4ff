"""Batches as PyTorch tensors; imported only where PyTorch is asked for."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

from batch_collection.errors import CollectionError
from batch_collection.training.loader_loops import (
    ALONE,
    MOST_WORKERS,
    Loop,
    begun,
    loop_name,
    next_epoch,
    word,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from batch_collection.training.batches import Batches

__all__ = ["FollowedTorchBatches", "SequenceTorchBatches", "TorchBatches", "tensors"]


class TorchBatches(IterableDataset):  # type: ignore[misc] # torch is Any where it is missing
    """Batches as dicts of tensors: column -> tensor; text and bytes are lists, as are ragged rows.

    With a label they are ``(features, label)``.

    Instants are int64 microseconds since the Unix epoch. ``DataLoader(batches, batch_size=None)``
    takes them as they are; threads read ahead, so that it needs no workers. With ``num_workers``
    each worker reads its part of the batches, which are the same ones whatever their number, and
    all of them the same epoch.
    """

    def __init__(self, batches: Batches[Any]) -> None:
        """Turn ``batches`` into tensors."""
        super().__init__()
        self.batches = batches
        self._parts: dict[int, Batches[Any]] = {}  # of workers, in them
        self._begun: Counter[int] = Counter()
        self._words = torch.zeros(MOST_WORKERS, dtype=torch.int64).share_memory_()
        _ = batches.batches_an_epoch  # a split's keys are read here, not in every worker

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Share the words also where this is a copy."""
        self.__dict__.update(state)
        self._words.share_memory_()

    def __len__(self) -> int:
        """Return the number of batches of one loop over all workers."""
        return len(self.batches)

    def __iter__(self) -> Iterator[Any]:
        """Yield batches; in a loader's worker, those of its part.

        Raises:
            CollectionError: in a worker: a place within a loop was loaded outside.
        """
        worker = get_worker_info()
        if worker is None:
            return self._alone()
        part = self._part(worker)
        self._begun[worker.id] += 1
        name = loop_name(worker.seed - worker.id, worker.num_workers, self._begun[worker.id])
        return self._in_worker(part, worker, name)

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop begin with this epoch: another order, if rows are shuffled.

        Loader workers know of it, persistent ones, too.
        """
        self.batches.set_epoch(epoch)
        self._say(0, Loop(ALONE, 1, epoch, done=False))

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch; in a loader's worker, that of its part.

        Raises:
            CollectionError: workers have the place, and this is not one.
        """
        worker = get_worker_info()
        if worker is not None:
            return self._part(worker).state_dict()
        if int(self._words[0]) >= word(Loop(ALONE + 1, 0, 0, done=False)):
            message = (
                "the place is known to the loader's workers only; use num_workers=0 (threads read "
                "ahead), or the state_dict of torchdata's StatefulDataLoader"
            )
            raise CollectionError(message)
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop begin at a place.

        Raises:
            CollectionError: it is one of batches that were cut in another way.
        """
        worker = get_worker_info()
        part = self.batches if worker is None else self._part(worker)
        part.load_state_dict(state)
        index, workers = (0, 1) if worker is None else (worker.id, worker.num_workers)
        self._say(index, Loop(ALONE, workers, part.loop_epoch, done=False))

    def _alone(self) -> Iterator[Any]:
        batches = self.batches
        if not batches.resumes:
            batches.set_epoch(next_epoch(self._words.tolist(), batches.rules.repeat or 0))
        self._say(0, Loop(ALONE, 1, batches.loop_epoch, done=False))
        yield from map(tensors, batches)
        self._say(0, Loop(ALONE, 1, batches.loop_epoch, done=False))

    def _in_worker(self, part: Batches[Any], worker: Any, name: int) -> Iterator[Any]:
        loop = begun(
            self._words.tolist(),
            worker.id,
            worker.num_workers,
            name,
            part.rules.repeat or 0,
            part.loop_epoch if part.resumes else None,
        )
        self._say(worker.id, loop)
        if not part.resumes:
            part.set_epoch(loop.epoch)
        yield from map(tensors, part)
        self._say(worker.id, loop._replace(done=True))

    def _part(self, worker: Any) -> Batches[Any]:
        if self.batches.resumes and not self.batches.at_loop_start:
            message = (
                "a state from within an epoch was loaded into batches that workers read; "
                "use num_workers=0 (threads read ahead), or torchdata's StatefulDataLoader"
            )
            raise CollectionError(message)
        if worker.id not in self._parts:
            self._parts[worker.id] = self.batches.for_worker(worker.id, worker.num_workers)
        return self._parts[worker.id]

    def _say(self, worker: int, loop: Loop) -> None:
        self._words[worker] = word(loop)


class _Placed(Protocol):
    """Batches of what is new, and the place of a loop over them."""

    def __iter__(self) -> Iterator[Any]: ...

    def state_dict(self) -> dict[str, Any]: ...

    def load_state_dict(self, state: Mapping[str, Any]) -> None: ...


class _InOneLoop(IterableDataset):  # type: ignore[misc] # as above
    """Batches that one loop reads, in tensors; ``num_workers`` must be 0."""

    alone: ClassVar[str]
    """Why workers can't read them, and what to do."""

    def __init__(self, batches: Iterable[Any]) -> None:
        """Turn ``batches`` into tensors."""
        super().__init__()
        self.batches = batches

    def __iter__(self) -> Iterator[Any]:
        """Yield batches.

        Raises:
            CollectionError: workers are to read them.
        """
        if get_worker_info() is not None:
            raise CollectionError(self.alone)
        yield from map(tensors, self.batches)


class FollowedTorchBatches(_InOneLoop):
    """Batches of what is new, as ``TorchBatches`` has them; ``num_workers`` must be 0."""

    batches: _Placed
    alone = "a cursor is one loop's; follow with num_workers=0"

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch handed out."""
        return self.batches.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop begin at a place."""
        self.batches.load_state_dict(state)


class SequenceTorchBatches(_InOneLoop):
    """Batches of sequences: tensors of (sequences, rows); ``num_workers`` must be 0."""

    alone = "sequences go on from window to window in one loop; use num_workers=0"


def tensors(batch: Any) -> Any:
    """Turn columns into tensors, or features and their label, or two dicts."""
    if isinstance(batch, tuple):
        return tuple(map(tensors, batch))
    if isinstance(batch, dict):
        return {name: _tensor(column) for name, column in batch.items()}
    return _tensor(batch)


def _tensor(column: np.ndarray[Any, Any]) -> Any:
    return _MADE.get(column.dtype.char, torch.from_numpy)(column)


def _listed(column: np.ndarray[Any, Any]) -> list[Any]:
    return [_tensor(row) if isinstance(row, np.ndarray) else row for row in column]


_MADE = {
    "O": _listed,
    "M": lambda column: torch.from_numpy(column.view(np.int64)),
    "H": lambda column: torch.from_numpy(column.astype(np.int32)),
    "I": lambda column: torch.from_numpy(column.astype(np.int64)),
}
"""How columns become tensors, by the letter of their type; all others as they are."""
