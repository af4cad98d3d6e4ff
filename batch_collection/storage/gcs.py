"""A collection in a bucket of Cloud Storage."""

from __future__ import annotations

import contextlib
import tempfile
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

import google_crc32c
from google.api_core import exceptions as api

from batch_collection.errors import AlreadyExistsError, FileGoneError, StorageError
from batch_collection.parallel import in_parallel
from batch_collection.storage.gcs_client import TIMEOUT, connection, failing, retry
from batch_collection.storage.gcs_ranges import GcsRanges
from batch_collection.storage.gcs_upload import GcsSink, is_there

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from google.cloud.storage import Blob, Bucket

    from batch_collection.storage.contract import Sink

__all__ = ["GcsStorage"]


_IN_MEMORY = 32 << 20
"""Bytes of an opened file that are kept in memory; of a longer one, all is in a temporary file."""

_MOST_REPLACES = 10
_immovable: set[str] = set()  # buckets that know no move


@dataclass(frozen=True, slots=True)
class GcsStorage:
    """A prefix in a bucket. What a call has written is durable at once, and seen by everybody.

    Every call may be sent again without harm: what is created demands that nothing is there
    (``if_generation_match=0``), and a refusal is checked against what is there, since it may answer
    a request of ours that had come through. Objects are never changed but by ``replace``.
    """

    bucket: str
    prefix: str

    @property
    def uri(self) -> str:
        """The URL, ``gs://bucket/prefix``."""
        return f"gs://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def is_far(self) -> bool:
        """Yes."""
        return True

    def local_path(self, path: str) -> None:
        """Return None: an object lies on no disk of this machine."""

    def create(self, path: str, content: bytes) -> None:
        """Upload on the condition that nothing is there; the same bytes there are ours."""
        with failing("create", self.bucket, path):
            blob = self._blob(path)
            try:
                _upload(blob, content, generation=0)
            except api.PreconditionFailed as error:
                if is_there(blob, len(content), google_crc32c.value(content)):
                    return
                message = f"{path} exists already"
                raise AlreadyExistsError(message) from error

    def settle(self, path: str) -> None:
        """Do nothing: an object that is seen is there to stay."""

    def replace(self, path: str, content: bytes) -> None:
        """Upload over the generation that is there, and not over a later one unawares."""
        with failing("write", self.bucket, path):
            blob, checksum = self._blob(path), google_crc32c.value(content)
            for _ in range(_MOST_REPLACES):
                found = self._bucket.get_blob(blob.name, timeout=TIMEOUT, retry=retry())
                generation = 0 if found is None else found.generation
                try:
                    _upload(blob, content, generation)
                except api.PreconditionFailed:  # somebody else's write, or ours, answered late
                    if is_there(blob, len(content), checksum):
                        return
                else:
                    return
        message = f"cannot write {path} in bucket={self.bucket}: others keep writing it"
        raise StorageError(message)

    def write(self, path: str) -> Sink:
        """Open a new object; see ``GcsSink``."""
        with failing("write", self.bucket, path):
            return GcsSink(self._blob(path), path)

    def read(self, path: str) -> bytes:
        """Return an object's content."""
        with self.open(path) as file:
            return file.read()

    def open(self, path: str) -> BinaryIO:
        """Fetch an object, its checksum compared; it stays readable whatever becomes of it."""
        with failing("read", self.bucket, path):
            # once more around the client's own: an error's text may be torn, too
            return retry()(lambda: self._fetch(path))()

    def open_parts(
        self, paths: Sequence[str], size: int, gone: Callable[[], Exception]
    ) -> BinaryIO:
        """Open an object by ranges; see ``GcsRanges``."""
        with failing("read", self.bucket, paths[0]):
            return GcsRanges(list(map(self._blob, paths)), paths[0], size, gone)  # type: ignore[return-value]

    def size(self, path: str) -> int | None:
        """Return an object's size, None if there is none."""
        with failing("read", self.bucket, path):
            blob = self._bucket.get_blob(self._name(path), timeout=TIMEOUT, retry=retry())
        return None if blob is None else blob.size

    def move(self, moves: Iterable[tuple[str, str]]) -> None:
        """Move objects, several at once: by a server-side copy, or at once where a bucket can."""
        in_parallel(lambda move: self._move(*move), moves)

    def check_moves(self) -> None:
        """Do nothing: a bucket is one."""

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Yield the objects below a folder, a thousand at each request."""
        with failing("list", self.bucket, prefix or self.prefix):
            below = self._name(prefix).rstrip("/") + "/"
            found = connection().client.list_blobs(
                self.bucket,
                prefix=below.lstrip("/"),
                start_offset=self._name(start) if start else None,
                end_offset=f"{self._name(end)}!" if end else None,  # that end is excluded
                fields="items(name),nextPageToken",
                timeout=TIMEOUT,
                retry=retry(),
            )
            for blob in found:
                path = blob.name[len(self._name("")) :]
                if not end or path <= end:
                    yield path

    def folders(self) -> Iterator[str]:
        """Yield the names that stand between the root and the next slash."""
        with failing("list", self.bucket, self.prefix):
            found = connection().client.list_blobs(
                self.bucket,
                prefix=self._name(""),
                delimiter="/",
                fields="prefixes,nextPageToken",
                timeout=TIMEOUT,
                retry=retry(),
            )
            for page in found.pages:
                yield from (each[len(self._name("")) : -1] for each in page.prefixes)

    def delete(self, paths: Iterable[str]) -> None:
        """Delete objects, several at once."""
        in_parallel(self._delete, paths)

    @property
    def _bucket(self) -> Bucket:
        return connection().client.bucket(self.bucket)

    def _name(self, path: str) -> str:
        return f"{self.prefix}/{path}" if self.prefix else path

    def _blob(self, path: str) -> Blob:
        return self._bucket.blob(self._name(path))

    def _fetch(self, path: str) -> BinaryIO:
        file = _Fetched(_IN_MEMORY)
        try:
            self._blob(path).download_to_file(
                file, checksum="crc32c", timeout=TIMEOUT, retry=retry()
            )
        except BaseException:
            file.close()
            raise
        file.seek(0)
        return file  # type: ignore[return-value]

    def _delete(self, path: str) -> None:
        with failing("delete", self.bucket, path), contextlib.suppress(api.NotFound):
            self._blob(path).delete(timeout=TIMEOUT, retry=retry())

    def _move(self, source: str, target: str) -> None:
        with failing("move", self.bucket, source):
            if self._move_at_once(source, target):
                return
            try:
                self._copy(source, target)
            except api.PreconditionFailed:
                pass  # it is there already: names are drawn once
            except api.NotFound as error:
                if self.size(target) is not None:
                    return  # moved before, or by somebody who publishes the same entry beside us
                message = f"cannot move {source}: it is gone, and {target} is not there either"
                raise FileGoneError(message) from error
        self._delete(source)

    def _move_at_once(self, source: str, target: str) -> bool:
        """Rename, where the bucket has a hierarchical namespace; say whether it is done."""
        if self.bucket in _immovable:
            return False
        try:
            self._bucket.move_blob(
                self._blob(source),
                self._name(target),
                if_generation_match=0,
                timeout=TIMEOUT,
                retry=retry(),
            )
        except (api.NotFound, api.PreconditionFailed, api.Forbidden):
            return False  # nothing is sure: the copy finds out
        except api.ClientError as error:
            if isinstance(error, api.TooManyRequests):
                raise
            _immovable.add(self.bucket)
            return False
        return True

    def _copy(self, source: str, target: str) -> None:
        copied, token = self._blob(target), None
        while True:
            token, _, _ = copied.rewrite(
                self._blob(source),
                token=token,
                if_generation_match=0,
                timeout=TIMEOUT,
                retry=retry(),
            )
            if token is None:
                return


class _Fetched(tempfile.SpooledTemporaryFile[bytes]):
    """An object's content. Python 3.10's base class lacks what pyarrow asks of a file."""

    def readable(self) -> bool:
        """Tell pyarrow that it can be read."""
        return True

    def seekable(self) -> bool:
        """Tell pyarrow that it can be read from any place on."""
        return True

    def writable(self) -> bool:
        """Tell the client that the object can be fetched into it."""
        return True


def _upload(blob: Blob, content: bytes, generation: int) -> None:
    blob.upload_from_string(
        content,
        content_type="application/json",
        if_generation_match=generation,
        checksum="crc32c",
        timeout=TIMEOUT,
        retry=retry(),
    )
