"""A snapshot as a ``pyarrow.dataset``: exactly its files, filters and columns pushed down."""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs

from batch_collection.errors import CollectionError
from batch_collection.formats.known import format_of
from batch_collection.formats.parquet import Parquet
from batch_collection.log.batch import on_disk, opened
from batch_collection.schema.arrow import joined
from batch_collection.schema.retyped import is_plain_cast

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.batch import Batch
    from batch_collection.reading.row_sequence import RowSequence

__all__ = ["dataset_of", "rows_of"]


def dataset_of(sequence: RowSequence, schema: pa.Schema) -> ds.Dataset:
    """Return the files of a sequence as a data set of ``schema``.

    Parquet files are scanned when they are asked for. JSON lines are read whole, at once, and so
    are files that hold a column under a type that pyarrow would not say, or filter, as we do.

    Raises:
        CollectionError: the sequence has only some rows of its files.
    """
    if sequence.is_part:
        message = (
            "one side of a split, or what a filter leaves, is no set of files that could be "
            "scanned; use to_arrow, to_arrow_batches, to_pandas, to_polars or to_duckdb"
        )
        raise CollectionError(message)
    return _files(sequence, schema)


def _files(sequence: RowSequence, schema: pa.Schema) -> ds.Dataset:
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


def rows_of(sequence: RowSequence, schema: pa.Schema) -> pa.Table:
    """Return all rows of a sequence, these columns only.

    Where a filter can leave row groups out, Arrow scans the files.

    Raises:
        CollectionError: the filter can't be worked out.
    """
    condition = sequence.condition
    if condition is None or sequence.sides or not condition.by_ranges:
        return joined(sequence.tables(schema), schema)
    others = [each for each in condition.schema if each.name not in schema.names]
    files = _files(sequence, pa.schema([*schema, *others]))
    with condition.told():
        try:
            found = files.to_table(columns=schema.names, filter=condition.expression)
        except FileNotFoundError:
            for batch in sequence.batches:
                batch.open().close()  # says which is gone, and why
            raise
    return pa.Table.from_batches((each for each in found.to_batches() if each.num_rows), schema)


def _is_scanned(sequence: RowSequence, batch: int, schema: pa.Schema) -> bool:
    found = sequence.outlines[batch].schema
    return isinstance(format_of(sequence.batches[batch].path), Parquet) and all(
        is_plain_cast(each.type, schema.field(each.name).type)
        for each in found
        if each.name in schema.names
    )


def _scanned(batches: Sequence[Batch], schema: pa.Schema) -> ds.Dataset:
    """Return files as a data set.

    Those on a disk are opened by Arrow itself, by their visible names, or now, if they are not
    visible yet. Where its threads must call Python, they and whoever drops a scan that is not at
    its end, or meets an error, can wait for each other for ever.

    Raises:
        CollectionError: one that should be on a disk is gone or damaged.
    """
    form = ds.ParquetFileFormat()
    folder = batches[0].storage.local_path("") if batches else None
    if folder is None:
        files = pafs.PyFileSystem(_Files({batch.path: batch for batch in batches}))
    else:
        files = pafs.SubTreeFileSystem(str(folder), pafs.LocalFileSystem())
    fragments = [
        form.make_fragment(batch.path, filesystem=files)
        if folder is None or on_disk(batch)
        else form.make_fragment(opened(batch))
        for batch in batches
    ]
    return ds.FileSystemDataset(fragments, schema, form, files)


class _Files(pafs.FileSystemHandler):  # type: ignore[misc] # pyarrow has no types
    """Files that lie far away, by their visible names, wherever publishing has got to with them."""

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
    return pa.PythonFile(opened(batch), mode="r")
