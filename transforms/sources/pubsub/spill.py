"""Record batches put away on the disk, in files that no crash can leave behind."""

from __future__ import annotations

import tempfile
import weakref
from functools import partial
from typing import IO, TYPE_CHECKING

import pyarrow as pa

from batch_collection.errors import StorageError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["spilled"]


def spilled(batches: Sequence[pa.RecordBatch]) -> list[Callable[[], pa.RecordBatch]]:
    """Write batches of one schema to a file without a name; return what reads each of them.

    The file, and its room on the disk, is gone once nobody can read any of them: not later than
    with the process, however that ends.

    Raises:
        StorageError: they can't be written.
    """
    try:
        file = tempfile.TemporaryFile()  # noqa: SIM115 - closed with what reads it
        spill = _Spill(file)
        with pa.ipc.new_file(file, batches[0].schema) as writer:
            for batch in batches:
                writer.write_batch(batch)
        spill.reader = pa.ipc.open_file(file)
    except OSError as error:
        message = f"cannot put messages away in folder={tempfile.gettempdir()}: {error}"
        raise StorageError(message) from error
    return [partial(spill.read, number) for number in range(len(batches))]


class _Spill:
    """A file that is closed when nobody holds this any more."""

    reader: pa.ipc.RecordBatchFileReader

    def __init__(self, file: IO[bytes]) -> None:
        weakref.finalize(self, file.close)

    def read(self, number: int) -> pa.RecordBatch:
        return self.reader.get_batch(number)
