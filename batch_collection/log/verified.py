"""Files that rows are made of: opened once they are, byte for byte, what their entry says."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import pyarrow as pa

from batch_collection.errors import DamagedFileError, FileGoneError, in_one_line
from batch_collection.log.batch import open_published
from batch_collection.log.entries import PUT_BACK
from batch_collection.log.entry import DeadLetterFile
from batch_collection.storage.checksum import stream_crc32c

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.log.entry import CarryFile
    from batch_collection.storage.contract import Storage

__all__ = ["Verified", "decoding", "open_verified"]


Verified = set[tuple[str, str]]
"""Files that were found unchanged, by the URI of their collection and their path."""


def open_verified(
    storage: Storage, file: CarryFile | DeadLetterFile, verified: Verified | None = None
) -> BinaryIO:
    """Open a file that an entry names, once its length and CRC-32C are those that the entry names.

    What is summed up is what is read then: the open file, which on Cloud Storage is one download.
    Memory: a block of it.

    Args:
        storage: Where the collection lies.
        file: The file, as the entry tells of it.
        verified: Files that need not be summed up again; this one is added.

    Raises:
        FileGoneError: it is not there.
        DamagedFileError: it has other bytes.
    """
    staged = file.staged if isinstance(file, DeadLetterFile) else file.path
    try:
        source = open_published(storage, file.path, staged)
    except FileGoneError as error:
        raise FileGoneError(_damage(storage, file.path, "is missing")) from error
    if verified is not None and (storage.uri, file.path) in verified:
        return source
    try:
        _check(storage, file, source)
        source.seek(0)
    except BaseException:
        source.close()
        raise
    if verified is not None:
        verified.add((storage.uri, file.path))
    return source


def _check(storage: Storage, file: CarryFile | DeadLetterFile, source: BinaryIO) -> None:
    size, checksum = stream_crc32c(source)
    if size != file.bytes:
        what = f"has {size} bytes instead of {file.bytes}"
    elif checksum != file.crc32c:
        what = f"was changed: its crc32c is {checksum} instead of {file.crc32c}"
    else:
        return
    raise DamagedFileError(_damage(storage, file.path, what))


@contextmanager
def decoding(storage: Storage, file: CarryFile | DeadLetterFile) -> Iterator[None]:
    """Turn what a library says of such a file's content into one line.

    What the system says of reading (``errno``) is let through: the file is not at fault.

    Raises:
        DamagedFileError: it can't be decoded, though its bytes are those that the log says.
    """
    try:
        yield
    except (pa.ArrowException, KeyError, OSError) as error:
        if getattr(error, "errno", None) is not None:
            raise
        what = f"cannot be decoded: {in_one_line(error)}"
        raise DamagedFileError(_damage(storage, file.path, what)) from error


def _damage(storage: Storage, path: str, what: str) -> str:
    return (
        f"{storage.uri}/{path} {what}; {PUT_BACK}; "
        "`batch-collection audit` finds what else is damaged"
    )
