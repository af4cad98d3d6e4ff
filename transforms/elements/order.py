"""What cutting and writing are asked to do, by whoever wants rows in batches: a plan or not."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from batch_collection.log.entry import FORMAT, FORMS, Form

if TYPE_CHECKING:
    from collections.abc import Hashable
    from datetime import datetime, timedelta

    from typing_extensions import Self

    from batch_collection.log.entry import CarryFile

__all__ = ["FileReport", "Order"]


class FileReport(Protocol):
    """What has become of an order's rows so far. Parts with one ``key`` add up, in any order."""

    @property
    def key(self) -> Hashable:
        """What parts of one attempt share."""

    @property
    def batches(self) -> tuple[Any, ...]:
        """The batch files (``WrittenBatch``) that are staged and durable."""

    def wrote(self, *, batches: tuple[Any, ...] = (), carried: tuple[CarryFile, ...] = ()) -> Self:
        """Return this report with its files."""

    def unwritten(self, error: Exception, what: str, column: str | None = None) -> Self:
        """Return this report with why ``what`` could not be written: an error of whatever kind."""

    def __add__(self, other: Self) -> Self:
        """Return the sum of two parts."""


@dataclass(frozen=True, slots=True)
class Order(ABC):
    """One attempt at rows of a collection that are to become batch files.

    They are staged in ``collection``, a directory or URI, below ``cycle``; ``shard`` is part of
    their names. Windows are one ``interval`` long, batches have at most ``batch_size`` rows, and
    end by ``target_bytes``, too, if they are given (``Cutter``).
    Windows that end at or before ``boundary`` are due, at or before ``previous_boundary`` late
    (None: nothing is). Rows of others may wait, but not those whose times are after
    ``ahead_limit``, and with ``flush`` none. ``schema`` holds the payload's types, rows may bring
    more columns; those that were ``dropped`` are left out. ``format`` and ``form`` are the
    collection's. Who orders adds what its report has to name.
    """

    collection: str
    cycle: int
    shard: int
    attempt: str
    interval: timedelta
    batch_size: int
    boundary: datetime | None
    previous_boundary: datetime | None
    ahead_limit: datetime
    schema: dict[str, Any]
    flush: bool = False
    dropped: dict[str, Any] = field(default_factory=dict)
    format: int = FORMAT
    form: Form = FORMS[FORMAT]
    target_bytes: int | None = None

    @abstractmethod
    def report(self) -> FileReport:
        """Return an empty report, to which files are added."""
