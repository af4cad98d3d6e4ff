"""Why messages became dead letters, as their files say."""

from __future__ import annotations

from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.batch import open_published
from batch_collection.errors import DamagedFileError
from batch_collection.parallel import each

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.entry import DeadLetterFile, Entry
    from batch_collection.storage import Storage

__all__ = ["reasons"]


def reasons(storage: Storage, entries: Iterable[Entry]) -> Counter[str]:
    """Count the dead letters of entries by their reason.

    Raises:
        DamagedFileError: a file can't be read.
        FileGoneError: a file is not there.
    """
    found: Counter[str] = Counter()
    files = (file for entry in entries for file in entry.dead_letters)
    for counts in each(storage, partial(_reasons, storage), files):
        found.update(counts)
    return found


def _reasons(storage: Storage, letters: DeadLetterFile) -> Counter[str]:
    try:
        with (
            open_published(storage, letters.path, letters.staged) as source,
            pq.ParquetFile(source) as file,
        ):
            counts = file.read(columns=["error"]).column("error").value_counts().to_pylist()
    except (pa.ArrowException, KeyError) as error:
        message = f"cannot read dead letters {letters.path}: {error}; run `batch-collection audit`"
        raise DamagedFileError(message) from error
    return Counter({str(item["values"]): item["counts"] for item in counts})
