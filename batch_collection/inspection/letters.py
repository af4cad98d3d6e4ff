"""The dead letters of a collection that are there, as their files hold them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa

from batch_collection.checkpoints.dead_letters import (
    entries_with_letters,
    live_dead_letters,
    read_letters,
)
from batch_collection.log.entries import newest_entry, no_collection
from batch_collection.log.expiry import first_kept, newest_expiry
from batch_collection.schema.columns import KINDS_WITH_IDS

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.storage.contract import Storage

__all__ = ["COLUMNS", "letters_of"]


COLUMNS = ("partition", "offset", "timestamp", "key", "value", "stage", "error")
"""What is told of a dead letter; ``file``, the path, comes behind it, and of Pub/Sub what it is."""


def letters_of(storage: Storage) -> Iterator[pa.Table]:
    """Yield dead letters, file after file in the order of the log: ``COLUMNS`` and ``file``.

    Where messages have ids, ``id`` and ``subscription`` come behind them: the addresses are ours.
    Those that were redriven or expired are left out.

    Raises:
        LogError: there is no collection.
        DamagedFileError: a file can't be read.
        FileGoneError: a file is not there; it may just have been redriven.
    """
    newest = newest_entry(storage)
    if newest is None:
        raise no_collection(storage)
    entries = entries_with_letters(storage, first_kept(newest_expiry(storage)), newest.cycle)
    source = newest.source
    has_ids = source.kind in KINDS_WITH_IDS
    for letters in live_dead_letters(entries).values():
        table = read_letters(storage, letters, (*COLUMNS, "id") if has_ids else COLUMNS)
        if has_ids:
            table = table.append_column("subscription", pa.repeat(source.topic, table.num_rows))
        yield table.append_column("file", pa.repeat(letters.path, table.num_rows))
