"""When to look again, and what is tried again: one policy for every drive."""

from __future__ import annotations

from datetime import timedelta

from batch_collection.errors import (
    DamagedFileError,
    FileGoneError,
    SourceError,
    StoppedError,
    StorageError,
    WriteError,
)

__all__ = ["POLL", "may_pass", "pause_after"]


POLL = timedelta(seconds=1)
"""How often a source is asked whether enough messages wait for the count trigger."""

_RETRY = timedelta(seconds=1)
_MOST_RETRY = timedelta(seconds=30)


def pause_after(tries: int) -> timedelta:
    """Return how long a topic is left alone in whose way something is: longer after each try."""
    return min(_RETRY * 2 ** min(tries, 10), _MOST_RETRY)


def may_pass(kind: type[Exception] | None, *, once: bool, is_attended: bool) -> bool:
    """Tell whether an error may pass by itself, so that a topic waits instead of being given up.

    A source comes back. Rows that can't be written may be, once a command has changed their type;
    with ``once`` nobody waits for that. A storage works again, too: where it is ``is_attended``, a
    person reads the error, mends it and starts anew, and on an engine nobody does. What is damaged,
    gone, or unknown to this version (None) stays so.
    """
    if kind is None or issubclass(kind, (DamagedFileError, FileGoneError)):
        return False
    if issubclass(kind, SourceError):
        return True
    if issubclass(kind, WriteError):
        return not once
    is_of_storage = issubclass(kind, (StorageError, StoppedError, FileNotFoundError))
    return is_of_storage and not is_attended
