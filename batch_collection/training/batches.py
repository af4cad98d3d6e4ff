"""Exact batches over a snapshot: across files, shuffled, sharded, resumable.

Arrow, numpy, TensorFlow and PyTorch batches all come from here; they differ in what a block of rows
is turned into before batches are cut from it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, Protocol, TypeAlias, TypedDict, TypeVar

import numpy as np

from batch_collection.errors import CollectionError
from batch_collection.given import count_of, parts_of, public_names, whole_number
from batch_collection.parallel import ahead
from batch_collection.reading.order import blocks, permutation, shard_range, worker_range
from batch_collection.reading.ordered_windows import OrderedWindows
from batch_collection.schema.arrow import concatenated
from batch_collection.schema.taking import taken
from batch_collection.training.arrays import ArrayRules, Arrays

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    import numpy.typing as npt
    import pyarrow as pa

    from batch_collection.reading.order import Block, Slice
    from batch_collection.reading.row_sequence import RowSequence

__all__ = [
    "BLOCK_BYTES",
    "BLOCK_ROWS",
    "ArrayOptions",
    "BatchOptions",
    "BatchRules",
    "Batches",
    "ColumnOptions",
    "Columns",
    "arrays_of",
    "arrow_batches",
    "check_names",
    "check_same",
    "cut_arrays",
    "join_arrays",
    "numpy_batches",
]


BLOCK_ROWS = 128 * 1024
"""Rows read at once where rows are not shuffled; a collector's row groups have as many."""

BLOCK_BYTES = 32 << 20
"""Bytes read at once there, but for one row group at least; so many a thread reads ahead."""

_PAIR = 2

_Cut = TypeVar("_Cut")

Columns: TypeAlias = "dict[str, npt.NDArray[Any]]"
"""Arrays by column; all have as many rows."""


class BatchOptions(TypedDict, total=False):
    """How rows are cut in batches; see ``BatchRules``."""

    drop_remainder: bool
    order_by: str | None
    shuffle: int | None
    shuffle_buffer: int
    shard: tuple[int, int]
    repeat: int | None
    prefetch: int


class ColumnOptions(TypedDict, total=False):
    """How columns become arrays; see ``arrays.ArrayRules``."""

    columns: Sequence[str] | None
    exclude: Sequence[str]
    casts: Mapping[str, str | pa.DataType]
    fill: Mapping[str, Any]
    mask: Sequence[str]
    lengths: Mapping[str, int]
    time_zone: str | None


class ArrayOptions(BatchOptions, ColumnOptions, total=False):
    """How rows are cut in batches, and how columns become arrays."""


@dataclass(frozen=True, slots=True)
class BatchRules:
    """How rows are cut in batches.

    Args:
        batch_size: The rows of each batch; the last one of an epoch has what is left.
        drop_remainder: Leave that one out; all shards then have equally many batches.
        order_by: A column by which the rows of each window are sorted, as ``_timestamp``; a window
            is in memory then. None: as they were committed.
        shuffle: A seed. The row groups of all files are put in random order, and the rows of as
            many as make ``shuffle_buffer`` rows are mixed; another order each epoch. None: by
            window.
        shuffle_buffer: Rows that are mixed; so many, and one row group more, are in memory.
        shard: ``(index, count)``: every row is in one shard, and shards differ by one row at most.
        repeat: Epochs; None: without end.
        prefetch: Threads that read ahead, each a block: 128 Ki rows or 32 MiB, one row group at
            least, or a shuffle buffer. Fewer where blocks are larger than that; 0: none.
    """

    batch_size: int
    drop_remainder: bool = False
    shuffle: int | None = None
    shuffle_buffer: int = 2 * BLOCK_ROWS
    shard: tuple[int, int] = (0, 1)
    repeat: int | None = 1
    prefetch: int = 2
    order_by: str | None = None

    def __post_init__(self) -> None:
        """Refuse what makes no sense.

        Raises:
            CollectionError: names the option.
        """
        self._normalize()
        index, count = self.shard
        for good, message in (
            (self.batch_size >= 1, f"batch_size must be at least 1, got {self.batch_size}"),
            (
                self.shuffle_buffer >= 1,
                f"shuffle_buffer must be at least 1, got {self.shuffle_buffer}",
            ),
            (
                0 <= index < count,
                f"shard must be (index, count) with an index from 0 to count - 1, got {self.shard}",
            ),
            (
                self.repeat is None or self.repeat >= 1,
                f"repeat must be at least 1, or None for no end, got {self.repeat}",
            ),
            (self.prefetch >= 0, f"prefetch must be at least 0, got {self.prefetch}"),
            (
                isinstance(self.drop_remainder, bool),
                f"drop_remainder must be True or False, got {self.drop_remainder!r}",
            ),
            (
                self.order_by is None or isinstance(self.order_by, str),
                f"order_by must be the name of a column, got {self.order_by!r}",
            ),
            (
                self.order_by is None or self.shuffle is None,
                "order_by and shuffle are two orders; leave one of them out",
            ),
        ):
            if not good:
                raise CollectionError(message)

    def _normalize(self) -> None:
        """Make integers of what is none of Python's: they stand in states, which are JSON."""
        for name in ("batch_size", "shuffle", "shuffle_buffer", "repeat", "prefetch"):
            given = getattr(self, name)
            if given is None and name in {"shuffle", "repeat"}:
                continue
            if name == "shuffle" and isinstance(given, bool):
                message = f"shuffle must be a seed, as 1, or None for no shuffle, got {given}"
                raise CollectionError(message)
            object.__setattr__(self, name, whole_number(name, given))
        if not isinstance(self.shard, Sequence) or len(self.shard) != _PAIR:
            message = f"shard must be (index, count), got {self.shard!r}"
            raise CollectionError(message)
        object.__setattr__(self, "shard", tuple(whole_number("shard", n) for n in self.shard))


class _Rows(Protocol):
    """Rows in an order, in pieces each of which can be read alone."""

    @property
    def rows(self) -> Sequence[int]:
        """How many rows each piece has."""

    def in_turn(self) -> Iterator[int]:
        """Yield the pieces, by their numbers."""

    def rows_of(self, piece: int) -> int:
        """Return how many rows a piece has that was come to: not all need be known for that."""

    def load(self, slices: Sequence[Slice], schema: pa.Schema) -> pa.Table:
        """Read rows, those columns only."""


class _Kind(NamedTuple):
    """What rows are made into, in an order or as they are; how that is cut, how cuts are joined.

    ``handed`` makes of a cut what is handed out.
    """

    made: Callable[[pa.Table, npt.NDArray[np.int64] | None], Any]
    cut: Callable[[Any, int, int], Any]
    join: Callable[[list[Any]], Any]
    handed: Callable[[Any], Any]


class _Place(NamedTuple):
    """Where a block is in an epoch of a shard: which one, and its first row.

    ``own`` are the rows of it that count, from, up to, and whether what is to be one batch ends
    there; without any all count.
    """

    number: int
    first: int
    block: Block
    own: Sequence[tuple[int, int, bool]] = ()


class Batches(Generic[_Cut]):
    """Batches of exactly ``batch_size`` rows, the same ones in the same order each time.

    Each ``for`` over it runs through ``repeat`` epochs; one that ran to its end is followed by the
    next epochs, which are shuffled differently. ``state_dict`` tells the place of the loop that
    began last; after ``load_state_dict`` the next one begins there.

    Example:
        >>> batches = collection.to_numpy_batches(2, columns=["value"])
        >>> [batch["value"].tolist() for batch in batches]
        [[1, 2], [3]]
    """

    def __init__(
        self, sequence: _Rows, schema: pa.Schema, rules: BatchRules, kind: _Kind, view: Any
    ) -> None:
        """Cut the rows of ``sequence``; ``view`` names the snapshot in a state."""
        self.rules = rules
        self._sequence, self._schema, self._kind, self._view = sequence, schema, kind, view
        self._worker = (0, 1)
        self._epoch, self._row, self._until = 0, 0, self._end_after(0)
        self._resumes = False
        self._row_bytes = 0.0  # of a row as it was last read; 0: not known yet

    def __repr__(self) -> str:
        """Say how large they are, and of what; nothing is counted for it."""
        size, columns = self.rules.batch_size, ", ".join(self._schema.names)
        return f"{type(self).__name__}(of {size:,} rows, columns {columns})"

    def __dir__(self) -> list[str]:
        """List what users may call."""
        return public_names(self)

    def for_worker(self, index: int, count: int) -> Batches[_Cut]:
        """Return a loader worker's part: whole batches, those that one loader alone would cut."""
        part: Batches[_Cut] = Batches(
            self._sequence, self._schema, self.rules, self._kind, self._view
        )
        part._worker = (index, count)
        part._begin(self._epoch)
        return part

    def __len__(self) -> int:
        """Return the number of batches of one loop.

        Raises:
            TypeError: it has no end.
        """
        if self.rules.repeat is None:
            message = "batches that repeat without end have no length"
            raise TypeError(message)
        return self.batches_an_epoch * self.rules.repeat

    @property
    def resumes(self) -> bool:
        """Whether the next loop begins at a place that was loaded."""
        return self._resumes

    @property
    def loop_epoch(self) -> int:
        """The first epoch of the loop that the place is in; without end, that of the place."""
        return (
            self._epoch if self._until is None else max(self._until - (self.rules.repeat or 0), 0)
        )

    @property
    def at_loop_start(self) -> bool:
        """Whether nothing of the loop has been handed out."""
        return self._row == 0 and self._epoch == self.loop_epoch

    @property
    def batches_an_epoch(self) -> int:
        """How many batches an epoch has."""
        low, high = self._range()
        return -(-(high - low) // self.rules.batch_size)

    def __iter__(self) -> Iterator[_Cut]:
        """Yield batches."""
        return self.in_groups(1)

    def in_groups(self, count: int | None) -> Iterator[_Cut]:
        """Yield up to ``count`` batches as one, no more than are read at once, of one epoch.

        None: the rows as they are read, whose batches may begin in one part and end in another.
        """
        if not self._resumes:
            self._begin(self._epoch)
        self._resumes = False
        epoch, row, until = self._epoch, self._row, self._until
        while until is None or epoch < until:
            for batch, end in self._cut(epoch, row, count):
                row = end
                self._epoch, self._row, self._until = epoch, row, until
                yield self._kind.handed(batch)
            if not row:  # there is nothing
                break
            epoch, row = epoch + 1, 0
        self._epoch, self._row, self._until = epoch, 0, self._end_after(epoch)

    def skip(self, batches: int) -> None:
        """Let the next loop begin ``batches`` later, those of whole loops among them.

        Raises:
            CollectionError: it is no number of batches.
        """
        skipped = count_of("batches", batches)
        each, begun = self.batches_an_epoch or 1, self._epoch
        if self._resumes:
            begun = self.loop_epoch
            skipped += (self._epoch - begun) * each - (-self._row // self.rules.batch_size)
        epochs, within = divmod(skipped, each)
        done = epochs // self.rules.repeat * self.rules.repeat if self.rules.repeat else 0
        self._until = self._end_after(begun + done)
        self._epoch, self._row = begun + epochs, within * self.rules.batch_size
        self._resumes = True

    def set_epoch(self, epoch: int) -> None:
        """Let the next loop begin with this epoch, counted from 0.

        Raises:
            CollectionError: it is none.
        """
        self._begin(count_of("epoch", epoch))

    def _begin(self, epoch: int) -> None:
        self._epoch, self._row, self._until = epoch, 0, self._end_after(epoch)
        self._resumes = False

    def state_dict(self) -> dict[str, Any]:
        """Return the place after the last batch handed out, as plain JSON values."""
        place = {"epoch": self._epoch, "row": self._row, "until": self._until}
        return {"format": 1, **self._identity(), **place}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Let the next loop begin at a place of batches that are cut just like these.

        Raises:
            CollectionError: they are not, so that the place would be another one.
        """
        epoch, row, until = parts_of(state, ("epoch", "row", "until"), "a state of batches")
        epoch, row = count_of("epoch", epoch), count_of("row", row)
        until = None if until is None else count_of("until", until)
        check_same(state, self._identity())
        self._epoch, self._row, self._until, self._resumes = epoch, row, until, True

    def _identity(self) -> dict[str, Any]:
        rules = self.rules
        names = ("batch_size", "drop_remainder", "shuffle", "shuffle_buffer", "order_by")
        return {
            **self._view,
            **{name: getattr(rules, name) for name in names},
            "shard": list(rules.shard),
            "worker": list(self._worker),
        }

    def _end_after(self, epoch: int) -> int | None:
        return None if self.rules.repeat is None else epoch + self.rules.repeat

    @property
    def _is_all(self) -> bool:
        """Whether every row comes, as it is: then none need be counted before the first batch."""
        rules = self.rules
        others = rules.shard[1] > 1 or self._worker[1] > 1
        return not (others or rules.drop_remainder) and rules.shuffle is None

    def _shard(self) -> tuple[int, int]:
        """Return this shard's rows of an epoch's sequence, without those that are left out."""
        rows, (index, count), size = (
            sum(self._sequence.rows),
            self.rules.shard,
            self.rules.batch_size,
        )
        low, high = shard_range(rows, index, count)
        return low, (low + rows // count // size * size if self.rules.drop_remainder else high)

    def _range(self) -> tuple[int, int]:
        """Return this worker's rows of its shard's."""
        low, high = self._shard()
        return worker_range(high - low, self.rules.batch_size, *self._worker)

    def _cut(self, epoch: int, row: int, count: int | None) -> Iterator[tuple[_Cut, int]]:
        """Yield groups from ``row`` of this worker on, and the row after each: see ``in_groups``.

        Only a batch that begins in one block and ends in another is joined, and that by itself.
        """
        kind, size = self._kind, self.rules.batch_size
        begin, high = (0, sys.maxsize) if self._is_all else self._range()
        at = begin + row
        held: list[Any] = []
        lacking = size
        for first, rows, made in self._blocks(epoch, at, high):
            start, stop = max(at - first, 0), min(high - first, rows)
            while stop - start >= (lacking if count else 1):
                left = stop - start
                taken = lacking * min(left // lacking, 1 if held else count) if count else left
                cut = kind.cut(made, start, start + taken)
                start, at = start + taken, at + taken
                yield kind.join([*held, cut]) if held else cut, at - begin
                held, lacking = [], size
            if start < stop:
                held.append(kind.cut(made, start, stop))
                lacking, at = lacking - (stop - start), at + stop - start
        if held:
            yield kind.join(held) if len(held) > 1 else held[0], at - begin

    def taken(self, epoch: int, parts: Iterator[tuple[int, int]]) -> Iterator[_Cut]:
        """Yield rows ``[start, stop)`` of an epoch's order for each of ``parts``, which go on.

        Nothing is made of the rows between them. The place stays where it is.
        """
        kind = self._kind
        held: list[Any] = []
        for place, made in self._loaded(epoch, self._with_own(epoch, parts)):
            at = 0
            for start, stop, ends in place.own:
                held.append(kind.cut(made, at, at + stop - start))
                at += stop - start
                if ends:
                    yield kind.handed(kind.join(held) if len(held) > 1 else held[0])
                    held = []

    def _with_own(self, epoch: int, parts: Iterator[tuple[int, int]]) -> Iterator[_Place]:
        """Yield the blocks that have rows of ``parts``, and which."""
        part = next(parts, None)
        if part is None:
            return
        for place in self._found(epoch, part[0], self._range()[1]):
            own: list[tuple[int, int, bool]] = []
            first, rows = place.first, place.block.rows
            while part is not None and part[0] < first + rows:
                start, stop = max(part[0] - first, 0), min(part[1] - first, rows)
                ends = stop == part[1] - first
                own.append((start, stop, ends))
                if not ends:
                    break
                part = next(parts, None)
            if own:
                yield place._replace(own=own)
            if part is None:
                return

    def _blocks(self, epoch: int, low: int, high: int) -> Iterator[tuple[int, int, Any]]:
        """Yield the blocks with rows in ``[low, high)`` of the shard: first row, rows, content."""
        for place, made in self._loaded(epoch, self._found(epoch, low, high)):
            yield place.first, place.block.rows, made

    def _loaded(self, epoch: int, places: Iterator[_Place]) -> Iterator[tuple[_Place, Any]]:
        return ahead(
            lambda place: (place, self._read(epoch, place)),
            places,
            self.rules.prefetch,
            self._weight,
        )

    def _found(self, epoch: int, low: int, high: int) -> Iterator[_Place]:
        """Yield the places of these blocks."""
        sequence = self._sequence
        begin, end = (0, high) if self._is_all else self._shard()
        shuffle, size = self.rules.shuffle, self.rules.shuffle_buffer
        first = 0 if shuffle is not None else low
        if shuffle is None:  # any blocks will do
            span = (begin + low, begin + high)
            found = blocks(sequence.rows_of, sequence.in_turn(), *span, self._block_rows)
        else:
            order = permutation(len(sequence.rows), shuffle, epoch).tolist()
            found = blocks(sequence.rows_of, order, begin, end, lambda: size)
        for number, block in enumerate(found):
            if first + block.first < high and first + block.first + block.rows > low:
                yield _Place(number, first + block.first, block)

    def _block_rows(self) -> int:
        """Return how many rows are read at once; what is read first is one piece."""
        return int(min(BLOCK_ROWS, BLOCK_BYTES / self._row_bytes)) if self._row_bytes else 1

    def _weight(self, place: _Place) -> float:
        """Return as how many blocks one counts: all if no row was weighed yet, so it is waited for.

        One is read ahead however large it is.
        """
        if not self._row_bytes:
            return self.rules.prefetch + 1
        return min(max(place.block.rows * self._row_bytes / BLOCK_BYTES, 1), self.rules.prefetch)

    def _read(self, epoch: int, place: _Place) -> Any:
        rows = self._sequence.load(place.block.slices, self._schema)
        self._row_bytes = max(rows.nbytes / max(rows.num_rows, 1), 1)
        order = None
        if self.rules.shuffle is not None:
            key = (self.rules.shuffle, epoch, self.rules.shard[0], place.number + 1)
            order = permutation(rows.num_rows, *key)
        own = [np.arange(start, stop) for start, stop, _ in place.own]
        if own and sum(map(len, own)) < rows.num_rows:
            chosen = np.concatenate(own)
            rows, order = _ordered_table(rows, chosen if order is None else order[chosen]), None
        return self._kind.made(rows, order)


def check_same(state: Mapping[str, Any], identity: Mapping[str, Any]) -> None:
    """Refuse a state that is of another order of rows than this ``identity`` names.

    Raises:
        CollectionError: says in what they differ, and what to do.
    """
    for name, value in identity.items():
        if state.get(name) != value:
            cure = "make the batches as they were made then"
            if name == "cycle":
                cure += f", with open(...).at(cycle={state.get(name)})"
            if name == "expired":
                cure = "rows that it counts are gone; begin anew"
            message = f"the state was saved with {name}={state.get(name)}, this has {value}; {cure}"
            raise CollectionError(message)


def check_names(options: Mapping[str, Any], known: type) -> None:
    """Refuse options that nobody knows.

    Raises:
        CollectionError: names them, and those there are.
    """
    names = _names(known)
    unknown = sorted(set(options) - names)
    if unknown:
        message = f"unknown option {', '.join(unknown)}; there are: {', '.join(sorted(names))}"
        raise CollectionError(message)


def _names(options: type) -> set[str]:
    return {name for each in options.__mro__ for name in getattr(each, "__annotations__", {})}


def arrow_batches(
    sequence: RowSequence, schema: pa.Schema, rules: BatchRules, view: Any
) -> Batches[pa.Table]:
    """Return tables, which share the memory of what was read: nothing is copied.

    Raises:
        CollectionError: there is no column to order by.
    """
    kind = _Kind(_ordered_table, _cut_table, concatenated, _as_it_is)
    return Batches(_ordered(sequence, rules), schema, rules, kind, view)


def numpy_batches(
    sequence: RowSequence,
    arrays: Arrays,
    rules: BatchRules,
    view: Any,
    *,
    handed: Callable[[Columns], Any] | None = None,
) -> Batches[Any]:
    """Return batches of arrays; those within one block share its memory.

    With a label they are ``(features, label)``, or what ``handed`` makes of each.

    Raises:
        CollectionError: there is no column to order by.
    """
    kind = _Kind(arrays.of, cut_arrays, join_arrays, handed or arrays.labelled)
    return Batches(_ordered(sequence, rules), arrays.schema, rules, kind, view)


def _ordered(sequence: RowSequence, rules: BatchRules) -> _Rows:
    return sequence if rules.order_by is None else OrderedWindows.of(sequence, rules.order_by)


def arrays_of(
    sequence: RowSequence, options: Mapping[str, Any], where: str, label: str | None
) -> tuple[Arrays, dict[str, Any]]:
    """Settle the columns that options ask for; return what is left of these: how to cut.

    Raises:
        CollectionError: an option is unknown, a column is none, or it has nulls and nothing is to
            stand for them.
    """
    check_names(options, ArrayOptions)
    names = {each.name for each in fields(ArrayRules)}
    given = {name: value for name, value in options.items() if name in names}
    rules = ArrayRules(**given, label=label)
    left = {name: value for name, value in options.items() if name not in names}
    arrays = Arrays(rules, sequence.unified, where)
    arrays.check_nulls(sequence.first_with_null)
    return arrays, left


def _ordered_table(rows: pa.Table, order: npt.NDArray[np.int64] | None) -> pa.Table:
    return rows if order is None else taken(rows, order)


def _cut_table(rows: pa.Table, start: int, stop: int) -> pa.Table:
    return rows.slice(start, stop - start)


def _as_it_is(rows: pa.Table) -> pa.Table:
    return rows


def cut_arrays(rows: Columns, start: int, stop: int) -> Columns:
    """Return rows ``[start, stop)``, which share memory with all."""
    return {name: column[start:stop] for name, column in rows.items()}


def join_arrays(cuts: list[Columns]) -> Columns:
    """Return the rows of cuts, one after the other."""
    return {name: np.concatenate([cut[name] for cut in cuts]) for name in cuts[0]}
