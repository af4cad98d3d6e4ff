"""A large object of Cloud Storage, of which readers fetch what they read."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, NamedTuple

import requests
from google.api_core import exceptions as api

from batch_collection.errors import DamagedFileError
from batch_collection.storage.gcs_client import TIMEOUT, connection, failing, retry

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from google.cloud.storage import Blob

__all__ = ["GcsRanges"]


class _Generation(NamedTuple):
    """What is read: the object as it was when its first bytes came."""

    blob: Blob
    number: str
    checksums: str


class _Part(NamedTuple):
    """Bytes of an object, and the generation that they are of."""

    content: bytes
    generation: _Generation


class GcsRanges(io.BufferedIOBase):
    """An object that is read by ranges: each read is one request, for just what it asks.

    So it is for readers that know what they want, in large pieces, as Arrow does of Parquet.
    Nothing is asked before the first read. All that is read is of one generation. Is that gone, it
    was moved: it is looked for at its other names, with the same checksum.
    """

    def __init__(
        self, blobs: Sequence[Blob], path: str, size: int, gone: Callable[[], Exception]
    ) -> None:
        """Read an object of ``size`` bytes.

        Args:
            blobs: Where it may be, the likeliest first.
            path: What errors name.
            size: Its bytes, as the log says.
            gone: Gives the error that is raised where it is nowhere.
        """
        super().__init__()
        self._blobs, self._path, self._size, self._gone = tuple(blobs), path, size, gone
        self._place = 0
        self._generation: _Generation | None = None

    def readable(self) -> bool:
        """Tell readers that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell readers that it can be read from any place on."""
        return True

    def tell(self) -> int:
        """Return the place where the next read begins."""
        return self._place

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place; nothing is asked for that."""
        self._check_open()
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._place, io.SEEK_END: self._size}[whence]
        if begin + offset < 0:
            message = f"negative seek position {begin + offset}"
            raise ValueError(message)
        self._place = begin + offset
        return self._place

    def read(self, size: int | None = -1) -> bytes:
        """Return the next ``size`` bytes, all that are left by default; fewer only at the end.

        Raises:
            DamagedFileError: it has another size than the log says, or is another one by now.
            StorageError: it can't be fetched.
        """
        self._check_open()
        start = self._place
        stop = self._size if size is None or size < 0 else min(start + size, self._size)
        if stop <= start:
            return b""
        content = self._read(start, stop)
        self._place = stop
        return content

    def read1(self, size: int = -1) -> bytes:
        """Return the same as ``read``."""
        return self.read(size)

    def _check_open(self) -> None:
        if self.closed:
            message = "I/O operation on closed file"
            raise ValueError(message)

    def _read(self, start: int, stop: int) -> bytes:
        if self._generation is not None:
            part = self._ask(self._generation.blob, self._generation.number, start, stop)
            if part is not None:
                return part.content
        for blob in (*self._blobs, self._blobs[0]):  # it may be moved between two looks
            part = self._ask(blob, "", start, stop)
            if part is not None:
                return self._same(part)
        raise self._gone()

    def _same(self, part: _Part) -> bytes:
        """Go on with another generation, if its bytes are those of the one before."""
        before, self._generation = self._generation, part.generation
        if before is not None and before.checksums != part.generation.checksums:
            self._generation = before
            what = "it was changed while it was read"
            raise self._damaged(what)
        return part.content

    def _ask(self, blob: Blob, number: str, start: int, stop: int) -> _Part | None:
        """Fetch bytes of an object, or of that generation of it; None if it is not there."""
        try:
            with failing("read", blob.bucket.name, self._path):
                # errors that are worth it are tried again
                part: _Part = retry()(lambda: self._fetched(blob, number, start, stop))()
        except FileNotFoundError:
            return None
        return part

    def _fetched(self, blob: Blob, number: str, start: int, stop: int) -> _Part:
        """Fetch bytes with one request.

        Raises:
            GoogleAPIError: the service refuses.
            RequestException: the answer did not arrive, or only some of it.
        """
        client, session, _ = connection()
        asked = {"alt": "media", **({"generation": number} if number else {})}
        answer = session.get(
            f"{client.api_endpoint}/download/storage/v1{blob.path}",
            params=asked,
            headers={"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"},
            timeout=TIMEOUT,
        )
        if answer.status_code not in {requests.codes.ok, requests.codes.partial_content}:
            if answer.status_code == requests.codes.requested_range_not_satisfiable:
                most = f"at most {start}"
                raise self._sized(most)
            raise api.from_http_response(answer)
        content, total = answer.content, _total(answer)
        if total != self._size:
            raise self._sized(str(total))
        if answer.status_code == requests.codes.ok:  # all of it
            content = content[start:stop]
        if len(content) != stop - start:
            message = f"{len(content)} bytes came instead of {stop - start}"
            raise requests.ConnectionError(message)
        headers = answer.headers
        found = headers.get("X-Goog-Generation", ""), _crc32c(headers.get("X-Goog-Hash", ""))
        return _Part(content, _Generation(blob, *found))

    def _sized(self, found: str) -> DamagedFileError:
        return self._damaged(f"it has {found} bytes, the log says {self._size}")

    def _damaged(self, what: str) -> DamagedFileError:
        return DamagedFileError(f"cannot read {self._path}: {what}; run `batch-collection audit`")


def _total(answer: requests.Response) -> int:
    """Return the size of the whole object, of which an answer is a part."""
    _, _, total = answer.headers.get("Content-Range", "").rpartition("/")
    return int(total) if total.isdecimal() else len(answer.content)


def _crc32c(hashes: str) -> str:
    """Return the checksum in ``crc32c=VALUE,md5=VALUE``; what was composed has no other."""
    found = re.search(r"crc32c=([^,\s]+)", hashes)
    return found[1] if found else ""
