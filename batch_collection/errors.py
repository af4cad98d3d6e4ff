"""Errors a user can fix: shown as one line that says what happened and what to do."""

from __future__ import annotations

__all__ = [
    "BY_NAME",
    "UNREADABLE",
    "AlreadyExistsError",
    "CollectionError",
    "DamagedFileError",
    "DataLossError",
    "DeadLettersError",
    "ExpiredError",
    "FileGoneError",
    "LogError",
    "OtherCollectorError",
    "RowTimeError",
    "SourceError",
    "StoppedError",
    "StorageError",
    "WriteError",
    "in_one_line",
    "printable",
]

UNREADABLE = (
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    OverflowError,
    RecursionError,
)
"""What is raised where JSON that should hold a record of ours holds something else, or is torn."""


def in_one_line(error: BaseException) -> str:
    """Return what an error of a library says, which may be several lines; its kind if nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def printable(text: str) -> str:
    r"""Return foreign text as it may be shown: one line, without what steers a terminal.

    All that people are shown comes through here, for names, reasons and flags may hold what clears
    a screen, writes right to left or begins a line. Such characters are written as Python writes
    them, ``\n``, ``\x1b``, ``\u202e``; what is printable stays, so twice is the same as once.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in text
    )


class CollectionError(Exception):
    """Base of every error that is shown to a user as one line, without a traceback.

    One that tells of several mistakes is given a line for each; what lines quote is made printable.
    """

    def __init__(self, *lines: str) -> None:
        """Take what to show."""
        super().__init__(*map(printable, lines))

    @property
    def lines(self) -> tuple[str, ...]:
        """What to show, line by line."""
        return self.args

    def __str__(self) -> str:
        """Return all lines."""
        return "\n".join(self.args)


class StorageError(CollectionError):
    """The output can't be read or written."""


class AlreadyExistsError(CollectionError):
    """A create-if-absent lost: somebody else created that path first."""


class DamagedFileError(StorageError):
    """A file that an entry names can't be read for what it is: somebody has changed it."""


class FileGoneError(StorageError):
    """A file that an entry names is neither staged nor visible: somebody has deleted it."""


class LogError(CollectionError):
    """The log can't be read, or doesn't belong to what is asked of it."""


class ExpiredError(LogError):
    """What is asked for was there once, and ``expire`` has deleted it."""


class OtherCollectorError(CollectionError):
    """Another collector committed the cycle this one was working on."""


class DataLossError(CollectionError):
    """Messages that no log entry has accounted for are gone from the source."""


class RowTimeError(CollectionError):
    """The ``--timestamp`` rule gives none of a collection's first messages a row time."""


class DeadLettersError(CollectionError):
    """More messages became dead letters than ``--max_dead_letters`` allows."""


class WriteError(CollectionError):
    """Rows can't be written to a file, for what they are; it is tried again later."""


class SourceError(CollectionError):
    """The source can't be reached or read just now; what was asked of it is tried again later."""


class StoppedError(CollectionError):
    """A signal asked this process to stop, and what it was doing is given up."""


BY_NAME: dict[str, type[CollectionError]] = {
    name: each
    for name, each in globals().items()
    if isinstance(each, type) and issubclass(each, CollectionError)
}
"""The classes above, by the names under which processes and versions tell each other of them."""
