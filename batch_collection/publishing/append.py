"""Entries that commands make while a collector may run: it takes them up and goes on."""

from __future__ import annotations

import os
import socket
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

from batch_collection.errors import FileGoneError, LogError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import create_entry, no_collection
from batch_collection.paths import new_token
from batch_collection.publishing.publish import publish

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["MOST_RACES", "append", "successor"]


MOST_RACES = 20
"""How often a collector may be faster before a command gives up."""


def append(
    storage: Storage,
    make: Callable[[Entry, str], Entry | None],
    *,
    published: str | None = None,
) -> Entry | None:
    """Create and publish one entry behind the newest, whatever is committed meanwhile.

    What a collector has staged for the same cycle is left to it: see ``publish``.

    Args:
        storage: Where the collection lies.
        make: Makes the entry that follows another, given with the digest of its bytes; called
            again after each lost race. None: there is nothing to say any more.
        published: The plan of an entry that the caller has published: that is not done again.

    Raises:
        LogError: there is no collection, its log is damaged, or each race was lost.
    """
    for _ in range(MOST_RACES):
        end = end_of_log(storage)
        if end is None:
            raise no_collection(storage)
        if end.entry.plan != published:
            finish(storage, end.entry)
        entry = make(end.entry, end.digest)
        if entry is None:
            return None
        created = create_entry(storage, entry)
        if created.plan == entry.plan:  # also if the answer to an earlier try was lost
            finish(storage, created)
            return created
    message = (
        f"collectors of {storage.uri} were faster {MOST_RACES} times; nothing was changed, try it "
        "again"
    )
    raise LogError(message)


def finish(storage: Storage, entry: Entry) -> None:
    """Publish the newest entry beside a collector that may be at work on the next."""
    try:
        publish(storage, entry, leave_strays=True)
    except FileGoneError:  # taken away since it was published: `audit` finds it
        publish(storage, entry, without_gone=True, leave_strays=True)


def successor(newest: Entry, newest_digest: str, cause: str, **changes: Any) -> Entry:
    """Return an entry that reads nothing and leaves all but ``changes`` as it is."""
    return newest.following(
        newest_digest,
        run=new_token(),
        plan=new_token(),
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=datetime.now(timezone.utc),
        cause=cause,
        **changes,
    )
