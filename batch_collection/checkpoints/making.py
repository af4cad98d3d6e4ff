"""Make checkpoints: whoever writes the log does, now and then, and makes those that lack anew."""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.checkpoints import ranges
from batch_collection.checkpoints.checkpoint import (
    Checkpoint,
    checkpoint_of,
    merged,
    not_following,
    read_checkpoint,
    read_summary,
    write_checkpoint,
)
from batch_collection.checkpoints.dead_letters import reasons_of
from batch_collection.checkpoints.ranges import cover
from batch_collection.errors import DamagedFileError, FileGoneError, LogError
from batch_collection.log.entries import digest
from batch_collection.log.entry import Entry
from batch_collection.log.expiry import Looked
from batch_collection.paths import entry_path
from batch_collection.storage.fetching import each

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.checkpoints.ranges import Range
    from batch_collection.storage.contract import Storage

__all__ = ["keep_up", "mend"]


_AT_START = 1
_WHEN_DUE = 10
"""Ranges of the lowest level that are read at most, so that nobody waits for long."""


def keep_up(storage: Storage, newest: int) -> None:
    """Make the checkpoints that a cycle completes, after it was published; mostly there are none.

    Then some that lack are made, too, and one is looked at whole, in turn.
    """
    if (newest + 1) % ranges.SPAN == 0:
        mend(storage, newest, most=_WHEN_DUE, turn=newest // ranges.SPAN)


def mend(
    storage: Storage,
    newest: int,
    most: int = _AT_START,
    turn: int | None = None,
    looked: Looked | None = None,
) -> None:
    """Make checkpoints that lack or don't hold, the newest first.

    Checkpoints can be made by several at once, and a crash in between does no harm: see
    ``write_checkpoint``. Where entries can't be read or don't follow one another none is made.

    Args:
        storage: Where the log lies.
        newest: The newest cycle; it is published.
        most: How many ranges of the lowest level may be made of entries, for the time it takes.
        turn: Of all that readers would use, take a look at the listing of one, another in each
            turn; None: of none.
        looked: What was found expired; None: look.
    """
    first = (looked or Looked.at(storage)).first
    spans = [span for span in cover(first, newest) if span.level is not None][::-1]
    summaries = each(storage, partial(read_summary, storage), spans)
    mender = _Mender(storage, most)
    for number, (span, summary) in enumerate(zip(spans, summaries, strict=True)):
        if summary is None or (turn is not None and number == turn % len(spans)):
            mender.whole(span)


class _Mender:
    """Makes checkpoints of others, and of entries as long as ``left``."""

    def __init__(self, storage: Storage, left: int) -> None:
        self._storage, self._left = storage, left

    def whole(self, span: Range) -> Checkpoint | None:
        """Return a range's checkpoint, made if need be; None if it can't be now."""
        found = read_checkpoint(self._storage, span)
        if found is None:
            found = self._merged(span) if span.parts else self._of_entries(span)
            if found is not None:
                write_checkpoint(self._storage, found)
        return found

    def _merged(self, span: Range) -> Checkpoint | None:
        parts: list[Checkpoint | None] = []
        for part in reversed(span.parts):
            parts.append(self.whole(part))
            if parts[-1] is None and not self._left:
                return None  # a look at the others would be for nothing
        whole = [part for part in reversed(parts) if part is not None]
        with contextlib.suppress(LogError):
            return merged(span, whole) if len(whole) == len(parts) else None
        return None

    def _of_entries(self, span: Range) -> Checkpoint | None:
        if not self._left:
            return None
        self._left -= 1
        with contextlib.suppress(LogError):
            return _of_entries(self._storage, span)
        return None


def _of_entries(storage: Storage, span: Range) -> Checkpoint:
    """Make a checkpoint of entries.

    Raises:
        LogError: one is missing, can't be read, or does not follow the one before.
    """
    entries: list[Entry] = []
    last = ""
    for content in each(storage, partial(_content, storage), range(span.first, span.last + 1)):
        entry = Entry.from_json(content)
        if entry.cycle != span.first + len(entries) or (entries and entry.previous != last):
            raise not_following(span.first + len(entries))
        last = digest(content)
        entries.append(entry)
    return checkpoint_of(span, entries, last, _known_reasons(storage, entries))


def _content(storage: Storage, cycle: int) -> bytes:
    try:
        return storage.read(entry_path(cycle))
    except FileNotFoundError as error:
        message = f"no log entry {entry_path(cycle)}"
        raise LogError(message) from error


def _known_reasons(storage: Storage, entries: Sequence[Entry]) -> dict[str, int] | None:
    try:
        return dict(reasons_of(storage, (file for entry in entries for file in entry.dead_letters)))
    except (DamagedFileError, FileGoneError):
        return None
