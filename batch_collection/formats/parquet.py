"""Parquet: row groups that can be read alone."""

from __future__ import annotations

from collections import Counter
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa
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
    from collections.abc import Iterable, Mapping, Sequence

    from batch_collection.formats.contract import BatchWriter, WritableFile

__all__ = ["Parquet", "with_nulls"]


class Parquet:
    """Apache Parquet; each written table becomes a row group."""

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
        coded = sorted(told.coded) or None
        with source, pq.ParquetFile(source, metadata=told.footer, read_dictionary=coded) as file:
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
        with source, pq.ParquetFile(source, metadata=told.footer) as file:
            if not file.schema_arrow.names:
                return chosen_columns(placeholder_rows(told), columns)
            _check_footer(file, path, told)
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
        self._footers: list[pq.FileMetaData] = []
        self._writer = _Unforced(
            sink, schema, compression=compression, metadata_collector=self._footers
        )

    def write(self, rows: pa.Table) -> None:
        self._writer.write_table(rows, row_group_size=max(rows.num_rows, 1))

    def close(self) -> int:
        self._writer.close()
        return int(self._footers[0].num_rows)


class _Unforced(pq.ParquetWriter):  # type: ignore[misc]
    """pyarrow's writer, which does not finish a file that is given up."""

    def __del__(self) -> None:
        """Let it go: to be closed, it would write to a sink that is gone, and complain."""
