"""How a collection is read: the batches that its log names, in order, and nothing else."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any, overload

import pyarrow as pa
import pyarrow.compute as pc

from batch_collection.checkpoints.batch_table import batches_in
from batch_collection.checkpoints.listing import hidden, listing
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.counted import counted
from batch_collection.errors import CollectionError, ExpiredError
from batch_collection.field_path import split_path
from batch_collection.given import names, public_names, whole_number
from batch_collection.loading import extra
from batch_collection.log.batch import batches_of
from batch_collection.log.entries import newest_entry, no_collection, read_entry
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.reading.cursor import Cursor
from batch_collection.reading.dataset import dataset_of, rows_of
from batch_collection.reading.filters import Filter
from batch_collection.reading.following import Following
from batch_collection.reading.row_sequence import RowSequence
from batch_collection.reading.splits import leaf_type, sides
from batch_collection.schema.arrow import joined
from batch_collection.schema.files import type_text
from batch_collection.storage.opening import open_storage
from batch_collection.training.batches import (
    ArrayOptions,
    BatchOptions,
    BatchRules,
    arrays_of,
    arrow_batches,
    check_names,
    numpy_batches,
)
from batch_collection.training.followed import Followed
from batch_collection.training.sequences import SequenceRules, Sequences
from batch_collection.view_html import html_of
from batch_collection.view_spec import ViewSpec, fingerprint_of
from batch_collection.windows import EPOCH, format_instant, parse_duration, parse_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import duckdb
    import numpy.typing as npt
    import pandas as pd
    import polars as pl
    import pyarrow.dataset as ds
    import tensorflow as tf
    from typing_extensions import Unpack

    from batch_collection.formats.told import Outline
    from batch_collection.log.batch import Batch
    from batch_collection.log.entry import Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.reading.splits import Side
    from batch_collection.storage.contract import Storage
    from batch_collection.training.batches import Batches, Columns
    from batch_collection.training.loader import Loader, LoaderOptions
    from batch_collection.training.to_torch import TorchBatches

__all__ = ["Collection", "Window", "open", "open_spec"]


@dataclass(frozen=True, slots=True, repr=False)
class Window:
    """What a collection holds of one window; ``is_closed``: all that was in time is there."""

    start: datetime
    end: datetime
    rows: int
    is_closed: bool
    batches: tuple[Batch, ...]

    def __repr__(self) -> str:
        """Say when it was, and what is there."""
        span = f"{format_instant(self.start)} to {format_instant(self.end)}"
        held = f"{counted(self.rows, 'row')} in {counted(len(self.batches), 'batch')}"
        return f"Window({span}; {held}, {'closed' if self.is_closed else 'open'})"

    def __dir__(self) -> list[str]:
        """List what users may call."""
        return public_names(self)


class Collection:
    """A consistent view of a collection: all that was committed when it was opened, and no more.

    What ``expire`` has deleted is not there, in no view. If that happens while a view is used,
    reading what is gone is an ``ExpiredError``.

    Iterating yields its batches in the order of the log. All that reads rows gives them in the
    order of their windows, a window's files as one sequence: the same rows in the same order for
    the same cycle, whatever is collected meanwhile.

    Batches are files, and whole: a view of some of their rows, one side of a split or what a filter
    leaves, is read by rows only. It has windows, and their rows.

    Two views are equal if they are of one place and cycle, and narrowed alike.

    Example:
        >>> collection = batch_collection.open("collected/orders")
        >>> collection.rows, len(collection), len(collection.windows())
        (3, 2, 2)
        >>> collection.table(["value"]).column("value").to_pylist()
        [1, 2, 3]
        >>> collection == batch_collection.open("collected/orders")
        True
    """

    def __init__(
        self,
        storage: Storage,
        newest: Entry,
        narrowing: Narrowing | None = None,
        sides: tuple[Side, ...] = (),
        filters: tuple[Filter, ...] = (),
    ) -> None:
        """Show what the log of ``storage`` names up to ``newest``: some windows, some rows."""
        self._storage, self.newest, self._sides, self._filters = storage, newest, sides, filters
        self._narrowing = narrowing or Narrowing()
        self._listed: pa.Table | None = None
        self._expiry: Expiry | None = None  # that the batches were listed under
        self._rows: RowSequence | None = None
        self._known_outlines: dict[str, Outline] = {}

    def __iter__(self) -> Iterator[Batch]:
        """Yield all batches.

        Raises:
            CollectionError: this view has only some rows of them.
        """
        self._check_whole_files()
        return self._batches()

    def __len__(self) -> int:
        """Return how many batches there are.

        Raises:
            CollectionError: this view has only some rows of them.
        """
        self._check_whole_files()
        return int(self._listing().num_rows)

    def __bool__(self) -> bool:
        """Return whether there are batches, whatever rows of them."""
        return bool(self._listing().num_rows)

    def __eq__(self, other: object) -> bool:
        """Tell whether another view is of the same place and cycle, and narrowed alike."""
        return self._identity == other._identity if isinstance(other, Collection) else False

    def __hash__(self) -> int:
        """Return the same for equal views."""
        return hash(self._identity)

    def __dir__(self) -> list[str]:
        """List what users may call."""
        return public_names(self)

    def __repr__(self) -> str:
        """Name the collection and where the view ends, and say what is in it."""
        try:
            facts = self._facts()
        except CollectionError:  # expired meanwhile, say: whoever reads is told
            return self._name
        return (
            f"{self._name[:-1]}; {facts.pop('rows')}{''.join(map(', {}'.format, facts.values()))})"
        )

    def _repr_html_(self) -> str:
        """Return what notebooks show; as ``repr``, of the log alone: no file is read for it."""
        try:
            facts, batches = self._facts(), self._in_order()
        except CollectionError as error:
            return html_of(self._name, {"error": str(error)}, {}, ())
        columns = {name: type_text(each) for name, each in self.newest.schema.items()}
        return html_of(self._name, facts, columns, batches)

    @property
    def rows(self) -> int:
        """How many rows there are; of a split or a filter, its columns are read for that."""
        if self._is_part:
            return sum(self._sequence().rows)
        return pc.sum(self._listing().column("rows")).as_py() or 0

    @property
    def schema(self) -> pa.Schema:
        """The columns of all rows, as ``to_arrow`` gives them: those that any file has.

        Footers are read, no rows. A view without rows has the columns of its snapshot.

        Raises:
            CollectionError: two files give one column types that no type holds exactly.
        """
        return self._schema(None)

    @property
    def sides(self) -> tuple[Side, ...]:
        """The sides of splits that this view is narrowed to."""
        return self._sides

    def windows(self) -> tuple[Window, ...]:
        """Return the windows that have batches, by time.

        Of a split or a filter, ``rows`` are those of the view, none perhaps; ``batches`` are whole.

        Example:
            >>> [(window.start.minute, window.rows) for window in collection.windows()]
            [(30, 2), (31, 1)]
        """
        batches = self._in_order()
        rows = self._sequence().rows_of_batches if self._is_part else [one.rows for one in batches]
        by_start: dict[datetime, list[tuple[Batch, int]]] = {}
        for batch, count in zip(batches, rows, strict=True):
            by_start.setdefault(batch.window_start, []).append((batch, count))
        return tuple(map(self._window, by_start.values()))

    def in_window_order(self) -> tuple[Batch, ...]:
        """Return the batches by window, those of one window as the log has them.

        Raises:
            CollectionError: this view has only some rows of them.
        """
        self._check_whole_files()
        return self._in_order()

    def fingerprint(self) -> str:
        """Return a hash that is the same for the same rows, whoever asks, and no other's.

        It is of the files that the log names, of what splits and filters leave of them, and of the
        types of columns; not of what was collected elsewhere, nor of how windows were chosen.
        Footers are read for it, no rows.
        """
        return fingerprint_of(self._sequence(), self._sides, self._filters)

    def spec(self) -> dict[str, Any]:
        """Return what this view is as plain JSON values, for ``open_spec``."""
        return ViewSpec(
            self._storage.uri,
            self.newest.cycle,
            self._narrowing,
            self._sides,
            tuple(self._distinct().values()),
            self.fingerprint(),
        ).as_json()

    # narrower views

    def whole(self) -> Collection:
        """Return all that was committed then, whatever this view is narrowed to."""
        return Collection(self._storage, self.newest)

    def at(self, cycle: int) -> Collection:
        """Return the view as it was when a cycle had been committed.

        Raises:
            ExpiredError: the log has its entry no more.
            LogError: the log has no entry of that cycle.
        """
        entry = read_entry(self._storage, whole_number("cycle", cycle))
        narrowing = self._narrowing
        if narrowing.boundary is not None:  # less was closed then
            narrowing = narrowing.closed(entry.boundary or EPOCH)
        found = Collection(self._storage, entry, narrowing, self.sides, self._filters)
        found._known_outlines = self._known_outlines
        return found

    def between(
        self, start: datetime | str | None = None, end: datetime | str | None = None
    ) -> Collection:
        """Return the windows that lie in ``[start, end)``, whole; None: no bound.

        Text is RFC 3339: ``2026-11-22T10:00Z``.

        Example:
            >>> collection.between("2026-11-22T10:31Z").rows
            1
        """
        return self._narrowed(self._narrowing.between(_instant(start), _instant(end)))

    def complete(self) -> Collection:
        """Return the closed windows: all of their rows that were in time are there."""
        return self._narrowed(self._narrowing.closed(self.newest.boundary or EPOCH))

    def since(self, cycle: int) -> Collection:
        """Return what was committed after a cycle: late rows of older windows, too.

        A loader's state says the cycle of its view: ``view.since(state["cycle"])`` is what has come
        since it was saved.
        """
        cycle = whole_number("cycle", cycle)
        if not 0 <= cycle <= self.newest.cycle:
            message = f"cycle must be 0 to {self.newest.cycle}, the view's own, got {cycle}"
            raise CollectionError(message)
        return self._narrowed(self._narrowing.after(cycle))

    def last(self, span: timedelta | str) -> Collection:
        """Return the closed windows of the last ``span``, as ``7d``, whole.

        It is counted back from where windows are closed up to in this view, not from now: the same
        view gives the same windows at any time.

        Raises:
            CollectionError: it is no duration.
        """
        boundary, length = self.newest.boundary, _span(span)
        return self.complete().between(None if boundary is None else boundary - length)

    def where(self, where: pc.Expression) -> Collection:
        """Return the rows for which an expression holds, as ``pc.field("value") > 1``.

        The columns that it names are read once for that, of the row groups whose statistics let it
        hold. It does not hold for null. A column that some files lack is null there.

        Example:
            >>> import pyarrow.compute as pc
            >>> collection.where(pc.field("value") > 1).rows
            2

        Raises:
            CollectionError: it is no question about the columns of this view.
        """
        found = self._narrowed(self._narrowing, filters=(*self._filters, Filter.of(where)))
        found._sequence()  # noqa: SLF001 - one of this class
        return found

    def split(
        self, fractions: Mapping[str, float], by: str | Sequence[str], salt: str = ""
    ) -> dict[str, Collection]:
        """Return a view of its own for each name, with about that fraction of the keys.

        A hash of its key tells a row's side: no key is on two sides, and none changes sides as data
        grows. Rows without a key count as one key. A part may be split again, by the same key or
        another one.

        Args:
            fractions: As ``{"train": 0.8, "valid": 0.1, "test": 0.1}``, 1 together or less.
            by: The key: a column, several, or fields of one (``place.x``, ``place."a.b"``).
            salt: Another text makes another split.

        Example:
            >>> parts = collection.split({"train": 0.8, "test": 0.2}, by="value")
            >>> parts["train"].rows + parts["test"].rows
            3

        Raises:
            CollectionError: the fractions are more than a whole, or there is no such column.
        """
        keys = (by,) if isinstance(by, str) else tuple(names("by", by))
        for key in keys:
            self._check_key(key)
        if not isinstance(salt, str):
            message = f"salt must be text, got {salt!r}"
            raise CollectionError(message)
        salt += "+" * len(self.sides)  # else a part would be split just where it was before
        return {
            name: self._narrowed(self._narrowing, sides=(*self.sides, side))
            for name, side in sides(fractions, keys, salt).items()
        }

    def split_by_time(
        self,
        names: Sequence[str],
        at: Sequence[datetime | str],
        gap: timedelta | str = timedelta(0),
    ) -> dict[str, Collection]:
        """Return a view for each name: windows before the first instant, between two, after all.

        Windows less than ``gap``, as ``1h``, after an instant are on no side, nor is one across an
        instant.

        Raises:
            CollectionError: there is not one instant less than names, or they do not rise.
        """
        instants = [instant for each in at if (instant := _instant(each)) is not None]
        if len(names) != len(instants) + 1 or instants != sorted(set(instants)):
            message = (
                f"{len(names)} names need {len(names) - 1} rising instants between them, "
                f"got {', '.join(map(format_instant, instants)) or 'none'}"
            )
            raise CollectionError(message)
        least = _duration("gap", gap)
        starts = [None, *(instant + least for instant in instants)]
        ends = [*instants, None]
        return {
            name: self.between(start, end)
            for name, start, end in zip(names, starts, ends, strict=True)
        }

    # all rows

    def head(self, rows: int = 5) -> pa.Table:
        """Return the first rows, by window; only the first files are read for it.

        Example:
            >>> collection.head(2).column("value").to_pylist()
            [1, 2]

        Raises:
            CollectionError: as ``table``.
        """
        whole_number("rows", rows)
        schema = self._schema(None)
        found, left = list[pa.Table](), rows
        for table in self._sequence().tables(schema):
            if left <= 0:
                break
            found.append(table.slice(0, left))
            left -= found[-1].num_rows
        return joined(found, schema)

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return all rows; a column that a file lacks is null in its rows.

        Raises:
            CollectionError: no file has such a column, or two files give one column types that no
                type holds exactly.
        """
        return self.to_arrow(columns)

    def to_arrow(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pa.Table:
        """Return rows as a table, those for which ``where`` holds, as ``pc.field("value") > 1``.

        Raises:
            CollectionError: no file has such a column, or two files give one column types that no
                type holds exactly.
        """
        if where is not None:
            return self.where(where).to_arrow(columns)
        return rows_of(self._sequence(), self._schema(columns))

    def to_pandas(
        self, columns: Sequence[str] | None = None, where: pc.Expression | None = None
    ) -> pd.DataFrame:
        """Return rows as a pandas data frame.

        Raises:
            CollectionError: as ``to_arrow``, or pandas is not installed.
        """
        extra("pandas")
        return self.to_arrow(columns, where).to_pandas()

    def to_polars(self) -> pl.LazyFrame:
        """Return rows as a Polars lazy frame, which reads what its query needs.

        Some rows of files, of a split or a filter, are read at once, with all columns.

        Raises:
            CollectionError: as ``scan``, or Polars is not installed.
        """
        polars = extra("polars")
        if self._is_part:
            return polars.from_arrow(self.to_arrow()).lazy()
        return polars.scan_pyarrow_dataset(self.scan())

    def to_duckdb(
        self, connection: duckdb.DuckDBPyConnection | None = None
    ) -> duckdb.DuckDBPyRelation:
        """Return rows as a DuckDB relation, which reads what its query needs.

        Some rows of files, of a split or a filter, are read at once, with all columns, and so is
        all from Cloud Storage: a scan there that a ``LIMIT`` ends early could hang in pyarrow.

        Raises:
            CollectionError: as ``scan``, or DuckDB is not installed.
        """
        module = extra("duckdb")
        is_scanned = not (self._is_part or self._storage.is_far)
        source = self.scan() if is_scanned else self.to_arrow()
        return (connection or module).from_arrow(source)

    def scan(self, columns: Sequence[str] | None = None) -> ds.Dataset:
        """Return exactly the files of this view as a ``pyarrow.dataset`` of these columns.

        From Cloud Storage read its scans to their ends: pyarrow can hang where one is dropped.

        Raises:
            CollectionError: as ``to_arrow``; or this view has only some rows of its files.
        """
        return dataset_of(self._sequence(), self._schema(columns))

    # batches for training

    def to_arrow_batches(
        self,
        batch_size: int,
        columns: Sequence[str] | None = None,
        **options: Unpack[BatchOptions],
    ) -> Batches[pa.Table]:
        """Return tables of exactly ``batch_size`` rows; options as ``BatchRules`` has them.

        Raises:
            CollectionError: as ``to_arrow``, or an option makes no sense.
        """
        check_names(options, BatchOptions)
        rules = BatchRules(batch_size, **options)
        return arrow_batches(self._sequence(), self._schema(columns), rules, self._view())

    @overload
    def to_numpy_batches(
        self, batch_size: int, *, label: None = None, **options: Unpack[ArrayOptions]
    ) -> Batches[Columns]: ...

    @overload
    def to_numpy_batches(
        self, batch_size: int, *, label: str, **options: Unpack[ArrayOptions]
    ) -> Batches[tuple[Columns, npt.NDArray[Any]]]: ...

    def to_numpy_batches(
        self, batch_size: int, *, label: str | None = None, **options: Unpack[ArrayOptions]
    ) -> Batches[Any]:
        """Return batches as dicts: column -> array; options as ``BatchRules``, ``ArrayRules``.

        Text and bytes are arrays of objects, instants ``datetime64[us]``, lists of any length
        arrays of arrays. With a ``label``, a column, a batch is ``(features, label)``: a dict of
        the others, and its array.

        Example:
            >>> batches = collection.to_numpy_batches(2, columns=["value"], drop_remainder=True)
            >>> [batch["value"].tolist() for batch in batches]
            [[1, 2]]

        Raises:
            CollectionError: as ``to_arrow``, an option makes no sense, or no array can hold a
                column; while reading: a null or a value does not fit in.
        """
        sequence = self._sequence()
        arrays, left = arrays_of(sequence, options, self._storage.uri, label)
        return numpy_batches(sequence, arrays, BatchRules(batch_size, **left), self._view())

    def to_torch(
        self, batch_size: int, *, label: str | None = None, **options: Unpack[ArrayOptions]
    ) -> TorchBatches:
        """Return batches as an ``IterableDataset`` of dicts: column -> tensor.

        Options as ``to_numpy_batches``. Text and bytes are lists, instants int64 microseconds.
        Give it to ``DataLoader(..., batch_size=None)``: threads read ahead, so it needs no workers.

        Raises:
            CollectionError: as ``to_numpy_batches``, or PyTorch is not installed.
        """
        extra("torch")
        module = extra("batch_collection.training.to_torch", "torch")
        batches: Batches[Any] = self.to_numpy_batches(batch_size, label=label, **options)
        return module.TorchBatches(batches)

    def loader(
        self, batch_size: int, *, label: str | None = None, **options: Unpack[LoaderOptions]
    ) -> Loader:
        """Return a loader for PyTorch whose place any number of ranks and workers can go on from.

        Options as ``LoaderRules``, ``BatchRules`` and ``ArrayRules``; batches as ``to_torch``.

        Raises:
            CollectionError: as ``to_torch``.
        """
        extra("torch")
        module = extra("batch_collection.training.loader", "torch")
        return module.loader_of(
            self._sequence(), batch_size, options, label, view=self._view(), where=self._storage.uri
        )

    def to_tf(
        self,
        batch_size: int,
        *,
        label: str | None = None,
        state: Mapping[str, Any] | None = None,
        skip: int = 0,
        **options: Unpack[ArrayOptions],
    ) -> tf.data.Dataset:
        """Return batches as a ``tf.data.Dataset`` of dicts: column -> tensor.

        Options as ``to_numpy_batches``. Types and shapes are known without reading rows.

        Args:
            batch_size: The rows of each batch.
            label: A column; a batch is ``(features, label)`` then, as ``keras.Model.fit`` takes it.
            state: A place to begin at: the ``state_dict`` of ``to_numpy_batches`` with the same
                options, kept when a run began.
            skip: Begin so many batches later, over all epochs, to take the run up in the middle.
            options: As ``BatchRules`` and ``ArrayRules`` have them.

        Raises:
            CollectionError: as ``to_numpy_batches``; TensorFlow is not installed; no column is
                read; or the state is of batches that were cut in another way.
        """
        extra("tensorflow")
        module = extra("batch_collection.training.to_tensorflow", "tensorflow")
        sequence = self._sequence()
        arrays, left = arrays_of(sequence, options, self._storage.uri, label)
        rules = BatchRules(batch_size, **left)
        return module.tensorflow_dataset(
            sequence, arrays, rules, state=state, skip=skip, view=self._view()
        )

    def sequences(
        self,
        by: str | Sequence[str],
        order_by: str = "_timestamp",
        *,
        length: int,
        stride: int = 1,
        horizon: int = 1,
        max_gap: timedelta | str | float | None = None,
        shard: tuple[int, int] = (0, 1),
    ) -> Sequences:
        """Return sequences of each key's rows, for models of time series; see ``SequenceRules``.

        ``.to_numpy_batches(n)``, ``.to_torch(n)`` and ``.to_tf(n)`` give batches of n sequences:
        ``length`` rows, and the ``horizon`` rows behind them. They go on across files and windows.

        Raises:
            CollectionError: an option makes no sense, or there is no such column.
        """
        keys = (by,) if isinstance(by, str) else by
        rules = SequenceRules(keys, order_by, length, stride, horizon, max_gap, shard)  # type: ignore[arg-type]
        return Sequences(self._sequence(), rules, self._storage.uri)

    def follow(
        self,
        cursor: str | None = None,
        *,
        cursor_file: str | os.PathLike[str] | None = None,
        start: str = "earliest",
        poll: timedelta | str = timedelta(seconds=1),
        once: bool = False,
        on_expired: str = "fail",
        wait: Callable[[float], object] = time.sleep,
    ) -> Followed:
        """Yield each committed batch in the order of the log, then wait for new ones.

        ``follow(...).to_numpy_batches(256)``, ``to_torch`` and ``to_tf`` give their rows instead,
        in batches of just so many (see ``Followed``).

        The place is remembered, durably, when the loop asks for the next batch: every batch comes
        at least once across crashes, and once without. A loop left by ``break`` or an exception
        gets its last batch again. On Cloud Storage it is remembered once a second at most, and when
        the loop ends or waits: after a crash the batches of the last second come again. One loop at
        a time may use a cursor.

        Args:
            cursor: The name under which ``cursors/`` remembers the place.
            cursor_file: Instead of it, a path or URI elsewhere, for who may only read here.
            start: Where a new cursor begins: ``earliest``, or ``latest`` for what is committed
                after this view was opened.
            poll: How often to look for a new entry; text as ``10s``.
            once: Stop at the end of the log.
            on_expired: What to do about batches that were expired before they were read: ``fail``,
                or ``skip`` to go on with what is left. A new cursor begins with what is left.
            wait: Waits for so many seconds; a true answer ends the loop (``threading.Event.wait``).

        Example:
            >>> [batch.rows for batch in collection.follow("training", once=True)]
            [2, 1]
            >>> [batch.rows for batch in collection.follow("training", once=True)]
            []

        Raises:
            CollectionError: the cursor's name, its file or ``start`` is not usable, none or both of
                name and file are given, or this view is narrowed to some windows or rows.
            ExpiredError: batches were expired before they were read.
        """
        if start not in {"earliest", "latest"}:
            message = f"start must be earliest or latest, got {start!r}"
            raise CollectionError(message)
        if self._narrowing != Narrowing() or self._is_part:
            message = f"{self._name} is only a part of the log; follow what open() returned"
            raise CollectionError(message)
        if on_expired not in {"fail", "skip"}:
            message = f"on_expired must be fail or skip, got {on_expired!r}"
            raise CollectionError(message)
        seconds = _duration("poll", poll).total_seconds()
        file = None if cursor_file is None else os.fspath(cursor_file)
        following = partial(
            Following,
            storage=self._storage,
            cursor=Cursor(self._storage, cursor, file),
            items_of=partial(batches_of, self._storage),
            latest=self.newest.cycle + 1 if start == "latest" else None,
            skips=on_expired == "skip",
            wait=None if once else lambda: wait(seconds),
        )
        return Followed(following, self._sequence, self._storage.uri)

    @property
    def _name(self) -> str:
        """How errors name this view: nothing need be read for it."""
        return f"Collection({self._storage.uri!r}, cycle={self.newest.cycle}{self._shown()})"

    @property
    def _identity(self) -> tuple[Any, ...]:
        place = (self._storage.uri, self.newest.cycle, self.newest.plan)
        return (*place, self._narrowing, self._sides, tuple(self._distinct()))

    def _facts(self) -> dict[str, str]:
        """Say what is in this view, by what it is about; of a part only what it is a part of."""
        listed = self._listing()
        rows = counted(pc.sum(listed.column("rows")).as_py() or 0, "row")
        facts = {
            "rows": f"some of {rows}" if self._is_part else rows,
            "batches": counted(listed.num_rows, "batch"),
        }
        starts, ends = listed.column("window_start"), listed.column("window_end")
        if listed.num_rows:
            facts["windows"] = counted(len(pc.unique(starts)), "window")
            first, last = pc.min(starts).as_py(), pc.max(ends).as_py()
            facts["time"] = f"{format_instant(first)} to {format_instant(last)}"
        return facts

    def _listing(self) -> pa.Table:
        """List the batches of this view; read once, and only what it shows."""
        if self._listed is None:
            self._listed = undisturbed(self._storage, self._left)
        return self._listed

    def _left(self, expiry: Expiry | None) -> pa.Table:
        """List the batches that an expiry leaves of this view."""
        self._expiry, first = expiry, first_kept(expiry)
        if self.newest.cycle < first:
            message = f"{self._name} was expired: the log begins with cycle={first}; open it again"
            raise ExpiredError(message)
        found = listing(self._storage, first, self.newest.cycle, self._narrowing)
        return found if expiry is None else found.filter(~hidden(expiry))

    def _batches(self) -> Iterator[Batch]:
        return batches_in(self._storage, self._listing())

    def _in_order(self) -> tuple[Batch, ...]:
        batches = self._batches()
        return tuple(sorted(batches, key=lambda one: (one.window_start, one.cycle, one.number)))

    @property
    def _is_part(self) -> bool:
        """Whether this view has only some rows of its files."""
        return bool(self._sides or self._filters)

    def _check_whole_files(self) -> None:
        if self._is_part:
            message = (
                f"{self._name} has some rows of its batches, which are whole; read rows, with "
                "to_arrow_batches and the like, or batches of the view before split and where"
            )
            raise CollectionError(message)

    def _narrowed(
        self,
        narrowing: Narrowing,
        *,
        sides: tuple[Side, ...] | None = None,
        filters: tuple[Filter, ...] | None = None,
    ) -> Collection:
        """Return a narrower view, which need not read again what this one has read."""
        sides = self._sides if sides is None else sides
        filters = self._filters if filters is None else filters
        found = Collection(self._storage, self.newest, narrowing, sides, filters)
        found._known_outlines = self._known_outlines
        if self._listed is not None:
            found._listed = self._listed.filter(narrowing.windows)
            found._expiry = self._expiry
        return found

    def _sequence(self) -> RowSequence:
        if self._rows is None:
            self._rows = RowSequence.of(
                self._in_order(),
                self._sides,
                tuple(self._distinct().values()),
                self._known_outlines,
                snapshot=self.whole().in_window_order,
                newest=self.newest,
                where=self._storage.uri,
            )
        return self._rows

    def _schema(self, columns: Sequence[str] | None) -> pa.Schema:
        columns = None if columns is None else names("columns", columns)
        return self._sequence().unified.schema(columns, self._storage.uri)

    def _check_key(self, key: str) -> None:
        """Refuse a key that is no column, nor a field of one."""
        column, *path = split_path(key, self._sequence().unified.fields.__contains__)
        if leaf_type(self._schema([column]).field(column).type, path) is None:
            message = f"no batch of {self._storage.uri} has a column {key}"
            raise CollectionError(message)

    def _shown(self) -> str:
        """Say what this view is narrowed to, nothing for the whole."""
        words = [*self._sides, *(f"where {each}" for each in self._distinct().values())]
        return str(self._narrowing) + "".join(f", {each}" for each in words)

    def _distinct(self) -> dict[str, Filter]:
        """Return filters by their keys: the same ones in whatever order they were given."""
        return dict(sorted((each.key, each) for each in self._filters))

    def _view(self) -> dict[str, Any]:
        """Name this view, as a saved place needs it."""
        self._listing()
        expiry, start = self._expiry, self._narrowing.start
        is_whole = expiry is None or (start is not None and start >= expiry.before)
        return {
            "cycle": self.newest.cycle,
            "plan": self.newest.plan,
            "rows": self._shown().removeprefix(", ") or "all",
            "expired": None if is_whole else str(expiry),
            "where": " & ".join(self._distinct()) or None,
        }

    def _window(self, counted: list[tuple[Batch, int]]) -> Window:
        batches = tuple(batch for batch, _ in counted)
        start, end = batches[0].window_start, batches[0].window_end
        boundary = self.newest.boundary
        return Window(
            start=start,
            end=end,
            rows=sum(rows for _, rows in counted),
            is_closed=boundary is not None and end <= boundary,
            batches=batches,
        )


def open(path: str | os.PathLike[str] | Storage) -> Collection:  # noqa: A001 - batch_collection.open
    """Open a collection as it is now.

    Args:
        path: Its directory, ``OUTPUT/NAME``, or the storage it lies in.

    Example:
        >>> batch_collection.open("collected/orders").rows
        3

    Raises:
        LogError: there is no collection.
    """
    if path is None:  # of a variable that is not set
        message = "path must be a directory or a URI, as collected/orders, got None"
        raise CollectionError(message)
    storage = open_storage(os.fspath(path)) if isinstance(path, (str, os.PathLike)) else path
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    return Collection(storage, newest)


def open_spec(
    spec: Mapping[str, Any], path: str | os.PathLike[str] | Storage | None = None
) -> Collection:
    """Open the very view that ``spec()`` was asked of: the same rows in the same order.

    Example:
        >>> closed = collection.complete()
        >>> batch_collection.open_spec(closed.spec()) == closed
        True

    Args:
        spec: What it returned.
        path: Where the collection is now; None: where it was.

    Raises:
        CollectionError: it is no spec, or its rows are not all there any more.
        LogError: there is no such collection, or it has no such cycle.
    """
    wanted = ViewSpec.parse(spec)
    entry = open(wanted.collection if path is None else path).at(wanted.cycle)
    view = Collection(
        entry._storage,  # noqa: SLF001 - beside it
        entry.newest,
        wanted.narrowing,
        wanted.sides,
        wanted.filters,
    )
    if view.fingerprint() != wanted.fingerprint:
        message = f"{view!r} has other rows than its spec: some were expired, or it was made anew"
        raise CollectionError(message)
    return view


def _span(given: timedelta | str) -> timedelta:
    found = _parsed_duration(given)
    if found is not None and found > timedelta(0):
        return found
    message = f"a span must be a timedelta above 0, or text as 7d, got {given!r}"
    raise CollectionError(message)


def _duration(option: str, given: timedelta | str) -> timedelta:
    found = _parsed_duration(given)
    if found is not None and found >= timedelta(0):
        return found
    message = f"{option} must be a timedelta of at least 0, or text as 1h, got {given!r}"
    raise CollectionError(message)


def _parsed_duration(given: Any) -> timedelta | None:
    try:
        found = parse_duration(given) if isinstance(given, str) else given
    except ValueError as error:
        raise CollectionError(str(error)) from error
    return found if isinstance(found, timedelta) else None


def _instant(given: datetime | str | None) -> datetime | None:
    """Return an aware instant; what is said without a zone is UTC."""
    if given is None:
        return None
    if not isinstance(given, (str, datetime)):
        message = f"an instant must be a datetime, or text as 2026-11-22T10:00Z, got {given!r}"
        raise CollectionError(message)
    try:
        return parse_instant(given if isinstance(given, str) else given.isoformat())
    except ValueError as error:
        raise CollectionError(str(error)) from error
