"""Hugging Face's datasets over the same Parquet files."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from datasets import load_dataset
from torch.utils.data import DataLoader

from bench.readers.contract import BUFFER, COLUMNS, Job
from bench.readers.pytorch import in_batches

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from bench.readers.contract import Batch

__all__ = ["mapped", "prepare", "streamed"]


def _loaded(job: Job, **options: Any) -> Any:
    files = {"train": job.files}
    rows = load_dataset("parquet", data_files=files, split="train", columns=COLUMNS, **options)
    return rows.with_format("torch")


def streamed(job: Job) -> Iterable[Batch]:
    """Give batches of rows that are streamed from the files."""
    rows = _loaded(job, streaming=True)
    if job.shuffled:
        rows = rows.shuffle(buffer_size=BUFFER)
    return DataLoader(rows.batch(job.size), batch_size=None, num_workers=job.workers)


def prepare(collection: Path, folder: Path) -> None:
    """Let the files be copied to the cache once, as the first call does."""
    _loaded(Job(collection, folder, 1, shuffled=False, workers=0), cache_dir=str(folder))


def mapped(job: Job) -> Iterable[Batch]:
    """Give batches of rows of the cache, by their numbers."""
    return in_batches(_loaded(job, cache_dir=str(job.prepared)), job)
