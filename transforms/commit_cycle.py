"""CommitCycle: reports in, the log entry of each cycle whose account is closed out."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam
from apache_beam import coders
from apache_beam.transforms.userstate import BagStateSpec
from apache_beam.transforms.window import GlobalWindows

from batch_collection.errors import ExpiredError, LogError
from batch_collection.listing import recalled
from batch_collection.log import append_entry, not_following, read_link
from batch_collection.mend import keep_up
from batch_collection.names import entry_path, outcome_path
from batch_collection.publish import publish
from batch_collection.storage import open_storage
from transforms.report import Failure, Report, add_up
from transforms.settle import is_forgetful, open_horizon, settle

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from apache_beam.pvalue import PCollection
    from apache_beam.utils.windowed_value import WindowedValue

    from batch_collection.entry import Entry
    from batch_collection.storage import Storage
    from transforms.plan import Plan

__all__ = ["CommitCycle", "commit", "leave_note", "read_failure", "read_note"]


@dataclass(eq=False)
class CommitCycle(beam.PTransform):
    """Create each cycle's log entry once its tasks' reports add up, and publish its files.

    In: ``Report``, in any order and number. Out: the path of each entry created, relative to its
    collection. The runner's state only gathers reports: what counts is decided on their sums, and
    the log takes one entry a cycle. A plan that can't come to an entry leaves a note beside its
    staged files.

    Attributes:
        commit: commits a plan, given all that is known of it by now.
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
    REPORTS: ClassVar[BagStateSpec] = BagStateSpec("reports", coders.PickleCoder())

    def process(
        self,
        element: tuple[str, Report],
        reports: Any = beam.DoFn.StateParam(REPORTS),  # noqa: B008 - Beam's way
    ) -> Iterator[str]:
        _, report = element
        gathered = [other for other in reports.read() if other.plan.cycle >= report.plan.cycle]
        reports.clear()
        gathered.append(report)
        entry = self.commit(report.plan, [r for r in gathered if r.plan.id == report.plan.id])
        if entry is not None:
            yield entry_path(entry.cycle)
        for other in gathered:
            if entry is None or other.plan.cycle > entry.cycle:
                reports.add(other)


def commit(plan: Plan, reports: Iterable[Report]) -> Entry | None:
    """Commit and publish a plan if its account is closed.

    Returns:
        The entry that its cycle has in the log, whoever created it; None if reports are missing or
        the plan has failed (then ``read_failure`` says why), or so old that others have committed
        its cycle and expired it since.
    """
    storage = open_storage(plan.collection)
    try:
        return _committed(storage, plan, reports)
    except ExpiredError:
        return None  # whoever planned finds the newest entry, and whose it is
    except LogError as error:
        leave_note(storage, plan, Failure("LogError", str(error)))
        return None


def _committed(storage: Storage, plan: Plan, reports: Iterable[Report]) -> Entry | None:
    previous, digest = read_link(storage, plan.cycle - 1)
    if plan.previous not in {"", digest}:
        raise not_following(storage, plan.cycle)
    if is_forgetful(plan, previous):
        previous = recalled(storage, previous, open_horizon(plan))
    settled = settle(plan, previous, digest, reports, datetime.now(timezone.utc))
    if settled is None:
        return None
    if isinstance(settled, Failure):
        leave_note(storage, plan, settled)
        return None
    entry, _, looked = append_entry(storage, settled)
    publish(storage, entry, looked=looked)
    keep_up(storage, entry.cycle)
    return entry


def leave_note(storage: Storage, plan: Plan, failure: Failure) -> None:
    """Tell whoever has planned why no entry comes of it."""
    storage.replace(outcome_path(plan.cycle, plan.id), failure.to_json())


def read_failure(plan: Plan) -> Failure | None:
    """Return why a plan failed, None if it left no note."""
    return read_note(open_storage(plan.collection), plan.cycle, plan.id)


def read_note(storage: Storage, cycle: int, plan: str) -> Failure | None:
    """Return why a plan failed of which only the cycle and id are known, None without a note.

    Of a note that is damaged nobody knows what it said: a plan is tried again after it.
    """
    path = outcome_path(cycle, plan)
    try:
        found = Failure.from_json(storage.read(path))
    except FileNotFoundError:
        return None
    return found or Failure("StorageError", f"{path} in {storage.uri} is damaged; try it again")
