"""CRC-32C, the checksum that entries name and Cloud Storage checks, computed in C."""

from __future__ import annotations

from typing import TYPE_CHECKING, BinaryIO

import google_crc32c

from batch_collection.storage.contract import Sink

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["ChecksumFile", "crc32c", "stream_crc32c"]


_PIECE = 1 << 20


class ChecksumFile(Sink):
    """A sink that counts and sums up the bytes that pass; closing it closes the sink behind."""

    def __init__(self, sink: Sink) -> None:
        """Pass everything on to ``sink``."""
        super().__init__()
        self._sink, self._bytes, self._sum = sink, 0, 0

    @property
    def bytes(self) -> int:
        """How many bytes were written."""
        return self._bytes

    @property
    def crc32c(self) -> str:
        """The CRC-32C of what was written, as eight hexadecimal digits."""
        return f"{self._sum:08x}"

    def write(self, content: Buffer) -> int:
        """Write and count."""
        whole = memoryview(content).tobytes()
        self._sink.write(whole)
        self._bytes += len(whole)
        self._sum = google_crc32c.extend(self._sum, whole)
        return len(whole)

    def flush(self) -> None:
        """Flush the sink."""
        if not self._sink.closed:  # io's own close flushes, too
            self._sink.flush()

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._bytes

    def close(self) -> None:
        """Close the sink: the file is durable."""
        if not self.closed:
            self._sink.close()
            super().close()

    def abandon(self) -> None:
        """Abandon the sink."""
        if not self.closed and hasattr(self, "_sink"):
            self._sink.abandon()
            super().close()


def crc32c(content: bytes) -> str:
    """Return the CRC-32C of ``content`` as eight hexadecimal digits."""
    return f"{google_crc32c.value(content):08x}"


def stream_crc32c(file: BinaryIO) -> tuple[int, str]:
    """Return how many bytes are left of an open file, and their CRC-32C, read piece by piece."""
    size, total = 0, 0
    while piece := file.read(_PIECE):
        size, total = size + len(piece), google_crc32c.extend(total, piece)
    return size, f"{total:08x}"
