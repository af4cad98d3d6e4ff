"""What a storage does: the calls that the log, and all that lies behind it, rest on."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, BinaryIO, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path


__all__ = ["TOGETHER", "BundlingStorage", "PartedStorage", "Sink", "Storage"]


TOGETHER = 16
"""Small files that become durable together at most: each takes a handle meanwhile."""


class Sink(io.RawIOBase):
    """A new file being written: there, whole and durable once closed, or abandoned.

    As a context manager it is closed at the end of the block, abandoned if that fails. One that is
    dropped unclosed is abandoned too.
    """

    def abandon(self) -> None:
        """Give the file up: nothing is waited for, nothing is left of it."""
        raise NotImplementedError

    def writable(self) -> bool:
        """Tell writers of files that bytes can be written."""
        return True

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        """Close the file, or abandon it after an error."""
        if kind is None:
            self.close()
        else:
            self.abandon()

    def __del__(self) -> None:
        """Abandon: ``io`` would close, and so finish, a file that nobody finished."""
        self.abandon()


class Storage(Protocol):
    """What a collection needs of its storage. Paths are relative, with ``/`` between their parts.

    Whatever a call has written or deleted is durable when it returns. Every call raises
    ``StorageError`` where the storage fails, with the path; a missing file is a
    ``FileNotFoundError``. Of everything but ``list``, which cleaning up, expiring and audits use,
    and all for the few stubs in ``expired/``, an object store can do each at a constant cost; a
    listing costs that for each thousand paths.
    """

    @property
    def uri(self) -> str:
        """The collection's root, as a user would write it."""

    @property
    def is_far(self) -> bool:
        """Whether each call waits for a network: a disk answers sooner than a thread begins."""

    def local_path(self, path: str) -> Path | None:
        """Return where a path lies on a file system of this machine; None: on none.

        Where it lies on one, ``open`` gives a file with a handle (``fileno``).
        """

    def create(self, path: str, content: bytes) -> None:
        """Create a whole file at once; ``AlreadyExistsError`` if it is there, durably."""

    def settle(self, path: str) -> None:
        """Make sure that a file which somebody else created is there to stay."""

    def replace(self, path: str, content: bytes) -> None:
        """Write a small file whole, over what was there."""

    def write(self, path: str) -> Sink:
        """Open a new file for writing; it is durable once closed."""

    def read(self, path: str) -> bytes:
        """Return a file's content."""

    def open(self, path: str) -> BinaryIO:
        """Open a file for reading, seekable."""

    def size(self, path: str) -> int | None:
        """Return a file's size in bytes, None if there is none."""

    def move(self, moves: Iterable[tuple[str, str]]) -> None:
        """Move files to names nobody else has; one that is already moved is left.

        Raises:
            FileGoneError: a file is at neither of its names.
        """

    def check_moves(self) -> None:
        """See that what is staged can be moved to where it is visible, once a start.

        Raises:
            StorageError: it can't.
        """

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """Yield the paths of all files below the folder ``prefix``, in no order.

        With ``start`` only those that sort as it or after it, as text, with ``end`` those that sort
        as it or before: an object store begins and ends there.
        """

    def folders(self) -> Iterator[str]:
        """Yield the names of the folders in the root, in no order."""

    def delete(self, paths: Iterable[str]) -> None:
        """Delete files, for good; one that isn't there is no error. Folders left empty go too."""


@runtime_checkable
class BundlingStorage(Protocol):
    """A storage where small files cost less if several become durable together."""

    def write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Write new files, paths and contents, as ``write`` does each."""

    def create_all(self, files: Sequence[tuple[str, bytes]]) -> list[str]:
        """Create whole files, as ``create`` does each; return the paths that were taken."""


@runtime_checkable
class PartedStorage(Protocol):
    """A storage where fetching all of a large file costs more than fetching what is read of it."""

    def open_parts(
        self, paths: Sequence[str], size: int, gone: Callable[[], Exception]
    ) -> BinaryIO:
        """Open a file of ``size`` bytes for reading; each read fetches just what it asks.

        It is looked for when it is first read: at ``paths``, the likeliest first, from one of which
        it may be moved to another meanwhile. Where it is at none, ``gone`` gives the error.
        """
