"""Parquet: row groups that can be read alone."""

from __future__ import annotations

import io
from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq

from batch_collection.errors import DamagedFileError
from batch_collection.formats.told import (
    Outline,
    Told,
    check_rows,
    chosen_columns,
    outline_of,
    placeholder_rows,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from batch_collection.formats.contract import BatchWriter, WritableFile

__all__ = ["Parquet", "matching_groups", "with_nulls"]


ROW_GROUP = 16 * 1024
"""About how many rows a row group has: a shuffle reads whole ones, so few rows mix better."""

_UNHASHED = (pa.types.is_nested, pa.types.is_dictionary, pa.types.is_float16)  # by pyarrow
_SAMPLE = 4_096  # rows of a file's first table, as far as they are
_SAMPLE_BYTES = 4 << 20
_WORTH_A_DICTIONARY = 0.5  # distinct values a row, at most
_AT_ONCE = 1 << 20  # bytes handed on: pyarrow writes each page by itself


class Parquet:
    """Apache Parquet; each written table becomes row groups of about ``ROW_GROUP`` rows."""

    name = "parquet"
    endings: Mapping[str, str] = MappingProxyType(  # the codec stands in the file
        dict.fromkeys(("zstd", "snappy", "gzip", "none"), ".parquet")
    )
    reads_parts = True

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a Parquet file."""
        return _ParquetWriter(sink, schema, compression)

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Read a Parquet file."""
        with source, _opened(source, told) as file:
            if not file.schema_arrow.names:
                return chosen_columns(placeholder_rows(told), columns)
            _check_footer(file, path, told)
            return file.read(columns=columns)

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Read the footer; groups are row groups."""
        with source, pq.ParquetFile(source) as file:
            if not file.schema_arrow.names:
                return outline_of(placeholder_rows(told))
            _check_footer(file, path, told)
            found = file.metadata
            groups = tuple(found.row_group(i).num_rows for i in range(found.num_row_groups))
            check_rows(path, sum(groups), told.rows)
            return Outline(file.schema_arrow, groups, found)

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Read row groups."""
        with source, _opened(source, told) as file:
            if not file.schema_arrow.names:
                return chosen_columns(placeholder_rows(told), columns)
            _check_footer(file, path, told)
            if told.footer is None and told.keep is not None:
                told.keep(file.metadata)
            return file.read_row_groups(list(groups), columns=columns, use_threads=False)


def with_nulls(outline: Outline) -> frozenset[str]:
    """Return the columns, and fields of structs, in which the footer of a file counts nulls.

    Names have dots between them; those that stand for two are left out, and so are lists.
    """
    footer = outline.footer
    if footer is None:
        return frozenset()
    leaves = [footer.schema.column(leaf) for leaf in range(footer.num_columns)]
    paths = Counter(leaf.path for leaf in leaves)
    return frozenset(
        leaf.path
        for number, leaf in enumerate(leaves)
        if paths[leaf.path] == 1
        and not leaf.max_repetition_level
        and leaf.max_definition_level
        and any(_nulls(footer, group, number) for group in range(footer.num_row_groups))
    )


def matching_groups(outline: Outline, where: pc.Expression, schema: pa.Schema) -> tuple[int, ...]:
    """Return the row groups whose statistics leave it open that ``where`` holds for some row.

    Statistics do not tell of NaN. ``schema`` are the columns that are named, as they are read.
    """
    if outline.footer is None:
        return tuple(range(len(outline.groups)))
    footer = pa.BufferOutputStream()
    outline.footer.write_metadata_file(footer)
    file = ds.ParquetFileFormat().make_fragment(footer.getvalue())
    return tuple(group.id for group in file.subset(filter=where, schema=schema).row_groups)


def _opened(source: BinaryIO, told: Told) -> pq.ParquetFile:
    """Open a file; one that lies on a disk is read as it goes: to read ahead, threads are woken."""
    return pq.ParquetFile(
        source,
        metadata=told.footer,
        read_dictionary=sorted(told.coded) or None,
        pre_buffer=not isinstance(source, pa.NativeFile),
    )


def _nulls(footer: pq.FileMetaData, group: int, leaf: int) -> int:
    found = footer.row_group(group).column(leaf).statistics
    return found.null_count if found is not None and found.has_null_count else 0


def _check_footer(file: pq.ParquetFile, path: str, told: Told) -> None:
    """Refuse a file that is not the one that the log tells of."""
    check_rows(path, file.metadata.num_rows, told.rows)
    twice = sorted(_twice(file.schema_arrow))
    if twice:
        message = (
            f"cannot read {path}: it has two columns named {', '.join(twice)}; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message)


def _twice(fields: Iterable[pa.Field], above: str = "") -> set[str]:
    """Return the names that fields of one parent share, however deep."""
    counts = Counter(f"{above}{field.name}" for field in fields)
    found = {name for name, count in counts.items() if count > 1}
    for field in fields:
        type_ = field.type
        while pa.types.is_list(type_):
            type_ = type_.value_type
        if pa.types.is_struct(type_):
            found |= _twice(type_, f"{above}{field.name}.")
    return found


class _ParquetWriter:
    def __init__(self, sink: WritableFile, schema: pa.Schema, compression: str) -> None:
        self._sink, self._schema, self._compression = _Gathering(sink), schema, compression
        self._footers: list[pq.FileMetaData] = []
        self._writer: pq.ParquetWriter | None = None

    def write(self, rows: pa.Table) -> None:
        groups = max(round(rows.num_rows / ROW_GROUP), 1)
        self._begun(rows).write_table(rows, row_group_size=-(-rows.num_rows // groups) or 1)

    def close(self) -> int:
        self._begun(self._schema.empty_table()).close()
        self._sink.flush()
        return int(self._footers[0].num_rows)

    def _begun(self, rows: pa.Table) -> pq.ParquetWriter:
        """Return the writer, made for the first rows: the others are taken to be like them."""
        if self._writer is None:
            self._writer = _Unforced(
                self._sink,
                self._schema,
                compression=self._compression,
                use_dictionary=sorted(_repetitive(rows)),
                metadata_collector=self._footers,
            )
        return self._writer


def _repetitive(rows: pa.Table) -> Iterator[str]:
    """Yield the paths of leaves whose values come again and again, so that a dictionary pays."""
    rows = rows.slice(0, min(_SAMPLE, _SAMPLE_BYTES * rows.num_rows // max(rows.nbytes, 1)))
    for path, values in _leaves(zip(rows.column_names, rows.columns, strict=True)):
        if len(values) and len(values.unique()) <= _WORTH_A_DICTIONARY * len(values):
            yield path


def _leaves(columns: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """Yield the columns of plain values, however deep, by the names that Parquet has for them."""
    for path, column in columns:
        if pa.types.is_struct(column.type):
            names = (f"{path}.{field.name}" for field in column.type)
            yield from _leaves(zip(names, column.flatten(), strict=True))
        elif pa.types.is_list(column.type):
            yield from _leaves([(f"{path}.list.element", pc.list_flatten(column))])
        elif not any(test(column.type) for test in _UNHASHED):
            yield path, column


class _Gathering(io.RawIOBase):
    """Hands on what is written in large parts, and never closes what is behind."""

    def __init__(self, sink: WritableFile) -> None:
        self._sink, self._parts, self._gathered, self._bytes = sink, list[bytes](), 0, 0

    def writable(self) -> bool:
        return True

    def write(self, content: Buffer) -> int:
        part = bytes(content)
        self._parts.append(part)
        self._bytes, self._gathered = self._bytes + len(part), self._gathered + len(part)
        if self._gathered >= _AT_ONCE:
            self.flush()
        return len(part)

    def flush(self) -> None:
        parts, self._parts, self._gathered = self._parts, [], 0
        if parts:
            self._sink.write(b"".join(parts))

    def tell(self) -> int:
        return self._bytes

    def close(self) -> None:
        """Leave the sink open: closing it makes a file durable."""


class _Unforced(pq.ParquetWriter):  # type: ignore[misc]
    """pyarrow's writer, which does not finish a file that is given up."""

    def __del__(self) -> None:
        """Let it go: to be closed, it would write to a sink that is gone, and complain."""
