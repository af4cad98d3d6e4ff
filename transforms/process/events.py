"""What is told of collecting while it goes on, and who is told."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from batch_collection.errors import CollectionError
    from batch_collection.log.entry import Entry

__all__ = [
    "Away",
    "Back",
    "CycleBegan",
    "CycleCommitted",
    "Event",
    "FileStaged",
    "Finished",
    "GivenUp",
    "MessagesRead",
    "Note",
    "Observer",
    "PanesSkipped",
    "RowsDecoded",
    "Spent",
    "Waiting",
]


@dataclass(frozen=True, slots=True)
class CycleBegan:
    """Cycles of some topics begin, and run together.

    Attributes:
        topics: their names.
        messages: how many messages they read.
        left: how many messages they leave for the next ones.
    """

    topics: tuple[str, ...]
    messages: int
    left: int


@dataclass(frozen=True, slots=True)
class MessagesRead:
    """A chunk has come from the source; a task that is tried again reads it again.

    Attributes:
        collection: directory or URI.
        messages: how many there are in it.
    """

    collection: str
    messages: int


@dataclass(frozen=True, slots=True)
class RowsDecoded:
    """A chunk was decoded.

    Attributes:
        collection: directory or URI.
        rows: how many rows it became.
        dead_letters: how many of its messages can't become rows.
        undated: how many of the rows have no ``_timestamp``, which holds years 1 to 9999.
    """

    collection: str
    rows: int
    dead_letters: int
    undated: int


@dataclass(frozen=True, slots=True)
class FileStaged:
    """A batch file is durable; nobody reads it before its cycle is committed.

    Attributes:
        collection: directory or URI.
        rows: how many rows it holds.
        bytes: its size.
        is_late: its window was closed before.
    """

    collection: str
    rows: int
    bytes: int
    is_late: bool


@dataclass(frozen=True, slots=True)
class PanesSkipped:
    """Panes came again that the log has: a runner has repeated a bundle.

    Attributes:
        collection: directory or URI.
        panes: how many.
    """

    collection: str
    panes: int


@dataclass(frozen=True, slots=True)
class Spent:
    """Something has taken its time.

    Attributes:
        doing: what: ``read`` or ``write``.
        milliseconds: how long it took.
    """

    doing: str
    milliseconds: int


@dataclass(frozen=True, slots=True)
class CycleCommitted:
    """An entry is in the log: a cycle's, or a command's behind which collecting goes on.

    Attributes:
        collection: directory or URI.
        entry: all that is known of it.
        left: how many messages the cycle has left for the next one.
        took: from its plan to its commit; not of a command's, which was planned elsewhere.
        reason: why most of its dead letters are some; empty where that is not known.
    """

    collection: str
    entry: Entry
    left: int
    took: timedelta
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Waiting:
    """Nothing is due.

    Attributes:
        due: when the next cycle is, unless enough messages come before.
        messages: how many wait for it.
    """

    due: datetime
    messages: int


@dataclass(frozen=True, slots=True)
class Away:
    """A topic is left alone for a while: its source is away, or its rows can't be written.

    Attributes:
        topic: its name.
        error: why, in one line.
        is_of_source: its source is away.
        stream: what people call it: ``topic`` or ``subscription``.
    """

    topic: str
    error: str
    is_of_source: bool
    stream: str = "topic"


@dataclass(frozen=True, slots=True)
class Back:
    """What kept a topic from being collected is over.

    Attributes:
        topic: its name.
        is_of_source: its source was away.
        stream: what people call it.
    """

    topic: str
    is_of_source: bool
    stream: str = "topic"


@dataclass(frozen=True, slots=True)
class GivenUp:
    """No more is planned for a topic; told again as long as a job that goes on is asked to.

    Attributes:
        topic: its name.
        error: what a user can mend.
        is_last: no other topic is left, so that the run ends with it, and says so itself.
    """

    topic: str
    error: CollectionError
    is_last: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """All that a job with an end was to collect of a topic is in its log.

    Attributes:
        topic: its name.
    """

    topic: str


@dataclass(frozen=True, slots=True)
class Note:
    """Something else that a user should know.

    Attributes:
        text: one line.
    """

    text: str


Event = (
    CycleBegan
    | MessagesRead
    | RowsDecoded
    | FileStaged
    | PanesSkipped
    | Spent
    | CycleCommitted
    | Waiting
    | Away
    | Back
    | GivenUp
    | Finished
    | Note
)


class Observer(Protocol):
    """Is told what happens, in the thread where it does; nothing depends on it."""

    def __call__(self, event: Event, /) -> None:
        """Take an event, of whatever class. Must not raise nor block."""
