"""What a file format does: write rows, tell what a file holds, read it."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    import pyarrow as pa

    from batch_collection.formats.told import Outline, Told


__all__ = ["BatchWriter", "Format", "WritableFile"]


WritableFile = io.RawIOBase | BinaryIO
"""What a format writes to: it needs ``write``, ``flush``, ``tell`` and ``closed``."""


class BatchWriter(Protocol):
    """Writes the rows of one file, table after table of one schema."""

    def write(self, rows: pa.Table) -> None:
        """Append rows."""

    def close(self) -> int:
        """Write what is left; return how many rows the file holds. The sink stays open."""


class Format(Protocol):
    """A file format.

    Whatever reads a file compares its rows with those that the log tells of: one that has others
    is a ``DamagedFileError``, before any of them is read where that can be. Rows without a column
    have ``PLACEHOLDER``, in all formats; format 1 may have kept none of them, and they were empty.
    """

    name: str
    endings: Mapping[str, str]
    """By compression, the default first, how names of files end, with the dot.

    Files are told by it: none ends as a name of another format does.
    """
    reads_parts: bool
    """Whether just those bytes are read that are asked for.

    Such a file is opened natively where it lies on a disk, and read by ranges far away.
    """

    def writer(self, sink: WritableFile, schema: pa.Schema, compression: str) -> BatchWriter:
        """Start a file."""

    def read(
        self, source: BinaryIO, path: str, columns: Sequence[str] | None, told: Told
    ) -> pa.Table:
        """Return the rows of a file, or those of ``columns`` that it has; ``source`` is closed."""

    def outline(self, source: BinaryIO, path: str, told: Told) -> Outline:
        """Return what can be known of a file without keeping its rows; ``source`` is closed."""

    def read_groups(
        self,
        source: BinaryIO,
        path: str,
        groups: Sequence[int],
        columns: Sequence[str] | None,
        told: Told,
    ) -> pa.Table:
        """Return the rows of some groups, as ``read`` does those of all; ``source`` is closed.

        Many are read at once, each in a thread of its own.
        """
