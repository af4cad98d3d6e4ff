"""CommitCycle: reports in, the log entry of each cycle whose account is closed out."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam
from apache_beam.transforms.userstate import BagStateSpec
from apache_beam.transforms.window import GlobalWindows

from batch_collection.parallel import outcomes
from batch_collection.paths import entry_path
from transforms.committing.commit import commit
from transforms.committing.settle import closed
from transforms.elements.coders import ReportCoder
from transforms.elements.report import Report, add_up

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

    from batch_collection.log.entry import Entry

__all__ = ["CommitCycle"]


@dataclass(eq=False)
class CommitCycle(beam.PTransform):
    """Create each cycle's log entry once its tasks' reports add up, and publish its files.

    In: ``Report``, in any order and number. Out: the path of each entry created, relative to its
    collection. The runner's state only gathers reports: what counts is decided on their sums, and
    the log takes one entry a cycle. A plan that can't come to an entry leaves a note beside its
    staged files. What a bundle has settled is committed when it ends, several collections at once,
    since a storage is waited for; an error of one keeps no other from being committed.

    Attributes:
        commit: commits a plan, given the sums of all that is known of it by now.
    """

    commit: Callable[[Any, Iterable[Report]], Entry | None] = field(default_factory=lambda: commit)

    def expand(self, reports: PCollection[Report]) -> PCollection[str]:
        """Wire it."""
        return (
            reports
            | "Global" >> beam.WindowInto(GlobalWindows())
            | "AddUp" >> beam.ParDo(_AddUpFn()).with_output_types(tuple[str, Report])
            | "Commit" >> beam.ParDo(_CommitFn(self.commit)).with_output_types(str)
        )


@dataclass(eq=False)
class _AddUpFn(beam.DoFn):
    """Add up the reports of a bundle, so that few cross the shuffle."""

    _reports: list[Report] = field(default_factory=list)

    def start_bundle(self) -> None:
        self._reports = []

    def process(self, report: Report) -> None:
        self._reports.append(report)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for report in add_up(self._reports):
            yield GlobalWindows.windowed_value((report.plan.collection, report))


@dataclass(eq=False)
class _CommitFn(beam.DoFn):
    commit: Callable[[Any, Iterable[Report]], Entry | None]
    _settled: dict[str, dict[str, list[Report]]] = field(default_factory=dict)
    REPORTS: ClassVar[BagStateSpec] = BagStateSpec("reports", ReportCoder())

    def start_bundle(self) -> None:
        self._settled = {}

    def process(
        self,
        element: tuple[str, Report],
        reports: Any = beam.DoFn.StateParam(REPORTS),  # noqa: B008 - Beam's way
    ) -> None:
        """Gather what there is of a cycle, and those behind it: a late attempt may come of it."""
        collection, report = element
        gathered = list(reports.read())
        if any(other.plan.cycle < report.plan.cycle for other in gathered):
            gathered = [other for other in gathered if other.plan.cycle >= report.plan.cycle]
            reports.clear()
            for other in gathered:
                reports.add(other)
        reports.add(report)
        if sums := closed(report.plan, [*gathered, report]):
            self._settled.setdefault(collection, {})[report.plan.id] = sums

    def finish_bundle(self) -> Iterator[WindowedValue]:
        for done in outcomes(self._committed, list(self._settled.values())):
            for entry in done.result():
                yield GlobalWindows.windowed_value(entry_path(entry.cycle))

    def _committed(self, plans: dict[str, list[Report]]) -> list[Entry]:
        """Commit plans of one collection, one after the other."""
        entries = (self.commit(sums[0].plan, sums) for sums in plans.values())
        return [entry for entry in entries if entry is not None]
