"""The rows of a snapshot as one sequence of pieces, each of which can be read alone."""

from __future__ import annotations

import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa

from batch_collection.field_path import split_path
from batch_collection.formats.footers import Footers
from batch_collection.formats.known import format_of
from batch_collection.formats.parquet import matching_groups, with_nulls
from batch_collection.formats.told import Told
from batch_collection.log.batch import in_parts, reading
from batch_collection.parallel import ahead
from batch_collection.reading.filters import Condition
from batch_collection.reading.splits import leaf, leaf_at, leaf_type, skewed
from batch_collection.schema.arrow import joined, to_arrow
from batch_collection.schema.retyped import is_plain_cast
from batch_collection.schema.taking import taken
from batch_collection.schema.unified import Unified, conformed, unified

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import BinaryIO

    import numpy.typing as npt

    from batch_collection.formats.told import Outline, Types
    from batch_collection.log.batch import Batch
    from batch_collection.log.entry import Entry
    from batch_collection.reading.filters import Filter
    from batch_collection.reading.order import Slice
    from batch_collection.reading.splits import Side

__all__ = ["Piece", "RowSequence", "outlines"]


_OPENED_AT_ONCE = 8
_JUDGED_AT_ONCE = 2


class Piece(NamedTuple):
    """One group of one file; ``batch`` is the file's place in the sequence."""

    batch: int
    group: int


class _Run(NamedTuple):
    """Pieces of one file that follow one another, and the rows wanted of them: from, and how many.

    Both count only rows that count.
    """

    batch: int
    pieces: tuple[int, ...]
    start: int
    rows: int


class _Judged(NamedTuple):
    """A bit for each row of a file: whether it counts. For ``holding`` rows the filter holds.

    ``counts`` are the rows of each group that count.
    """

    packed: npt.NDArray[np.uint8]
    holding: int
    counts: tuple[int, ...]


@dataclass(frozen=True)
class RowSequence:
    """The rows of ``batches``, in that order; ``outlines`` tells of each what can be read alone.

    Rows that are not on all ``sides``, or for which the ``condition`` does not hold, do not count.
    """

    batches: tuple[Batch, ...]
    outlines: tuple[Outline, ...]
    sides: tuple[Side, ...]
    unified: Unified
    condition: Condition | None = None

    @classmethod
    def of(
        cls,
        batches: tuple[Batch, ...],
        sides: tuple[Side, ...],
        filters: tuple[Filter, ...],
        known: dict[str, Outline],
        *,
        snapshot: Callable[[], tuple[Batch, ...]],
        newest: Entry,
        where: str,
    ) -> RowSequence:
        """Return that of a view; the files' footers are read, their rows are not.

        Args:
            batches: What the view shows, in the order of its rows.
            sides: The sides of splits that it is narrowed to.
            filters: Those that it is narrowed by. They may name what only the log knows of.
            known: Outlines by path, which learns those that are read.
            snapshot: Gives all batches: an empty view has the columns of all, an empty snapshot
                those of the log.
            newest: The entry where the view ends.
            where: Names the collection.

        Raises:
            CollectionError: a filter makes no sense.
        """
        found = outlines(batches, known)
        typed = found or outlines(snapshot(), known)
        types = {**newest.dropped, **newest.schema}
        together = unified((outline.schema for outline in typed), types)
        logged = {each.name: each.type for each in to_arrow(newest.schema)}
        if not typed:
            together = Unified(logged, payload=frozenset(logged))
        nameable = replace(together, fields={**logged, **together.fields})
        return cls(batches, found, sides, together, Condition.of(filters, nameable, where))

    @property
    def is_part(self) -> bool:
        """Whether some rows of the files may not count."""
        return bool(self.sides or self.condition)

    @cached_property
    def _footers(self) -> Footers:
        return Footers()

    @cached_property
    def pieces(self) -> tuple[Piece, ...]:
        """All pieces, in order."""
        return tuple(
            Piece(batch, group)
            for batch, outline in enumerate(self.outlines)
            for group in range(len(outline.groups))
        )

    @cached_property
    def rows(self) -> tuple[int, ...]:
        """How many rows each piece has; what tells whether they count is read for that, once.

        It is a warning if those on sides are far from the fractions that were asked for.
        """
        if not self.is_part:
            return tuple(rows for outline in self.outlines for rows in outline.groups)
        with ThreadPoolExecutor(_JUDGED_AT_ONCE) as pool:
            judged = list(pool.map(self._judged, range(len(self.batches))))
        found = tuple(rows for one in judged for rows in one.counts)
        skew = skewed(self.sides, sum(found), sum(one.holding for one in judged))
        if skew is not None:
            warnings.warn(skew, stacklevel=2)
        return found

    def in_turn(self) -> Iterator[int]:
        """Yield all pieces, by their numbers.

        What tells of rows whether they count is read ahead, so that those of the first file come
        soon. Behind the last piece comes the warning of ``rows``.
        """
        if not self.is_part or len(self._known) == len(self.batches):
            yield from range(len(self.pieces))
            return
        files, last = range(len(self.batches)), 0
        for one in ahead(self._judged, files, _JUDGED_AT_ONCE):
            first, last = last, last + len(one.counts)
            yield from range(first, last)
        _ = self.rows

    def rows_of(self, piece: int) -> int:
        """Return how many rows a piece has; only its file is read for that, if it must be."""
        if not self.is_part:
            return self.rows[piece]
        batch, group = self.pieces[piece]
        return self._judged(batch).counts[group]

    @property
    def rows_of_batches(self) -> list[int]:
        """How many rows of each file count."""
        found = [0] * len(self.batches)
        for piece, rows in zip(self.pieces, self.rows, strict=True):
            found[piece.batch] += rows
        return found

    @cached_property
    def _known(self) -> dict[int, _Judged]:
        return {}

    def _judged(self, batch: int) -> _Judged:
        """Tell which rows of a file count. So keys, and what a filter names, are read but once."""
        if batch not in self._known:
            self._known[batch] = self._judge(batch)
        return self._known[batch]

    def _judge(self, batch: int) -> _Judged:
        groups = self._matching(batch)
        chosen, holding = self._chosen(self._read_to_judge(batch, groups, []))
        counts = self.outlines[batch].groups
        if len(groups) < len(counts):
            ends = list(accumulate(counts))
            every = np.zeros(sum(counts), np.bool_)
            places = [np.arange(ends[group] - counts[group], ends[group]) for group in groups]
            every[np.concatenate([np.zeros(0, np.int64), *places])] = chosen
            chosen = every
        ends = list(accumulate(counts))
        each = [chosen[end - rows : end] for end, rows in zip(ends, counts, strict=True)]
        return _Judged(np.packbits(chosen), holding, tuple(map(int, map(np.count_nonzero, each))))

    def _matching(self, batch: int) -> tuple[int, ...]:
        """Return the groups of a file that may have rows for which the condition holds."""
        outline, condition = self.outlines[batch], self.condition
        if condition is not None and condition.by_ranges:
            types = {each.name: each.type for each in condition.schema}
            there = [each for each in outline.schema if each.name in types]
            if there and all(is_plain_cast(each.type, types[each.name]) for each in there):
                told = _with_footer(self.batches[batch], outline)
                return matching_groups(told, condition.expression, condition.schema)
        return tuple(range(len(outline.groups)))

    def first_with_null(self, path: tuple[str, ...]) -> str | None:
        """Return the first file that is known to have a null in a column, or in a field of one.

        It is known from schemas and footers. Rows are read only where some do not count, and only
        those of files with nulls.
        """
        for batch, one in enumerate(self.batches):
            if self._may_have_null(batch, path) and self._has_null(batch, path):
                return one.path
        return None

    def load(self, slices: Sequence[Slice], schema: pa.Schema) -> pa.Table:
        """Read rows, those columns only; ``slices`` count only those that count.

        Each file is opened once, in whatever order its pieces are wanted.
        """
        runs = self._runs(slices)
        wanted: dict[int, set[int]] = {}
        for run in runs:
            wanted.setdefault(run.batch, set()).update(run.pieces)
        read = {batch: self._load(batch, sorted(each), schema) for batch, each in wanted.items()}
        tables = []
        for run in runs:
            rows, starts = read[run.batch]
            tables.append(rows.slice(starts[run.pieces[0]] + run.start, run.rows))
        return joined(tables, schema)

    def tables(self, schema: pa.Schema) -> Iterator[pa.Table]:
        """Read file by file."""
        for batch in range(len(self.batches)):
            yield self.table(batch, schema)

    def table(self, batch: int, schema: pa.Schema) -> pa.Table:
        """Read a file."""
        return conformed(self._read_chosen(batch, None, schema.names), schema)

    def _may_have_null(self, batch: int, path: tuple[str, ...]) -> bool:
        schema = self.outlines[batch].schema
        has_column = path[0] in schema.names
        found = leaf_type(schema.field(path[0]).type, path[1:]) if has_column else None
        if found is None or pa.types.is_null(found):
            return self.batches[batch].rows > 0
        return ".".join(path) in self._nulls[batch]

    def _has_null(self, batch: int, path: tuple[str, ...]) -> bool:
        """Look into the rows where some of them do not count."""
        if not self.is_part:
            return True
        schema = pa.schema([(path[0], self.unified.fields[path[0]])])
        groups = tuple(range(len(self.outlines[batch].groups)))
        rows = conformed(self._read_chosen(batch, groups, schema.names), schema)
        return leaf_at(rows, path).null_count > 0

    @cached_property
    def _nulls(self) -> tuple[frozenset[str], ...]:
        """Of each file, the columns and fields whose footer counts nulls, with dots."""
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            return tuple(pool.map(_with_nulls, self.batches, self.outlines))

    def _runs(self, slices: Sequence[Slice]) -> list[_Run]:
        """Join slices that follow one another in their file.

        Only the first slice of a block may begin within its piece, only the last may end there.
        """
        runs: list[_Run] = []
        for piece, start, stop in slices:
            batch, last = self.pieces[piece].batch, runs[-1] if runs else None
            if last is not None and (batch, piece) == (last.batch, last.pieces[-1] + 1):
                runs[-1] = last._replace(pieces=(*last.pieces, piece), rows=last.rows + stop)
            else:
                runs.append(_Run(batch, (piece,), start, stop - start))
        return runs

    def _load(
        self, batch: int, pieces: Sequence[int], schema: pa.Schema
    ) -> tuple[pa.Table, dict[int, int]]:
        """Read pieces of one file, and tell with which row each begins."""
        groups = tuple(self.pieces[piece].group for piece in pieces)
        ends = accumulate(map(self.rows_of, pieces))
        starts = dict(zip(pieces, [0, *ends], strict=False))
        return conformed(self._read_chosen(batch, groups, schema.names), schema), starts

    def _read_chosen(
        self, batch: int, groups: tuple[int, ...] | None, columns: list[str]
    ) -> pa.Table:
        if not self.is_part:
            return self._read(batch, groups, columns)
        if groups is None:
            rows = self._read_to_judge(batch, self._matching(batch), columns)
            return _counting(rows, self._chosen(rows)[0])
        counts, packed = self.outlines[batch].groups, self._judged(batch).packed
        ends = list(accumulate(counts))
        chosen = [_unpacked(packed, ends[group] - counts[group], ends[group]) for group in groups]
        return _counting(self._read(batch, groups, columns), np.concatenate(chosen))

    def _read_to_judge(self, batch: int, groups: tuple[int, ...], columns: list[str]) -> pa.Table:
        """Read groups of a file: the columns asked for, and those that tell whether rows count.

        Columns that it lacks are null.
        """
        keys = [name for side in self.sides for name in side.by]
        top = [split_path(name, self.unified.fields.__contains__)[0] for name in keys]
        types = {name: self.unified.fields[name] for name in top}
        named = () if self.condition is None else self.condition.schema
        types |= {each.name: each.type for each in named}
        names = list(dict.fromkeys([*columns, *types]))
        coded = set(keys).difference(columns, (each.name for each in named))
        rows = self._read(batch, groups, names, coded)
        for name in [name for name in types if name not in rows.column_names]:
            rows = rows.append_column(name, pa.nulls(rows.num_rows, types[name]))
        return rows

    def _read(
        self,
        batch: int,
        groups: tuple[int, ...] | None,
        columns: list[str],
        coded: Collection[str] = (),
    ) -> pa.Table:
        """Read groups of a file, or all of it: the columns asked for, if it has them."""
        one, outline = self.batches[batch], self.outlines[batch]
        texts = frozenset(name for name in coded if _is_text(name, outline.schema))
        footer = outline.footer or self._footers.of(batch)
        is_part = groups is not None and len(groups) < len(outline.groups)
        keep = partial(self._footers.keep, batch) if is_part else None
        told = Told(one.rows, lambda: [_types(outline.schema)], footer, texts, keep)
        names = [name for name in columns if name in outline.schema.names]

        def read(source: BinaryIO) -> pa.Table:
            form = format_of(one.path)
            if groups is None:
                return form.read(source, one.path, names, told)
            return form.read_groups(source, one.path, groups, names, told)

        return reading(one, read)

    def _chosen(self, rows: pa.Table) -> tuple[npt.NDArray[np.bool_], int]:
        """Tell of each row whether it counts, and for how many the condition holds."""
        chosen = np.ones(rows.num_rows, np.bool_)
        if self.condition is not None:
            chosen &= self.condition.holds(rows)
        holding = int(np.count_nonzero(chosen))
        for side in self.sides:
            chosen &= side.chosen(self._keyed(rows, side.by))
        return chosen, holding

    def _keyed(self, rows: pa.Table, keys: Sequence[str]) -> pa.Table:
        """Return rows whose keys have the type that they were collected under.

        So no row changes sides when a type is changed. What no side can be told of by its type then
        has the one that it has now.
        """
        for key in keys:
            found = leaf(rows, key).type
            if pa.types.is_floating(found) or pa.types.is_nested(found):
                name = split_path(key, rows.column_names.__contains__)[0]
                schema = pa.schema([(name, self.unified.fields[name])])
                column = conformed(rows.select([name]), schema).column(0)
                rows = rows.set_column(rows.column_names.index(name), name, column)
        return rows


def outlines(batches: Sequence[Batch], known: dict[str, Outline]) -> tuple[Outline, ...]:
    """Return the outlines of batches, by the footers of those not ``known``, which learns them.

    Footers are kept where reading them again is a request; elsewhere they only take memory.
    """
    unknown = [batch for batch in batches if batch.path not in known]
    if unknown:
        with ThreadPoolExecutor(_OPENED_AT_ONCE) as pool:
            found = list(pool.map(_outline, unknown))
        schemas = {outline.schema: outline.schema for outline in [*known.values(), *found]}
        for batch, outline in zip(unknown, found, strict=True):
            known[batch.path] = outline._replace(schema=schemas[outline.schema])
    return tuple(known[batch.path] for batch in batches)


def _outline(batch: Batch) -> Outline:
    form = format_of(batch.path)
    found = reading(batch, lambda source: form.outline(source, batch.path, batch.told))
    return found if in_parts(batch) else found._replace(footer=None)


def _is_text(name: str, schema: pa.Schema) -> bool:
    """Tell whether a column is text; one with a dot in its name could be taken for a field."""
    if "." in name or name not in schema.names:
        return False
    type_ = schema.field(name).type
    return bool(pa.types.is_string(type_) or pa.types.is_binary(type_))


def _counting(rows: pa.Table, chosen: npt.NDArray[np.bool_]) -> pa.Table:
    """Return the rows that count; Arrow takes places in half the time in which it filters."""
    return taken(rows, np.flatnonzero(chosen))


def _unpacked(packed: npt.NDArray[np.uint8], start: int, stop: int) -> npt.NDArray[np.bool_]:
    """Return bits ``[start, stop)``."""
    first = start // 8
    bits = np.unpackbits(packed[first : -(-stop // 8)])
    return bits[start - 8 * first : stop - 8 * first].view(np.bool_)


def _with_nulls(batch: Batch, outline: Outline) -> frozenset[str]:
    return with_nulls(_with_footer(batch, outline))


def _with_footer(batch: Batch, outline: Outline) -> Outline:
    """Read the footer again, where it was not kept."""
    form = format_of(batch.path)
    if outline.footer is None and form.reads_parts:
        return reading(batch, lambda source: form.outline(source, batch.path, batch.told))
    return outline


def _types(schema: pa.Schema) -> Types:
    return {field.name: field.type for field in schema}
