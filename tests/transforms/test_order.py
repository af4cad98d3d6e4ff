"""Rows are cut and written for whoever orders it, without a plan."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam
import pyarrow.parquet as pq
import pytest

from tests.pipelines import MAIN, run
from tests.tasks import MINUTE, NOON, rows
from transforms.cutting.batch import Batch, BatchCoder
from transforms.cutting.cut import Cut, Cutter
from transforms.cutting.waiting import InMemory
from transforms.elements.order import Order
from transforms.elements.report import why_unwritten
from transforms.write_batch_files import WriteBatchFiles
from transforms.writing.layout import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_collection.log.entry import CarryFile
    from transforms.elements.report import WrittenBatch


@dataclass(frozen=True)
class PaneReport:
    """The files of a pane."""

    order: PaneOrder
    batches: tuple[WrittenBatch, ...] = ()
    carried: tuple[CarryFile, ...] = ()
    error: str = ""

    @property
    def key(self) -> int:
        """The pane."""
        return self.order.pane

    def wrote(
        self, *, batches: tuple[WrittenBatch, ...] = (), carried: tuple[CarryFile, ...] = ()
    ) -> PaneReport:
        """Return this report with its files."""
        return replace(self, batches=batches, carried=carried)

    def unwritten(self, error: Exception, what: str, column: str | None = None) -> PaneReport:
        """Return this report with an error."""
        return replace(self, error=str(why_unwritten(self.order, error, what, column)))

    def __add__(self, other: PaneReport) -> PaneReport:
        """Return the sum of two parts."""
        batches, carried = self.batches + other.batches, self.carried + other.carried
        return PaneReport(self.order, batches, carried, self.error or other.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class PaneOrder(Order):
    """An order of one pane of a window, in which no rows wait."""

    pane: int

    def report(self) -> PaneReport:
        """Return an empty report on the pane."""
        return PaneReport(self)


class PaneCoder(BatchCoder):
    """Codes a batch of a pane."""

    order: ClassVar[type[Order]] = PaneOrder


def order(collection: object, pane: int, **changes: Any) -> PaneOrder:
    """Build an order of at most 10 rows a file, of a window that is due."""
    plain = PaneOrder(
        collection=str(collection),
        cycle=1,
        shard=0,
        attempt="attempt",
        interval=MINUTE,
        batch_size=10,
        boundary=NOON,
        previous_boundary=None,
        ahead_limit=NOON + timedelta(hours=1),
        schema={"value": "int64"},
        flush=True,
        pane=pane,
    )
    return replace(plain, **changes)


def cut(asked: PaneOrder, counts: tuple[int, ...]) -> Iterator[Batch]:
    """Cut rows that come so many at a time."""
    cutter, cuts, first = Cutter(asked), list[Cut](), 0
    for count in counts:
        table = rows(range(first, first + count), first_offset=first)
        cuts += cutter.add(NOON - MINUTE, InMemory(table))
        first += count
    cuts += cutter.finish()
    yield from (Batch(asked, number, each) for number, each in enumerate(cuts))


def recoded(batch: Batch) -> Batch:
    """Return a batch as another process gets it."""
    return PaneCoder().decode(PaneCoder().encode(batch))


@dataclass(eq=False)
class WritePanes(beam.PTransform):
    """Write panes: orders, and how many rows come at a time."""

    change: Callable[[Any], Any]

    def expand(self, panes: Any) -> Any:
        """Wire it."""
        batches = panes | "Cut" >> beam.FlatMapTuple(cut) | "Change" >> beam.Map(self.change)
        return batches | WriteBatchFiles(Output("parquet", "none"), PaneReport)


@pytest.mark.parametrize("change", [lambda batch: batch, recoded])
def test_rows_of_no_plan_become_files(tmp_path: Path, change: Callable[[Any], Any]) -> None:
    """Full ones first, the pane's last smaller; each order's report has the files of its rows."""
    one, other = order(tmp_path, 0), order(tmp_path, 1, boundary=None)

    out = run(WritePanes(change), [(one, (13, 12)), (other, (3,))])[MAIN]

    reports = [seen.element for seen in out]
    assert [report.order for report in reports] == [one, other]
    assert not any(report.error or report.carried for report in reports)
    found = [
        (batch.timing, pq.read_table(tmp_path / batch.file.staged)["value"].to_pylist())
        for report in reports
        for batch in report.batches
    ]
    assert found == [
        ("on_time", [*range(10)]),
        ("on_time", [*range(10, 20)]),
        ("on_time", [*range(20, 25)]),
        ("early", [0, 1, 2]),
    ]


def test_what_cannot_be_written_is_told_in_the_orders_own_report(tmp_path: Path) -> None:
    """In the words that a plan's report has."""
    (tmp_path / "staging").write_text("in the way")

    ((report, _),) = run(WritePanes(lambda batch: batch), [(order(tmp_path, 0), (3,))])[MAIN]

    assert report.batches == ()
    assert "staging" in report.error
