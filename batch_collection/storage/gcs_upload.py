"""Files on their way to Cloud Storage: in parts, each sent while the next is made."""

from __future__ import annotations

import base64
import contextlib
from typing import TYPE_CHECKING, Any

import google_crc32c
from google.api_core import exceptions as api

from batch_collection.errors import StorageError
from batch_collection.storage.contract import Sink
from batch_collection.storage.gcs_client import TIMEOUT, connection, failing, retry

if TYPE_CHECKING:
    from concurrent.futures import Future

    from google.cloud.storage import Blob
    from typing_extensions import Buffer

__all__ = ["PART", "GcsSink", "is_there"]


PART = 8 << 20
"""Bytes of a part, a multiple of 256 KiB as Cloud Storage asks. A file that is being written holds
two at most: one that is filled, one on its way."""

_COMPLETE, _INCOMPLETE = (200, 201), 308
_OVER = (404, 410, 412)  # the upload is no longer known; the object is there


def is_there(blob: Blob, size: int, checksum: int) -> bool:
    """Tell whether an object is there with these bytes: it is what we have sent."""
    try:
        blob.reload(timeout=TIMEOUT, retry=retry())
    except api.NotFound:
        return False
    return (blob.size, blob.crc32c) == (size, _encoded(checksum))


class GcsSink(Sink):
    """A new object: there, once closed, with the checksum of what was written.

    Its name is nobody else's. Up to one part it is one request; a longer one is a resumable upload,
    of which nothing is seen before its last part is in.
    """

    def __init__(self, blob: Blob, path: str) -> None:
        """Write to ``blob``; errors name ``path``."""
        super().__init__()
        self._blob, self._path = blob, path
        self._buffer, self._bytes, self._sum = bytearray(), 0, 0
        self._upload: _Upload | None = None
        self._sending: Future[Any] | None = None

    def write(self, content: Buffer) -> int:
        """Take bytes; wait only if a part is full and the one before is still on its way."""
        if self.closed:
            message = "write to closed file"
            raise ValueError(message)
        whole = bytes(content)
        self._bytes += len(whole)
        self._sum = google_crc32c.extend(self._sum, whole)
        rest = memoryview(whole)
        while rest:
            if len(self._buffer) == PART:  # and more comes: the last part is never empty
                with self._failing():
                    self._send()
            taken = rest[: PART - len(self._buffer)]
            self._buffer += taken
            rest = rest[len(taken) :]
        return len(whole)

    def tell(self) -> int:
        """Return how many bytes were written."""
        return self._bytes

    def close(self) -> None:
        """Send what is left; see that the object is there, and has the right checksum."""
        if self.closed:
            return
        try:
            with self._failing():
                self._finish(bytes(self._buffer))
        except BaseException:
            self.abandon()
            raise
        self._buffer.clear()
        super().close()

    def abandon(self) -> None:
        """Forget what was sent: without its last part, an upload is no object."""
        if self.closed or not hasattr(self, "_sending"):
            return
        super().close()
        self._buffer.clear()
        if self._upload is not None:
            with contextlib.suppress(RuntimeError):  # the interpreter is going down
                connection().senders.submit(self._upload.cancel, self._sending)

    def _failing(self) -> Any:
        return failing("write", self._blob.bucket.name, self._path)

    def _send(self) -> None:
        self._upload = self._upload or _Upload(self._blob)
        self._wait()
        part, self._buffer = bytes(self._buffer), bytearray()
        self._sending = connection().senders.submit(self._upload.send, part)

    def _wait(self) -> None:
        if self._sending is not None:
            self._sending.result()

    def _finish(self, rest: bytes) -> None:
        try:
            if self._upload is None:
                _upload_whole(self._blob, rest)
            else:
                self._wait()
                self._upload.send(rest, is_last=True)
        except api.ClientError as error:  # is it the answer to what had come through before?
            if error.code not in _OVER or not is_there(self._blob, self._bytes, self._sum):
                raise
        if self._upload is not None and not is_there(self._blob, self._bytes, self._sum):
            message = f"cannot write {self._path}: it arrived with another size or checksum"
            raise StorageError(message)


def _upload_whole(blob: Blob, content: bytes) -> None:
    """Send a small object with its checksum, which the service compares."""
    blob.upload_from_string(
        content,
        content_type="application/octet-stream",
        if_generation_match=0,
        checksum="crc32c",
        timeout=TIMEOUT,
        retry=retry(),
    )


class _Upload:
    """A resumable upload, by the protocol itself: the client would send a part again unasked.

    After a failure the service is asked how much it has, and gets the rest.
    """

    def __init__(self, blob: Blob) -> None:
        self._blob, self._url, self._start = blob, "", 0

    def send(self, part: bytes, *, is_last: bool = False) -> None:
        """Send the next part until it is in."""
        if not self._url:
            self._url = self._blob.create_resumable_upload_session(
                content_type="application/octet-stream",
                if_generation_match=0,
                timeout=TIMEOUT,
                retry=retry(),
            )
        end = self._start + len(part)
        total = str(end) if is_last else "*"
        has: int | None = self._start  # None: to be asked

        def attempt() -> None:
            nonlocal has
            if has is None:
                has = self._put(b"", f"bytes */{total}")
            while has is not None and (has < end or is_last):
                if has < self._start:
                    message = f"cannot write {self._blob.name}: bytes that had arrived are gone"
                    raise StorageError(message)
                rest, first, has = part[has - self._start :], has, None
                span = f"{first}-{end - 1}" if rest else "*"
                has = self._put(rest, f"bytes {span}/{total}")

        retry()(attempt)()
        self._start = end

    def cancel(self, sending: Future[Any] | None) -> None:
        """Tell the service that no more will come, when the part on its way has arrived."""
        with contextlib.suppress(Exception):  # it forgets the upload within a week anyhow
            if sending is not None:
                sending.exception()
            connection().session.delete(self._url, timeout=TIMEOUT)

    def _put(self, content: bytes, content_range: str) -> int | None:
        """Send bytes; return how many the service has from the beginning, None if it has all."""
        answer = connection().session.put(
            self._url,
            data=content,
            headers={"Content-Range": content_range},
            timeout=TIMEOUT,
            allow_redirects=False,  # 308 is no redirection here
        )
        if answer.status_code in _COMPLETE:
            return None
        if answer.status_code != _INCOMPLETE:
            raise api.from_http_response(answer)
        persisted = answer.headers.get("Range")  # as bytes=0-8388607
        return 0 if persisted is None else int(persisted.rpartition("-")[2]) + 1


def _encoded(checksum: int) -> str:
    return base64.b64encode(checksum.to_bytes(4, "big")).decode()
