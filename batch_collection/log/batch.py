"""One batch of a collection: what the log says of it, and its rows."""

from __future__ import annotations

import io
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.counted import counted
from batch_collection.errors import (
    CollectionError,
    DamagedFileError,
    ExpiredError,
    FileGoneError,
    StorageError,
    in_one_line,
)
from batch_collection.formats.known import format_of
from batch_collection.formats.told import Told
from batch_collection.given import public_names
from batch_collection.log.expiry import newest_expiry
from batch_collection.log.file_types import FileTypes
from batch_collection.paths import cycle_name
from batch_collection.storage.contract import PartedStorage
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime
    from typing import Any, BinaryIO

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["Batch", "batches_of", "in_parts", "on_disk", "open_published", "opened", "reading"]


_IN_ONE = 8 << 20
"""Bytes of a file up to which it is fetched whole, by one request."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Batch:
    """At most ``--batch_size`` rows of one window, in one file.

    ``number`` is its place in the entry of its ``cycle``; both together are its identity, the same
    for ever. ``timing`` is ``early``, ``on_time`` or ``late``. ``path`` is relative to the
    collection, ``uri`` is where the file lies.

    Example:
        >>> first = next(iter(collection))
        >>> first.id, first.rows, first.timing
        ('0000000001-0000', 2, 'on_time')
        >>> first.table(["value"]).column("value").to_pylist()
        [1, 2]
    """

    window_start: datetime
    window_end: datetime
    timing: str
    cycle: int
    number: int
    rows: int
    path: str
    _storage: Storage
    _staged: str
    _bytes: int
    _types: FileTypes

    def __eq__(self, other: object) -> bool:
        """Tell whether it is the same file of the same collection."""
        return self._identity == other._identity if isinstance(other, Batch) else False

    def __hash__(self) -> int:
        """Return the same for equal batches."""
        return hash(self._identity)

    def __repr__(self) -> str:
        """Say which one it is, of when, and what is in it."""
        span = f"{format_instant(self.window_start)} to {format_instant(self.window_end)}"
        rows = counted(self.rows, "row")
        return f"Batch({self.id!r}, {rows}, {span}, {self.timing}, {self.uri!r})"

    def __dir__(self) -> list[str]:
        """List what users may call."""
        return public_names(self)

    @property
    def id(self) -> str:
        """The batch's identity, ``CYCLE-NUMBER``; ids sort as the log does."""
        return f"{cycle_name(self.cycle)}-{self.number:04d}"

    @property
    def uri(self) -> str:
        """Where the file lies once it is visible: its path on this machine, or ``gs://...``."""
        return f"{self._storage.uri}/{self.path}"

    def table(self, columns: Sequence[str] | None = None) -> pa.Table:
        """Return the batch's rows, all columns or those named, in that order.

        Raises:
            CollectionError: the batch has no such column (perhaps one that was added later).
        """
        rows = self._read(None if columns is None else list(columns))
        lacking = sorted(set(columns or ()) - set(rows.column_names))
        if lacking:
            message = (
                f"batch {self.id} has no column {', '.join(lacking)}; it has: "
                f"{', '.join(self._read(None).column_names)}"
            )
            raise CollectionError(message)
        return rows if columns is None else rows.select(list(columns))

    @property
    def _identity(self) -> tuple[str, int, int]:
        return (self.uri, self.cycle, self.number)

    @property
    def storage(self) -> Storage:
        """Where the file lies."""
        return self._storage

    @property
    def told(self) -> Told:
        """What the log tells of the file."""
        return Told(self.rows, lambda: self._types.of(self.cycle, self.path))

    def open(self) -> BinaryIO:
        """Open the file, be it visible already or not.

        Raises:
            ExpiredError: it was expired since its view was opened.
            StorageError: it is gone, or has another size than the log says.
        """
        file = self._open()
        file.seek(0, io.SEEK_END)
        size = file.tell()  # Python 3.10's temporary files do not return it
        if size != self._bytes:
            file.close()
            message = (
                f"cannot read {self.path}: it has {size} bytes, the log says {self._bytes}; "
                "run `batch-collection audit`"
            )
            raise DamagedFileError(message)
        file.seek(0)
        return file

    def _open(self) -> BinaryIO:
        try:
            return open_published(self._storage, self.path, self._staged)
        except FileGoneError as error:
            raise self._lost() from error

    def _lost(self) -> CollectionError:
        """Tell why the file is at neither of its names."""
        expiry = newest_expiry(self._storage)
        if expiry is None or not expiry.hides(self.cycle, self.window_end):
            return _gone(self._storage, self.path)
        message = f"batch {self.id} was expired ({expiry}); open {self._storage.uri} again"
        return ExpiredError(message)

    def _open_parts(self, storage: PartedStorage) -> BinaryIO:
        """Open the file, of which only what is read is fetched, and nothing before that."""
        names = list(dict.fromkeys([self.path, self._staged]))
        return storage.open_parts(names, self._bytes, self._lost)

    def _read(self, columns: list[str] | None) -> pa.Table:
        """Return the columns that are there."""
        form = format_of(self.path)
        return reading(self, lambda source: form.read(source, self.path, columns, self.told))


def batches_of(storage: Storage, entry: Entry) -> tuple[Batch, ...]:
    """Return the batches of one entry."""
    types = FileTypes(storage, [entry])
    pairs = [(pane, file) for pane in entry.panes for file in pane.files]
    return tuple(
        Batch(
            window_start=pane.window_start,
            window_end=pane.window_end,
            timing=pane.timing,
            cycle=entry.cycle,
            number=number,
            rows=file.rows,
            path=file.path,
            _storage=storage,
            _staged=file.staged,
            _bytes=file.bytes,
            _types=types,
        )
        for number, (pane, file) in enumerate(pairs)
    )


def open_published(storage: Storage, path: str, staged: str) -> BinaryIO:
    """Open a file that an entry names, wherever its publishing stands.

    Raises:
        FileGoneError: it is at neither of its names.
    """
    for name in (path, staged, path):
        try:
            return storage.open(name)
        except FileNotFoundError:
            continue
    raise _gone(storage, path)


def _gone(storage: Storage, path: str) -> FileGoneError:
    return FileGoneError(
        f"{storage.uri}/{path} is gone, though the log names it; run `batch-collection audit`"
    )


def in_parts(batch: Batch) -> PartedStorage | None:
    """Return the storage of a batch whose file is fetched by the parts that are read, else None."""
    storage = batch.storage
    is_large = batch._bytes > _IN_ONE and format_of(batch.path).reads_parts  # noqa: SLF001 - beside it
    return storage if is_large and isinstance(storage, PartedStorage) else None


def opened(batch: Batch) -> Any:
    """Open the file of a batch for Arrow.

    If parts of it can be read, natively where it lies on a disk, so that no read waits for Python;
    by these parts, if it is large and far away.
    """
    storage = in_parts(batch)
    if storage is not None:
        return batch._open_parts(storage)  # noqa: SLF001 - beside it
    file = batch.open()
    if batch.storage.local_path(batch.path) is None or not format_of(batch.path).reads_parts:
        return file
    with file:  # by its handle: its name may change meanwhile
        return pa.OSFile(f"/dev/fd/{file.fileno()}")


def on_disk(batch: Batch) -> bool:
    """Tell whether the file lies on a disk of this machine now, visible and whole."""
    path = batch.storage.local_path(batch.path)
    try:
        return path is not None and path.stat().st_size == batch._bytes  # noqa: SLF001 - beside it
    except OSError:
        return False


def reading(batch: Batch, read: Callable[[BinaryIO], Any]) -> Any:
    """Read the file of a batch.

    Raises:
        StorageError: it is gone or damaged.
    """
    try:
        return read(opened(batch))
    except (pa.ArrowException, OSError, EOFError, zlib.error) as error:
        message = f"cannot read {batch.path}: {in_one_line(error)}; run `batch-collection audit`"
        raise StorageError(message) from error
