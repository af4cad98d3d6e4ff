"""This project's ways."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import batch_collection
from bench.readers.contract import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.readers.contract import Batch, Job

__all__ = ["groups", "numpy_batches", "tensorflow", "torch"]

_GROUP_ROWS = 128 * 256


def _options(job: Job) -> dict[str, Any]:
    return {"columns": COLUMNS, "shuffle": 0 if job.shuffled else None}


def numpy_batches(job: Job) -> Iterable[Batch]:
    """Give ``to_numpy_batches``."""
    return batch_collection.open(job.collection).to_numpy_batches(job.size, **_options(job))


def torch(job: Job) -> Iterable[Batch]:
    """Give ``to_torch`` in a loader."""
    from torch.utils.data import DataLoader  # noqa: PLC0415 - an extra

    batches = batch_collection.open(job.collection).to_torch(job.size, **_options(job))
    return DataLoader(batches, batch_size=None, num_workers=job.workers)


def groups(job: Job) -> Iterator[Batch]:
    """Give groups of batches that workers hand over at once, cut as docs/training.md has it."""
    from torch.utils.data import DataLoader  # noqa: PLC0415 - an extra

    size = job.size * max(1, _GROUP_ROWS // job.size)
    batches = batch_collection.open(job.collection).to_torch(size, **_options(job))
    for group in DataLoader(batches, batch_size=None, num_workers=job.workers):
        for parts in zip(*(column.split(job.size) for column in group.values()), strict=True):
            yield dict(zip(group, parts, strict=True))


def tensorflow(job: Job) -> Iterable[Batch]:
    """Give ``to_tf``."""
    return batch_collection.open(job.collection).to_tf(job.size, **_options(job))
