"""Keeps a collection's log for one collector: where it ends, and what others have added to it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from batch_collection.checkpoints.making import mend
from batch_collection.errors import FileGoneError, LogError
from batch_collection.log.entries import PUT_BACK, links_since, newest_cycle, read_link
from batch_collection.paths import entry_path, new_token, staged_path
from batch_collection.publishing.publish import left_over, publish, sweep
from transforms.committing.commit import just_committed

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.entries import End, Link
    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["LogKeeper", "check_writable", "repair"]


@dataclass(slots=True)
class LogKeeper:
    """Where a log stands.

    Attributes:
        newest: the newest entry taken up, which is published.
        digest: of its bytes.
        committed: the id of a plan of ours that was committed and is not taken up.
    """

    storage: Storage
    newest: Entry
    digest: str
    committed: str | None = None

    def take_up(self) -> tuple[Entry, ...]:
        """Take up what the log has got since, whoever committed it, and return it.

        The newest entry is published when this returns, so that the next may be created.

        Raises:
            LogError: it does not follow the entry that this collector goes on from.
        """
        plan, self.committed = self.committed, None
        own = () if plan is None else self.own(plan)
        if own:
            return self.take(own, published=True)
        found = self.since()
        return self.take(found, published=False) if found else ()

    def own(self, plan: str) -> tuple[Link, ...]:
        """Return the entry that a plan has become, if it is the next; no look for others then.

        What this process has just committed is not read back.
        """
        with contextlib.suppress(LogError):
            known = just_committed(self.storage, plan)
            link = known or read_link(self.storage, self.newest.cycle + 1)
            if link.entry.plan == plan and link.entry.previous == self.digest:
                return (link,)
        return ()

    def since(self) -> tuple[Link, ...]:
        """Return what the log has got since.

        Raises:
            LogError: an entry is missing, or does not follow.
        """
        known = self.newest.cycle
        newest = newest_cycle(self.storage, hint=known)
        if newest is None or newest < known:
            message = (
                f"{entry_path(known)} is missing in {self.storage.uri}: somebody has removed it "
                f"since this collector began; {PUT_BACK}"
            )
            raise LogError(message)
        return links_since(self.storage, known, newest, self.digest)

    def take(self, found: Sequence[Link], *, published: bool) -> tuple[Entry, ...]:
        """Go on from the last of some entries, and return them all.

        Those of commands are published again: what this collector had staged for their cycles,
        which commands leave alone, goes with that.
        """
        entries = tuple(entry for entry, _ in found)
        for entry in entries:
            if entry.is_maintenance or (entry is entries[-1] and not published):
                self._publish(entry)
        self.newest, self.digest = found[-1]
        return entries

    def _publish(self, entry: Entry) -> None:
        """Publish an entry, again if it was; what a later one has redriven since is not missed."""
        try:
            publish(self.storage, entry)
        except FileGoneError:
            if newest_cycle(self.storage, hint=entry.cycle) == entry.cycle:
                raise
            publish(self.storage, entry, without_gone=True)


def check_writable(storage: Storage) -> None:
    """See that files can be made and moved where a collection is to lie.

    Raises:
        StorageError: they can't.
    """
    path = staged_path(0, f"/probe-{new_token()}")  # of a cycle that is over: swept, if left
    storage.create(path, b"")
    storage.delete([path])
    storage.check_moves()


def repair(storage: Storage, end: End) -> str:
    """Repair what a crash has left of the newest cycle, and remove what it left of others.

    Returns:
        What a user should know; empty if all is well.
    """
    warning, left = "", left_over(storage)
    try:
        publish(storage, end.entry, looked=end.looked, left=left)
    except FileGoneError as error:
        # the file was durable before its entry was made: a reader has taken it away
        warning = f"{error}: was it removed since? it is not collected again"
        publish(storage, end.entry, without_gone=True, looked=end.looked, left=left)
    sweep(storage, end.entry, left)
    mend(storage, end.entry.cycle, looked=end.looked)
    return warning
