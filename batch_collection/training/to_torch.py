"""Batches as PyTorch tensors; imported only where PyTorch is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.utils.data import IterableDataset, get_worker_info

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from batch_collection.training.batches import Batches

__all__ = ["TorchBatches"]


_UNSIGNED = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}


class TorchBatches(IterableDataset):  # type: ignore[misc] # torch is Any where it is missing
    """Batches as dicts of tensors: column -> tensor; text and bytes are lists, as are ragged rows.

    Instants are int64 microseconds since the Unix epoch. ``DataLoader(batches, batch_size=None)``
    takes them as they are; with ``num_workers`` each worker reads its part of the batches, which
    are the same ones whatever their number.
    """

    def __init__(self, batches: Batches[dict[str, npt.NDArray[Any]]]) -> None:
        """Turn ``batches`` into tensors."""
        super().__init__()
        self.batches = batches
        self._running = batches
        _ = batches.batches_an_epoch  # a split's keys are read here, not in every worker

    def __len__(self) -> int:
        """Return the number of batches of one loop over all workers."""
        return len(self.batches)

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """Yield batches; in a loader's worker, those of its part."""
        worker = get_worker_info()
        if worker is not None and self._running is self.batches:
            self._running = self.batches.for_worker(worker.id, worker.num_workers)
        for batch in self._running:
            yield {name: _tensor(column) for name, column in batch.items()}

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop begin with this epoch: another order, if rows are shuffled.

        Loader workers that are not persistent start anew each time, and begin with this one.
        """
        self._running.set_epoch(epoch)

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch; that of a worker, within one."""
        return self._running.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop begin at a place.

        Raises:
            CollectionError: it is one of batches that were cut in another way.
        """
        worker = get_worker_info()
        if worker is not None and self._running is self.batches:
            self._running = self.batches.for_worker(worker.id, worker.num_workers)
        self._running.load_state_dict(state)


def _tensor(column: npt.NDArray[Any]) -> Any:
    if column.dtype == object:
        return [_tensor(row) if isinstance(row, np.ndarray) else row for row in column]
    if column.dtype.kind == "M":
        column = column.view(np.int64)
    elif column.dtype in _UNSIGNED:
        column = column.astype(_UNSIGNED[column.dtype])
    return torch.from_numpy(column)
