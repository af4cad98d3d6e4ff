"""The usual ways of tf.data over the same Parquet files, or over TFRecord files of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow.dataset as ds
import tensorflow as tf

import batch_collection
from batch_collection.exporting.export import export
from bench.readers.contract import BUFFER, COLUMNS, ID, VALUE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from bench.readers.contract import Batch, Job

__all__ = ["generated", "in_memory", "rebatched", "records", "write_records"]

_TYPES = {ID: tf.int64, VALUE: tf.float64}
_BLOCK = 1 << 17


def _generated(job: Job, size: int) -> tf.data.Dataset:
    def batches() -> Iterator[dict[str, Any]]:
        for batch in ds.dataset(job.files).to_batches(columns=COLUMNS, batch_size=size):
            yield {name: batch.column(name).to_numpy() for name in COLUMNS}

    signature = {name: tf.TensorSpec((None,), kind) for name, kind in _TYPES.items()}
    return tf.data.Dataset.from_generator(batches, output_signature=signature)


def generated(job: Job) -> Iterable[Batch]:
    """Give batches from a generator; shuffled: row by row in a buffer."""
    if not job.shuffled:
        return _generated(job, job.size)
    return _generated(job, _BLOCK).unbatch().shuffle(BUFFER).batch(job.size)


def rebatched(job: Job) -> Iterable[Batch]:
    """Give large batches from a generator, cut by ``rebatch``."""
    return _generated(job, _BLOCK).rebatch(job.size)


def in_memory(job: Job) -> Iterable[Batch]:
    """Give rows of a table in memory."""
    table = ds.dataset(job.files).to_table(columns=COLUMNS)
    rows = tf.data.Dataset.from_tensor_slices({name: table[name].to_numpy() for name in COLUMNS})
    return (rows.shuffle(BUFFER) if job.shuffled else rows).batch(job.size)


def write_records(collection: Path, folder: Path) -> None:
    """Write a collection as TFRecord files of examples."""
    export({"": batch_collection.open(collection)}, folder, "tfrecord", columns=COLUMNS)


def records(job: Job) -> Iterable[Batch]:
    """Give examples of TFRecord files, parsed a batch at a time."""
    kinds = {ID: tf.io.FixedLenFeature((), tf.int64), VALUE: tf.io.FixedLenFeature((), tf.float32)}
    rows = tf.data.TFRecordDataset(sorted(map(str, job.prepared.rglob("*.tfrecord"))))
    batches = (rows.shuffle(BUFFER) if job.shuffled else rows).batch(job.size)
    return batches.map(lambda texts: tf.io.parse_example(texts, kinds), tf.data.AUTOTUNE)
