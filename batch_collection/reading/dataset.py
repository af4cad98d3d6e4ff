"""A snapshot as a ``pyarrow.dataset``: exactly its files, filters and columns pushed down."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from batch_collection.errors import CollectionError, in_one_line
from batch_collection.formats.known import format_of
from batch_collection.formats.parquet import Parquet
from batch_collection.log.batch import opened
from batch_collection.schema.retyped import is_plain_cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.batch import Batch
    from batch_collection.reading.row_sequence import RowSequence

__all__ = ["dataset_of", "filterable"]


def dataset_of(sequence: RowSequence, schema: pa.Schema) -> ds.Dataset:
    """Return the files of a sequence as a data set of ``schema``.

    Parquet files are scanned when they are asked for. JSON lines are read whole, at once, and so
    are files that hold a column under a type that pyarrow would not say, or filter, as we do.

    Raises:
        CollectionError: the sequence is one side of a split, which no file is.
    """
    if sequence.sides:
        message = (
            "one side of a split is no set of files that could be scanned; use to_arrow, "
            "to_arrow_batches, to_pandas, to_polars or to_duckdb"
        )
        raise CollectionError(message)
    parts: list[ds.Dataset] = []
    for is_scanned, group in groupby(
        range(len(sequence.batches)), lambda batch: _is_scanned(sequence, batch, schema)
    ):
        if is_scanned:
            parts.append(_scanned([sequence.batches[batch] for batch in group], schema))
        else:
            parts.append(ds.dataset([sequence.table(batch, schema) for batch in group]))
    if len(parts) == 1:
        return parts[0]
    return ds.UnionDataset(schema, parts) if parts else _scanned([], schema)


def filterable(sequence: RowSequence, schema: pa.Schema, where: pc.Expression) -> pa.Schema:
    """Return the columns of ``schema``, and those besides that a filter may name.

    A column whose type was changed is left out where it can be: not all of it may be readable.

    Raises:
        CollectionError: it is no filter of these columns.
    """
    if not isinstance(where, pc.Expression):
        message = f"where must be an expression, as pc.field('value') > 1, got {where!r}"
        raise CollectionError(message)
    usable = sequence.unified.usable()
    for name in sorted(_retyped(sequence, usable) - set(schema.names)):
        without = usable.remove(usable.get_field_index(name))
        try:
            ds.dataset(without.empty_table()).to_table(filter=where)
        except pa.ArrowException:
            continue
        usable = without
    try:
        ds.dataset(usable.empty_table()).to_table(filter=where)
    except pa.ArrowException as error:
        message = f"cannot filter where {where}: {in_one_line(error)}"
        raise CollectionError(message) from error
    return usable


def _retyped(sequence: RowSequence, schema: pa.Schema) -> set[str]:
    """Return the columns that some file holds under a type of another kind."""
    return {
        each.name
        for outline in sequence.outlines
        for each in outline.schema
        if each.name in schema.names and not is_plain_cast(each.type, schema.field(each.name).type)
    }


def _is_scanned(sequence: RowSequence, batch: int, schema: pa.Schema) -> bool:
    found = sequence.outlines[batch].schema
    return isinstance(format_of(sequence.batches[batch].path), Parquet) and all(
        is_plain_cast(each.type, schema.field(each.name).type)
        for each in found
        if each.name in schema.names
    )


def _scanned(batches: Sequence[Batch], schema: pa.Schema) -> ds.Dataset:
    files = pafs.PyFileSystem(_Files({batch.path: batch for batch in batches}))
    form = ds.ParquetFileFormat()
    fragments = [form.make_fragment(batch.path, filesystem=files) for batch in batches]
    return ds.FileSystemDataset(fragments, schema, form, files)


class _Files(pafs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """The files of a snapshot by their visible names, wherever publishing has got to with them."""

    def __init__(self, batches: dict[str, Batch]) -> None:
        self._batches = batches

    def get_type_name(self) -> str:
        return "batch_collection"

    def normalize_path(self, path: str) -> str:
        return path

    def open_input_file(self, path: str) -> pa.NativeFile:
        return _native(self._batches[path])

    def open_input_stream(self, path: str) -> pa.NativeFile:
        return _native(self._batches[path])

    def get_file_info(self, paths: list[str]) -> list[pafs.FileInfo]:
        return [pafs.FileInfo(path, pafs.FileType.File) for path in paths]

    def get_file_info_selector(self, selector: Any) -> list[pafs.FileInfo]:
        return self._refuse(selector)

    def create_dir(self, path: str, recursive: bool) -> None:  # noqa: FBT001 - pyarrow's own
        self._refuse(path, recursive)

    def delete_dir(self, path: str) -> None:
        self._refuse(path)

    def delete_dir_contents(self, path: str, missing_dir_ok: bool = False) -> None:  # noqa: FBT001, FBT002
        self._refuse(path, missing_dir_ok)

    def delete_root_dir_contents(self) -> None:
        self._refuse()

    def delete_file(self, path: str) -> None:
        self._refuse(path)

    def move(self, src: str, dest: str) -> None:
        self._refuse(src, dest)

    def copy_file(self, src: str, dest: str) -> None:
        self._refuse(src, dest)

    def open_output_stream(self, path: str, metadata: Any) -> Any:
        return self._refuse(path, metadata)

    def open_append_stream(self, path: str, metadata: Any) -> Any:
        return self._refuse(path, metadata)

    def _refuse(self, *_: object) -> Any:
        message = "a snapshot is only read"
        raise NotImplementedError(message)


def _native(batch: Batch) -> pa.NativeFile:
    file = opened(batch)
    return file if isinstance(file, pa.NativeFile) else pa.PythonFile(file, mode="r")
