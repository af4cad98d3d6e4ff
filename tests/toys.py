"""A storage and a format that nobody but a test knows: what it takes to add one."""

from __future__ import annotations

import errno
import io
import os
import threading
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from batch_collection.errors import AlreadyExistsError, FileGoneError, StorageError
from batch_collection.formats.told import Outline, check_rows, chosen_columns
from batch_collection.storage.contract import Sink

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from typing_extensions import Buffer

    from batch_collection.formats.contract import BatchWriter, WritableFile
    from batch_collection.formats.told import Told

__all__ = ["ArrowFile", "MemoryStorage"]

_files: dict[str, bytes] = {}  # by their URI
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class MemoryStorage:
    """``memory://place``: files of this process, which calls itself far away."""

    uri: str
    is_far = True

    def local_path(self, path: str) -> None:
        """Return None: it is on no disk."""

    def create(self, path: str, content: bytes) -> None:
        """Put a file where none is."""
        with _lock:
            if self._at(path) in _files:
                message = f"{path} exists already"
                raise AlreadyExistsError(message)
            _files[self._at(path)] = content

    def settle(self, path: str) -> None:
        """Do nothing."""

    def replace(self, path: str, content: bytes) -> None:
        """Put a file."""
        _files[self._at(path)] = content

    def write(self, path: str) -> Sink:
        """Collect what is written, and create it."""
        return _MemorySink(self, path)

    def read(self, path: str) -> bytes:
        """Return a file."""
        try:
            return _files[self._at(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def open(self, path: str) -> BinaryIO:
        """Open a file as it is."""
        return io.BytesIO(self.read(path))

    def size(self, path: str) -> int | None:
        """Measure a file."""
        content = _files.get(self._at(path))
        return None if content is None else len(content)

    def move(self, moves: Iterable[tuple[str, str]]) -> None:
        """Give files other names."""
        for source, target in moves:
            with _lock:
                content = _files.pop(self._at(source), None)
                if content is not None:
                    _files[self._at(target)] = content
                elif self._at(target) not in _files:
                    message = f"cannot move {source}: it is gone, and {target} is not there either"
                    raise FileGoneError(message)

    def check_moves(self) -> None:
        """Do nothing."""

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Go through all there is."""
        below, root = self._at(f"{prefix}/" if prefix else ""), len(self._at(""))
        paths = (each[root:] for each in tuple(_files) if each.startswith(below))
        return (path for path in paths if start <= path and (not end or path <= end))

    def folders(self) -> Iterator[str]:
        """Go through all there is."""
        return iter({path.partition("/")[0] for path in self.list("") if "/" in path})

    def delete(self, paths: Iterable[str]) -> None:
        """Forget files."""
        for path in paths:
            _files.pop(self._at(path), None)

    def _at(self, path: str) -> str:
        return f"{self.uri}/{path}"


class _MemorySink(Sink):
    def __init__(self, storage: MemoryStorage, path: str) -> None:
        super().__init__()
        self._storage, self._path, self._content = storage, path, io.BytesIO()

    def write(self, content: Buffer) -> int:
        return self._content.write(content)

    def tell(self) -> int:
        return self._content.tell()

    def close(self) -> None:
        if self.closed:
            return
        content = self._content.getvalue()
        self.abandon()
        try:
            self._storage.create(self._path, content)
        except AlreadyExistsError as error:
            message = f"cannot write {self._path}: File exists"
            raise StorageError(message) from error

    def abandon(self) -> None:
        self._content.close()
        super().close()


class ArrowFile:
    """Arrow's own files: what is written at once is a record batch, which can be read alone."""

    name = "arrow"
    endings: Mapping[str, str] = MappingProxyType({"lz4": ".feather", "none": ".raw.feather"})
    reads_parts = False

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a file."""
        return _ArrowWriter(sink, schema, None if compression == "none" else compression)

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Read a file."""
        with source:
            rows = pa.ipc.open_file(source).read_all()
        check_rows(path, rows.num_rows, told.rows)
        return chosen_columns(rows, columns)

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Count the rows of each record batch."""
        with source:
            file = pa.ipc.open_file(source)
            groups = tuple(file.get_batch(i).num_rows for i in range(file.num_record_batches))
        check_rows(path, sum(groups), told.rows)
        return Outline(file.schema, groups)

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Read record batches."""
        parts = self.read(source, path, columns, told).to_batches()
        return pa.Table.from_batches([parts[group] for group in groups])


class _ArrowWriter:
    def __init__(self, sink: WritableFile, schema: pa.Schema, codec: str | None) -> None:
        options = pa.ipc.IpcWriteOptions(compression=codec)
        self._file, self._rows = pa.ipc.new_file(sink, schema, options=options), 0

    def write(self, rows: pa.Table) -> None:
        self._file.write_table(rows.combine_chunks(), max(rows.num_rows, 1))
        self._rows += rows.num_rows

    def close(self) -> int:
        self._file.close()
        return self._rows
