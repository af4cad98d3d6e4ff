"""Sequences for models of time series: rows of one key that follow one another, across files.

A collection's windows are read one after the other; what a key's next sequence may still need of
its rows is kept until then. So one window is in memory, and less than a sequence of each key.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.errors import CollectionError
from batch_collection.field_path import split_path
from batch_collection.given import names, whole_number
from batch_collection.loading import extra
from batch_collection.reading.order import Slice
from batch_collection.reading.ordered_windows import OrderedWindows
from batch_collection.reading.splits import Side, leaf, leaf_at, leaf_type
from batch_collection.training.batches import (
    ColumnOptions,
    arrays_of,
    check_names,
    join_arrays,
)
from batch_collection.windows import parse_duration

if TYPE_CHECKING:
    from collections.abc import Iterator

    import numpy.typing as npt
    import tensorflow as tf
    from typing_extensions import Unpack

    from batch_collection.reading.row_sequence import RowSequence
    from batch_collection.training.arrays import Arrays, Spec
    from batch_collection.training.batches import Columns
    from batch_collection.training.to_torch import SequenceTorchBatches

__all__ = ["SequenceBatches", "SequenceRules", "Sequences"]


_PAIR = 2
_TICKS = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_SALT = "sequences"  # else shards of one side of a split by the same key would be uneven


@dataclass(frozen=True, slots=True)
class SequenceRules:
    """How rows become sequences.

    Args:
        by: The key: a column, several, or fields of one. Rows without one have one key together.
        order_by: A column of numbers or instants that orders a key's rows; rows that are equal
            there stay as they were committed.
        length: The rows of a sequence that a model is given.
        stride: How many rows after a sequence's first one the next one begins.
        horizon: The rows behind them that it is to tell of.
        max_gap: The largest step of ``order_by`` within a sequence, a number, or a ``timedelta`` or
            text as ``10s`` for instants; behind a larger one sequences begin anew. None: any.
        shard: ``(index, count)``: all sequences of a key are in one shard, by a hash of the key.
    """

    by: tuple[str, ...]
    order_by: str
    length: int
    stride: int = 1
    horizon: int = 1
    max_gap: timedelta | str | float | None = None
    shard: tuple[int, int] = (0, 1)

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            CollectionError: names the option.
        """
        given: Any = self.by
        by = (given,) if isinstance(given, str) else tuple(names("by", given))
        object.__setattr__(self, "by", by)
        for name, least in (("length", 1), ("stride", 1), ("horizon", 0)):
            number = whole_number(name, getattr(self, name))
            object.__setattr__(self, name, number)
            if number < least:
                message = f"{name} must be at least {least}, got {number}"
                raise CollectionError(message)
        if not by:
            message = "by must name a column at least"
            raise CollectionError(message)
        if not isinstance(self.order_by, str):
            message = f"order_by must be the name of a column, got {self.order_by!r}"
            raise CollectionError(message)
        shard = self.shard if isinstance(self.shard, Sequence) else ()
        numbers = tuple(whole_number("shard", number) for number in shard)
        if len(numbers) != _PAIR or not 0 <= numbers[0] < numbers[1]:
            message = (
                "shard must be (index, count) with an index from 0 to count - 1, "
                f"got {self.shard!r}"
            )
            raise CollectionError(message)
        object.__setattr__(self, "shard", numbers)

    @property
    def span(self) -> int:
        """The rows of a sequence, and those that it is to tell of."""
        return self.length + self.horizon

    @property
    def side(self) -> Side | None:
        """The keys of the shard; None: all."""
        index, count = self.shard
        low, high = 2**64 * index // count, 2**64 * (index + 1) // count
        return None if count == 1 else Side(self.by, low, high, _SALT)

    def gap(self, type_: pa.DataType) -> float | None:
        """Return the largest step in ticks of a column's type.

        Raises:
            CollectionError: it is no step of such a column.
        """
        given = self.max_gap
        if given is None:
            return None
        is_instant = pa.types.is_timestamp(type_)
        if is_instant and isinstance(given, str):
            try:
                given = parse_duration(given)
            except ValueError as error:
                raise CollectionError(str(error)) from error
        if is_instant and isinstance(given, timedelta) and given >= timedelta(0):
            ticks = given // timedelta(microseconds=1) * _TICKS[type_.unit]
            return ticks // 10**6
        is_number = isinstance(given, Real) and not isinstance(given, bool)
        if not is_instant and is_number and given >= 0:  # type: ignore[operator]
            return float(given)  # type: ignore[arg-type]
        kind = "a timedelta, or text as 10s," if is_instant else "a number"
        message = f"max_gap must be {kind} of at least 0 for {type_}, got {given!r}"
        raise CollectionError(message)


class Sequences:
    """Sequences of a view, made into batches by one of its methods.

    A sequence has ``length`` rows of one key, as they follow one another in the order of a column,
    and the ``horizon`` rows behind them, of which nothing is among the former.
    """

    def __init__(self, sequence: RowSequence, rules: SequenceRules, where: str) -> None:
        """Settle keys and order; no row is read.

        Raises:
            CollectionError: there is no such column, or it is none of keys, or of an order.
        """
        self._sequence, self._rules, self._where = sequence, rules, where
        fields = sequence.unified.fields
        known = pa.struct(list(fields.items()))
        for key in rules.by:
            found = leaf_type(known, split_path(key, fields.__contains__))
            if found is None or pa.types.is_nested(found) or pa.types.is_floating(found):
                message = f"by must name columns of text, integers or instants; {key} is {found}"
                raise CollectionError(message)
        self._ordered = OrderedWindows.of(sequence, rules.order_by)
        type_ = leaf_type(known, self._ordered.path)
        kinds = (pa.types.is_integer, pa.types.is_floating, pa.types.is_timestamp)
        if type_ is None or not any(kind(type_) for kind in kinds):
            message = (
                "order_by of sequences must be a column of numbers or instants; "
                f"{rules.order_by} is {type_}"
            )
            raise CollectionError(message)
        self._gap = rules.gap(type_)

    def to_numpy_batches(
        self,
        batch_size: int,
        *,
        label: str | None = None,
        drop_remainder: bool = False,
        **options: Unpack[ColumnOptions],
    ) -> SequenceBatches:
        """Return batches of ``(past, future)``, dicts of arrays: (sequences, rows), by column.

        With a ``label`` they are ``(past, array)``: that column of the rows behind. With a
        ``horizon`` of 0 they are the past alone.

        Args:
            batch_size: The sequences of each batch; the last one has what is left.
            label: A column. Its past is among the others, unless ``columns`` leave it out.
            drop_remainder: Leave the last batch out if it is smaller.
            options: As ``ArrayRules`` has them; lists need ``lengths``.

        Raises:
            CollectionError: an option makes no sense, or no array can hold a column.
        """
        check_names(options, ColumnOptions)
        size = whole_number("batch_size", batch_size)
        if size < 1:
            message = f"batch_size must be at least 1, got {size}"
            raise CollectionError(message)
        if label is not None and not self._rules.horizon:
            message = "a label is of the rows behind a sequence; give a horizon of at least 1"
            raise CollectionError(message)
        arrays, _ = arrays_of(self._sequence, options, self._where, label)
        ragged = [name for name, spec in arrays.specs.items() if spec.ragged]
        if ragged:
            message = (
                f"sequences need lists of one length; give {', '.join(ragged)} one with lengths, "
                "or leave it out with exclude"
            )
            raise CollectionError(message)
        listed = options.get("columns")
        hides = listed is not None and label not in listed
        reading = _Reading(self._sequence, self._ordered, arrays, self._rules, self._gap)
        return SequenceBatches(reading, size, label, hides=hides, drops=drop_remainder)

    def to_torch(self, batch_size: int, **options: Any) -> SequenceTorchBatches:
        """Return batches as an ``IterableDataset``; options as ``to_numpy_batches``.

        Raises:
            CollectionError: as there, or PyTorch is not installed.
        """
        extra("torch")
        module = extra("batch_collection.training.to_torch", "torch")
        return module.SequenceTorchBatches(self.to_numpy_batches(batch_size, **options))

    def to_tf(self, batch_size: int, **options: Any) -> tf.data.Dataset:
        """Return batches as a ``tf.data.Dataset``; options as ``to_numpy_batches``.

        Raises:
            CollectionError: as there, or TensorFlow is not installed.
        """
        extra("tensorflow")
        module = extra("batch_collection.training.to_tensorflow", "tensorflow")
        return module.sequence_dataset(self.to_numpy_batches(batch_size, **options))


class SequenceBatches:
    """Batches of sequences; each loop is the same, from the first window to the last.

    They come in the order in which they are complete: by the last row, then by key.
    """

    def __init__(
        self, reading: _Reading, size: int, label: str | None, *, hides: bool, drops: bool
    ) -> None:
        """Cut what ``reading`` finds; ``hides`` leaves the label's past out."""
        self._reading, self._size, self._label = reading, size, label
        self._hides, self._drops = hides, drops
        rules, specs = reading.rules, reading.arrays.specs
        self.past = {name: _longer(spec, rules.length) for name, spec in specs.items()}
        self.future = {name: _longer(spec, rules.horizon) for name, spec in specs.items()}

    def __iter__(self) -> Iterator[Any]:
        """Yield batches."""
        return (self.handed(*batch) for batch in self.as_columns())

    def handed(self, past: dict[str, Any], future: dict[str, Any]) -> Any:
        """Return a batch, or what stands for one, as it is handed out."""
        if self._label is not None:
            shown = {name: each for name, each in past.items() if name != self._label}
            return shown if self._hides else past, future[self._label]
        return (past, future) if self._reading.rules.horizon else past

    def as_columns(self) -> Iterator[tuple[Columns, Columns]]:
        """Yield batches as two dicts, the past of rows and what is behind them."""
        held: list[Columns] = []
        lacking = self._size
        for found in self._reading.found():
            at, count = 0, len(found.rows)
            while count - at >= lacking:
                held.append(found.columns_of(at, at + lacking))
                yield self._parted(held)
                at, held, lacking = at + lacking, [], self._size
            if at < count:
                held.append(found.columns_of(at, count))
                lacking -= count - at
        if held and not self._drops:
            yield self._parted(held)

    def _parted(self, held: list[Columns]) -> tuple[Columns, Columns]:
        whole = join_arrays(held) if len(held) > 1 else held[0]
        length = self._reading.rules.length
        past = {name: column[:, :length] for name, column in whole.items()}
        return past, {name: column[:, length:] for name, column in whole.items()}


class _Rows(NamedTuple):
    """Rows of keys, which have numbers, in whatever order."""

    keys: npt.NDArray[np.int64]
    order: npt.NDArray[Any]
    columns: Columns

    def taken(self, places: npt.NDArray[np.int64]) -> _Rows:
        columns = {name: column[places] for name, column in self.columns.items()}
        return _Rows(self.keys[places], self.order[places], columns)


class _Found(NamedTuple):
    """Sequences: for each of them the places of its rows in ``columns``."""

    columns: Columns
    rows: npt.NDArray[np.int64]
    """The first row of each, in the order of keys."""
    sorted: npt.NDArray[np.int64]
    span: int

    def columns_of(self, start: int, stop: int) -> Columns:
        """Return sequences ``[start, stop)``."""
        places = self.sorted[self.rows[start:stop, np.newaxis] + np.arange(self.span)]
        return {name: column[places] for name, column in self.columns.items()}


class _Open(NamedTuple):
    """What goes on from window to window.

    ``rows`` are those that a sequence to come may have. Of each key: how many rows of it come
    before the next sequence begins, if none is kept, and where its last row is in the order.
    """

    rows: _Rows
    skips: npt.NDArray[np.int64]
    last: npt.NDArray[Any]


class _Reading(NamedTuple):
    """Reads a view's sequences, window by window."""

    sequence: RowSequence
    ordered: OrderedWindows
    arrays: Arrays
    rules: SequenceRules
    gap: float | None

    def found(self) -> Iterator[_Found]:
        """Yield the sequences that each window completes."""
        numbers: dict[tuple[Any, ...], int] = {}
        before: _Open | None = None
        for pieces in self.ordered.windows:
            rows = self._read(pieces, numbers)
            if not len(rows.keys):
                continue
            found, before = self._completed(before or _nothing(rows), rows, len(numbers))
            yield found

    def _read(self, pieces: Sequence[int], numbers: dict[tuple[Any, ...], int]) -> _Rows:
        """Read the rows of a window, those of the shard; its new keys get numbers."""
        fields, rules = self.sequence.unified.fields, self.rules
        tops = [split_path(name, fields.__contains__)[0] for name in rules.by]
        schema = self.arrays.schema
        for name in dict.fromkeys([*tops, self.ordered.path[0]]):
            if name not in schema.names:
                schema = schema.append(pa.field(name, fields[name]))
        counts = self.sequence.rows
        slices = [Slice(piece, 0, counts[piece]) for piece in pieces if counts[piece]]
        table = self.sequence.load(slices, schema)
        if rules.side is not None:
            table = table.filter(pa.array(rules.side.chosen(table)))
        order = self._order(leaf_at(table, self.ordered.path))
        columns = self.arrays.of(table.select(self.arrays.schema.names))
        return _Rows(_numbered(table, rules.by, numbers), order, columns)

    def _order(self, column: pa.ChunkedArray) -> npt.NDArray[Any]:
        if pc.any(pc.is_null(column, nan_is_null=True)).as_py():
            name = self.rules.order_by
            message = (
                f"order_by={name} has nulls or NaN, which have no place in an order; leave them "
                f"out with where(pc.field({name!r}).is_valid())"
            )
            raise CollectionError(message)
        if pa.types.is_timestamp(column.type):
            column = column.cast(pa.int64())
        found = column.to_numpy()
        return found if found.dtype == np.uint64 or found.dtype.kind == "f" else found.astype("i8")

    def _completed(self, before: _Open, new: _Rows, known: int) -> tuple[_Found, _Open]:
        """Return the sequences that ``new`` rows complete, and what goes on behind them."""
        held, stride, span = before.rows, self.rules.stride, self.rules.span
        rows = _Rows(
            np.concatenate([held.keys, new.keys]),
            np.concatenate([held.order, new.order]),
            join_arrays([held.columns, new.columns]),
        )
        by_key = np.lexsort((rows.order, rows.keys))
        keys, order = rows.keys[by_key], rows.order[by_key]
        is_new = by_key >= len(held.keys)
        first = np.concatenate([[True], keys[1:] != keys[:-1]])
        steps = np.concatenate([[False], self._is_gap(order[:-1], order[1:])])
        begins = np.flatnonzero(first | steps)
        ends = np.concatenate([begins[1:], [len(keys)]])
        self._check_goes_on(before, keys, order, first, is_new)

        skips = np.zeros(len(begins), np.int64)
        goes_on = first[begins] & is_new[begins] & (keys[begins] < len(before.last))
        at = begins[goes_on]
        is_near = ~self._is_gap(before.last[keys[at]], order[at])
        skips[goes_on] = before.skips[keys[at]] * is_near
        counts = np.maximum((ends - begins - skips - span) // stride + 1, 0)
        starts = _ranges(begins + skips, counts, stride)
        starts = starts[np.lexsort((keys[starts], order[starts + span - 1]))]
        nexts = begins + skips + counts * stride

        is_last = np.concatenate([first[begins[1:]], [True]])
        nexts, ends = nexts[is_last], ends[is_last]
        kept = _ranges(np.minimum(nexts, ends), np.maximum(ends - nexts, 0), 1)
        lacking = known - len(before.last)
        next_skips = np.concatenate([before.skips, np.zeros(lacking, np.int64)])
        last = np.concatenate([before.last, np.zeros(lacking, order.dtype)])
        next_skips[keys[ends - 1]] = np.maximum(nexts - ends, 0)
        last[keys[ends - 1]] = order[ends - 1]
        found = _Found(rows.columns, starts, by_key, span)
        return found, _Open(rows.taken(by_key[kept]), next_skips, last)

    def _is_gap(self, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> npt.NDArray[np.bool_]:
        if self.gap is None:
            return np.zeros(len(after), np.bool_)
        if after.dtype.kind == "f":
            found: npt.NDArray[np.bool_] = after - before > self.gap
        else:  # no difference is too large for it
            found = after.view(np.uint64) - before.view(np.uint64) > self.gap
        return found

    def _check_goes_on(
        self,
        before: _Open,
        keys: npt.NDArray[np.int64],
        order: npt.NDArray[Any],
        first: npt.NDArray[np.bool_],
        is_new: npt.NDArray[np.bool_],
    ) -> None:
        """Refuse rows that come before those of an earlier window."""
        is_back = ~first[1:] & ~is_new[1:] & is_new[:-1]
        at = np.flatnonzero(first & is_new & (keys < len(before.last)))
        if is_back.any() or (order[at] < before.last[keys[at]]).any():
            name = self.rules.order_by
            message = (
                f"order_by={name} goes back from one window of the collection to the next; order "
                "sequences by the time that its windows are of"
            )
            raise CollectionError(message)


def _nothing(rows: _Rows) -> _Open:
    none = np.zeros(0, np.int64)
    return _Open(rows.taken(none), none, rows.order[:0])


def _ranges(
    starts: npt.NDArray[np.int64], counts: npt.NDArray[np.int64], step: int
) -> npt.NDArray[np.int64]:
    """Return ``counts`` numbers from each of ``starts`` on."""
    ends = np.cumsum(counts)
    within = np.arange(int(counts.sum())) - np.repeat(ends - counts, counts)
    return np.repeat(starts, counts) + within * step


def _numbered(
    rows: pa.Table, by: Sequence[str], numbers: dict[tuple[Any, ...], int]
) -> npt.NDArray[np.int64]:
    """Return the number of each row's key; new ones get the next, as they come."""
    mixed = np.zeros(rows.num_rows, np.int64)
    columns = []
    for name in by:
        column = leaf(rows, name)
        values = pc.unique(column)
        codes = pc.index_in(column, values).to_numpy().astype(np.int64)
        _, mixed = np.unique(mixed * max(len(values), 1) + codes, return_inverse=True)
        columns.append(column)
    _, firsts, mixed = np.unique(mixed, return_index=True, return_inverse=True)
    keys = [column.take(pa.array(firsts)).to_pylist() for column in columns]
    found = list(zip(*keys, strict=True))
    for place in np.argsort(firsts).tolist():
        numbers.setdefault(found[place], len(numbers))
    return np.array([numbers[key] for key in found], np.int64)[mixed]


def _longer(spec: Spec, rows: int) -> Spec:
    return spec._replace(shape=(rows, *spec.shape))
