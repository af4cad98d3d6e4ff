"""Batches as a ``tf.data.Dataset``; imported only where TensorFlow is asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import tensorflow as tf

from batch_collection.errors import CollectionError
from batch_collection.given import whole_number
from batch_collection.training.batches import numpy_batches

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    import numpy.typing as npt

    from batch_collection.reading.row_sequence import RowSequence
    from batch_collection.training.arrays import Arrays, Spec
    from batch_collection.training.batches import BatchRules, Columns
    from batch_collection.training.followed import FollowedBatches
    from batch_collection.training.sequences import SequenceBatches

__all__ = ["followed_dataset", "sequence_dataset", "tensorflow_dataset"]


_HANDED_OVER = 128 * 1024  # rows, about: each time Python is called by TensorFlow costs


def tensorflow_dataset(
    sequence: RowSequence,
    arrays: Arrays,
    rules: BatchRules,
    *,
    state: Mapping[str, Any] | None,
    skip: int,
    view: Any,
) -> tf.data.Dataset:
    """Return batches as dicts: column -> tensor, their types and shapes known without reading.

    With a label they are ``(features, label)``.

    Text and bytes are ``tf.string``, instants int64 microseconds since the Unix epoch, ragged rows
    a ``tf.RaggedTensor``. A loop that comes to its end is followed by the next epoch. Many batches
    at once are handed to TensorFlow, which cuts them; it reads nothing ahead, so that a loop that
    is left has not come to its end there.

    Raises:
        CollectionError: no column is read, or the place to begin at is that of other batches.
    """
    if not arrays.specs:
        message = "no column is read, and tf.data has no batches without one; use to_numpy_batches"
        raise CollectionError(message)
    skip = whole_number("skip", skip)
    if skip < 0 or (skip and state is None):
        message = (
            f"skip={skip} needs the state of these batches when the run began, which tells their "
            "rows: state=..., from to_numpy_batches(...).state_dict() with the same options"
        )
        raise CollectionError(message)
    size = rules.batch_size
    ragged = any(spec.ragged for spec in arrays.specs.values())
    one_epoch = rules.repeat == 1 and state is None  # else no batch may reach over an end
    several = 1 if ragged else max(_HANDED_OVER // size, 1)
    at_once = None if one_epoch and several > 1 else several
    batches = numpy_batches(sequence, arrays, rules, view, handed=dict)
    if state is not None:
        batches.load_state_dict(state)
        batches.skip(skip)

    def made() -> Iterator[Any]:
        return (_handed(batch, arrays) for batch in batches.in_groups(at_once))

    rows = None if several > 1 or not rules.drop_remainder else size
    signature = _signatures(arrays, rows)
    dataset = tf.data.Dataset.from_generator(made, output_signature=signature)
    if several > 1:
        if one_epoch:
            dataset = dataset.rebatch(size, drop_remainder=rules.drop_remainder)
        else:
            dataset = dataset.flat_map(
                lambda *group: tf.data.Dataset.from_tensors(
                    group if len(group) > 1 else group[0]  # features and their label, or columns
                ).rebatch(size, drop_remainder=rules.drop_remainder)
            )
    if state is None:  # or the first loop would be shorter than the others
        endless = rules.repeat is None and batches.batches_an_epoch > 0
        count = batches.batches_an_epoch * (rules.repeat or 1)
        count = tf.data.INFINITE_CARDINALITY if endless else count
        dataset = dataset.apply(tf.data.experimental.assert_cardinality(count))
    return _in_step(dataset)


def followed_dataset(batches: FollowedBatches) -> tf.data.Dataset:
    """Return what is new as ``tensorflow_dataset`` does all; nobody knows how many batches it is.

    One is handed over when TensorFlow asks for the next one, so that a place is no more than one
    batch ahead of it.
    """
    arrays = batches.arrays

    def made() -> Iterator[Any]:
        return (_handed(batch, arrays) for batch in batches.as_columns())

    signature = _signatures(arrays, None)
    return _in_step(tf.data.Dataset.from_generator(made, output_signature=signature))


def sequence_dataset(batches: SequenceBatches) -> tf.data.Dataset:
    """Return batches of sequences, tensors of (sequences, rows); nobody knows how many it is."""
    specs = (batches.past, batches.future)

    def made() -> Iterator[Any]:
        for batch in batches.as_columns():
            yield batches.handed(*(_values(*each) for each in zip(batch, specs, strict=True)))

    signatures = [{name: _signature(spec, None) for name, spec in each.items()} for each in specs]
    return tf.data.Dataset.from_generator(made, output_signature=batches.handed(*signatures))


def _in_step(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Keep TensorFlow from reading ahead, which it does unasked where it finds rows cut anew."""
    options = tf.data.Options()
    options.experimental_optimization.inject_prefetch = False
    return dataset.with_options(options)


def _values(columns: Columns, specs: Mapping[str, Spec]) -> dict[str, Any]:
    return {name: _value(column, specs[name]) for name, column in columns.items()}


def _handed(batch: Columns, arrays: Arrays) -> Any:
    """Return a batch as TensorFlow takes it, its label apart."""
    return arrays.labelled(_values(batch, arrays.specs))


def _signatures(arrays: Arrays, rows: int | None) -> Any:
    """Return what ``_handed`` gives; ``rows`` None: any number of them."""
    return arrays.labelled({name: _signature(spec, rows) for name, spec in arrays.specs.items()})


def _signature(spec: Spec, rows: int | None) -> Any:
    dtype = tf.string if spec.text else tf.as_dtype(_plain(spec.dtype))
    if spec.ragged:
        return tf.RaggedTensorSpec((rows, None), dtype, ragged_rank=1, row_splits_dtype=tf.int64)
    return tf.TensorSpec((rows, *spec.shape), dtype)


def _plain(dtype: np.dtype[Any]) -> np.dtype[Any]:
    return np.dtype(np.int64) if dtype.kind == "M" else dtype


def _value(column: npt.NDArray[Any], spec: Spec) -> Any:
    if spec.ragged:
        lengths = np.array([len(row) for row in column], np.int64)
        empty = np.empty(0, spec.dtype)
        values = np.concatenate([empty, *column]) if len(column) else empty
        dtype = tf.string if spec.text else tf.as_dtype(_plain(spec.dtype))
        flat = tf.constant(values.view(np.int64) if values.dtype.kind == "M" else values, dtype)
        return tf.RaggedTensor.from_row_lengths(flat, lengths, validate=False)
    return column.view(np.int64) if column.dtype.kind == "M" else column
