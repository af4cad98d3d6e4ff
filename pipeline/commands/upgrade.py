"""``batch-collection upgrade``: move a collection of an older format to the newest one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.log.entry import FORMAT
from batch_collection.publishing.append import append, successor
from batch_collection.storage.opening import open_storage
from pipeline.options.flags import configure_path
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["configure", "run", "upgrade"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)


def run(args: argparse.Namespace) -> int:
    """Upgrade, and say what that means; return 0.

    Raises:
        CollectionError: there is no collection, or it can't be written.
    """
    storage = open_storage(args.path)
    entry = upgrade(storage)
    if entry is None:
        say(f"nothing to upgrade: {storage.uri} is of format {FORMAT} already")
    else:
        say(
            f"cycle {entry.cycle}: {storage.uri} is of format {FORMAT} from now on; versions of "
            "batch-collection that do not know it can't read it any more",
            "its files go on as they were begun: paths, headers and field names",
        )
    return 0


def upgrade(storage: Storage) -> Entry | None:
    """Say that a collection is of the newest format; its form stays, so that its files stay alike.

    Returns:
        The entry that says so; None if it is of that format already.
    """

    def upgraded(newest: Entry, digest: str) -> Entry | None:
        is_older = newest.format < FORMAT
        return successor(newest, digest, "upgrade", format=FORMAT) if is_older else None

    return append(storage, upgraded)
