"""The usual ways of PyTorch over the same Parquet files."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import torch
from torch.utils.data import (
    BatchSampler,
    DataLoader,
    IterableDataset,
    RandomSampler,
    SequentialSampler,
    TensorDataset,
    get_worker_info,
)

from bench.readers.contract import BUFFER, COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.readers.contract import Batch, Job

__all__ = ["in_batches", "iterable_batches", "iterable_rows", "table_batches", "table_rows"]


def _table(job: Job) -> TensorDataset:
    table = ds.dataset(job.files).to_table(columns=COLUMNS)
    # .copy(): what Arrow gives can't be written to, of which PyTorch warns
    return TensorDataset(*(torch.from_numpy(table[name].to_numpy().copy()) for name in COLUMNS))


def _named(batches: Iterable[Any]) -> Iterator[Batch]:
    return (dict(zip(COLUMNS, batch, strict=True)) for batch in batches)


def in_batches(rows: Any, job: Job) -> DataLoader:
    """Return a loader that asks a dataset for all rows of a batch at once."""
    order = RandomSampler(rows) if job.shuffled else SequentialSampler(rows)
    sampler = BatchSampler(order, job.size, drop_last=False)
    return DataLoader(rows, batch_size=None, sampler=sampler, num_workers=job.workers)


def table_rows(job: Job) -> Iterator[Batch]:
    """Give rows of tensors in memory, which the loader puts together."""
    loader = DataLoader(_table(job), job.size, shuffle=job.shuffled, num_workers=job.workers)
    return _named(loader)


def table_batches(job: Job) -> Iterator[Batch]:
    """Give batches of tensors in memory, by their rows' numbers."""
    return _named(in_batches(_table(job), job))


class _Parts(IterableDataset):  # type: ignore[misc, unused-ignore] # torch is Any if missing
    """Record batches of the row groups that are a worker's."""

    def __init__(self, job: Job) -> None:
        super().__init__()
        self.job = job

    def batches(self, size: int) -> Iterator[Any]:
        """Yield record batches of at most ``size`` rows."""
        worker = get_worker_info()
        first, step = (0, 1) if worker is None else (worker.id, worker.num_workers)
        for fragment in ds.dataset(self.job.files).get_fragments():
            for group in fragment.split_by_row_group()[first::step]:
                yield from group.to_batches(columns=COLUMNS, batch_size=size)


class _Rows(_Parts):
    """Rows as dicts, shuffled in a buffer."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        rows = (row for batch in self.batches(1 << 17) for row in batch.to_pylist())
        return _shuffled(rows) if self.job.shuffled else rows


class _Batches(_Parts):
    """Whole batches of tensors."""

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self.batches(self.job.size):
            yield {name: torch.from_numpy(batch.column(name).to_numpy().copy()) for name in COLUMNS}


def _shuffled(rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    buffer: list[dict[str, Any]] = []
    for row in rows:
        if len(buffer) < BUFFER:
            buffer.append(row)
            continue
        place = random.randrange(BUFFER)  # noqa: S311 - an order, not a secret
        yield buffer[place]
        buffer[place] = row
    random.shuffle(buffer)
    yield from buffer


def iterable_rows(job: Job) -> Iterable[Batch]:
    """Give rows from an iterable, which the loader puts together."""
    return DataLoader(_Rows(job), job.size, num_workers=job.workers)


def iterable_batches(job: Job) -> Iterable[Batch]:
    """Give batches from an iterable as they are."""
    return DataLoader(_Batches(job), batch_size=None, num_workers=job.workers)
