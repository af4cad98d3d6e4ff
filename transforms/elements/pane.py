"""Panes of Beam on their way into a collection: who fired them, and what became of their rows."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, NoReturn

from batch_collection.errors import CollectionError, WriteError, in_one_line
from transforms.elements.order import Order
from transforms.elements.report import WrittenBatch  # noqa: TC001 - records are read by it

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from batch_collection.log.entry import CarryFile, Origin
    from batch_collection.schema.types import Schema

__all__ = ["Job", "PaneOrder", "PaneReport"]


@dataclass(frozen=True, slots=True)
class Job:
    """What a pipeline with ``CollectBatches`` was built with.

    Attributes:
        collection: directory or URI.
        run: drawn when it was built; a template, or a job that is restored, keeps it.
        built_at: the clock then: the log names no pane of it before.
        interval: how long windows are.
        batch_size: rows of a file at most.
        shards: how many panes at once a window has.
        allowed_lateness: how long after its end a window's rows are taken.
        schema: the types that the user has given.
    """

    collection: str
    run: str
    built_at: datetime
    interval: timedelta
    batch_size: int
    shards: int
    allowed_lateness: timedelta
    schema: Schema


@dataclass(frozen=True, slots=True)
class PaneReport:
    """What became of one pane.

    Attributes:
        origin: its place, and how many rows it has.
        is_early: more is to come of its window and shard in time.
        batches: the files that are staged and durable.
        schema: the types that they were written under.
    """

    origin: Origin
    is_early: bool
    batches: tuple[WrittenBatch, ...] = ()
    schema: dict[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> Origin:
        """What reports on one pane share."""
        return self.origin

    def wrote(
        self, *, batches: tuple[WrittenBatch, ...] = (), carried: tuple[CarryFile, ...] = ()
    ) -> PaneReport:
        """Return this report with its files; of a pane nothing is carried."""
        assert not carried, "a pane has no carry"  # noqa: S101 - its order is to flush
        return replace(self, batches=batches)

    def unwritten(self, error: Exception, what: str, column: str | None = None) -> NoReturn:
        """Raise why ``what`` could not be written: the runner has the pane, and tries it again."""
        if isinstance(error, CollectionError):
            raise error
        named = what if column is None else f"column {column} in {what}"
        message = f"cannot write {named}: {in_one_line(error)}"
        raise WriteError(message) from error

    def __add__(self, other: PaneReport) -> PaneReport:
        """Return the sum of two parts."""
        return replace(self, batches=self.batches + other.batches)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneOrder(Order):
    """An order of one pane, of which nothing waits."""

    origin: Origin
    is_early: bool

    def report(self) -> PaneReport:
        """Return an empty report on the pane."""
        return PaneReport(self.origin, self.is_early, schema=self.schema)
