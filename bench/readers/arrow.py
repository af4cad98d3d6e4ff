"""Readers of Parquet files that give Arrow's columns, as NumPy arrays."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.dataset as ds

from bench.readers.contract import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from bench.readers.contract import Batch, Job

__all__ = ["cut", "duck", "polars_slices", "polars_stream", "pyarrow_batches", "pyarrow_cut"]


def _arrays(batch: Any) -> Batch:
    return {name: batch.column(name).to_numpy() for name in COLUMNS}


def cut(batches: Iterable[Batch], size: int) -> Iterator[Batch]:
    """Cut arrays in parts of ``size`` rows; each one's last part may have fewer."""
    for batch in batches:
        for first in range(0, len(batch[COLUMNS[0]]), size):
            yield {name: column[first : first + size] for name, column in batch.items()}


def pyarrow_batches(job: Job) -> Iterator[Batch]:
    """Give batches as pyarrow cuts them."""
    batches = ds.dataset(job.files).to_batches(columns=COLUMNS, batch_size=job.size)
    yield from map(_arrays, batches)


def pyarrow_cut(job: Job) -> Iterator[Batch]:
    """Give what a loop by hand cuts; shuffled: of a table in memory, in random order."""
    dataset = ds.dataset(job.files)
    if not job.shuffled:
        yield from cut(map(_arrays, dataset.to_batches(columns=COLUMNS)), job.size)
        return
    table = _arrays(dataset.to_table(columns=COLUMNS))
    order = np.random.default_rng().permutation(len(table[COLUMNS[0]]))
    for first in range(0, len(order), job.size):
        rows = order[first : first + job.size]
        yield {name: column[rows] for name, column in table.items()}


def polars_slices(job: Job) -> Iterator[Batch]:
    """Give slices of a frame in memory."""
    import polars as pl  # noqa: PLC0415 - an extra

    frame = pl.scan_parquet(job.files).select(COLUMNS).collect()
    if job.shuffled:
        frame = frame.sample(fraction=1, shuffle=True)
    for part in frame.iter_slices(job.size):
        yield {name: part[name].to_numpy() for name in COLUMNS}


def polars_stream(job: Job) -> Iterator[Batch]:
    """Give what polars streams, cut where it comes in larger pieces."""
    import polars as pl  # noqa: PLC0415 - an extra

    frames = pl.scan_parquet(job.files).select(COLUMNS).collect_batches(chunk_size=1 << 17)
    yield from cut(({name: one[name].to_numpy() for name in COLUMNS} for one in frames), job.size)


def duck(job: Job) -> Iterator[Batch]:
    """Give DuckDB's record batches, which have 2,048 rows or a multiple, cut."""
    import duckdb  # noqa: PLC0415 - an extra

    order = "ORDER BY random()" if job.shuffled else ""
    query = f"SELECT {', '.join(COLUMNS)} FROM read_parquet({job.files}) {order}"  # noqa: S608
    with duckdb.connect() as connection:
        reader = connection.sql(query).to_arrow_reader(max(job.size, 1 << 17))
        yield from cut(map(_arrays, reader), job.size)
