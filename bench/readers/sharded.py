"""Loaders that read files of their own, which are written first: a sample is a row."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds

from bench.readers.contract import BUFFER, COLUMNS, ID, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bench.readers.contract import Batch, Job

__all__ = ["lit", "mosaic", "web", "write_lit", "write_mosaic", "write_web"]

_SHARDS = 4


def _rows(collection: Path) -> Iterator[dict[str, Any]]:
    files = sorted(map(str, (collection / "data").rglob("*.parquet")))
    for batch in ds.dataset(files).to_batches(columns=COLUMNS):
        yield from batch.to_pylist()


def write_mosaic(collection: Path, folder: Path) -> None:
    """Write shards of MosaicML Streaming."""
    from streaming import MDSWriter  # noqa: PLC0415 - in its own environment

    with MDSWriter(out=str(folder), columns={ID: "int64", VALUE: "float64"}) as writer:
        for row in _rows(collection):
            writer.write(row)


def mosaic(job: Job) -> Iterable[Batch]:
    """Give batches of MosaicML Streaming."""
    from streaming import StreamingDataset  # noqa: PLC0415 - in its own environment
    from streaming.base.util import clean_stale_shared_memory  # noqa: PLC0415
    from torch.utils.data import DataLoader  # noqa: PLC0415

    clean_stale_shared_memory()
    rows = StreamingDataset(local=str(job.prepared), shuffle=job.shuffled, batch_size=job.size)
    return DataLoader(rows, batch_size=job.size, num_workers=job.workers)


def _same(row: dict[str, Any]) -> dict[str, Any]:
    return row


def write_lit(collection: Path, folder: Path) -> None:
    """Write chunks of LitData."""
    from litdata import optimize  # noqa: PLC0415 - in its own environment

    optimize(
        fn=_same,
        inputs=list(_rows(collection)),
        output_dir=str(folder),
        chunk_bytes="1MB",
        num_workers=1,
    )


def lit(job: Job) -> Iterable[Batch]:
    """Give batches of LitData."""
    from litdata import StreamingDataLoader, StreamingDataset  # noqa: PLC0415

    rows = StreamingDataset(str(job.prepared), shuffle=job.shuffled)
    return StreamingDataLoader(rows, batch_size=job.size, num_workers=job.workers)


def write_web(collection: Path, folder: Path) -> None:
    """Write tar files for WebDataset: a JSON file a row."""
    from webdataset import ShardWriter  # noqa: PLC0415 - in its own environment

    rows = list(_rows(collection))
    with ShardWriter(f"{folder}/%06d.tar", maxcount=-(-len(rows) // _SHARDS), verbose=0) as writer:
        for row in rows:
            writer.write({"__key__": f"{row[ID]:012d}", "json": json.dumps(row).encode()})


def web(job: Job) -> Iterable[Batch]:
    """Give batches of WebDataset, which a loader of it puts together."""
    import webdataset as wds  # noqa: PLC0415 - in its own environment

    files = sorted(map(str, job.prepared.glob("*.tar")))
    rows = wds.WebDataset(files, shardshuffle=len(files) if job.shuffled else False)
    if job.shuffled:
        rows = rows.shuffle(BUFFER)
    batches = rows.decode().map(lambda sample: sample["json"])
    return wds.WebLoader(batches, batch_size=job.size, num_workers=job.workers)
