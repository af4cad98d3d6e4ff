"""Commit a redrive: its reports in, one entry behind the newest out, whoever else commits."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from batch_collection.log.entries import read_since
from batch_collection.log.entry import Entry
from batch_collection.paths import of_cycle
from batch_collection.publishing.append import append
from batch_collection.schema.types import merge
from batch_collection.storage.opening import open_storage
from transforms.committing.commit import leave_note
from transforms.committing.settle import settle
from transforms.committing.windows import rebased_batch
from transforms.elements.failure import OUTRUN, Failure
from transforms.elements.report import Report, add_up

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from transforms.elements.plan import Plan, RedrivePlan

__all__ = ["commit_redrive", "redriven"]


def commit_redrive(plan: RedrivePlan, reports: Iterable[Report]) -> Entry | None:
    """Commit and publish a redrive if its account is closed.

    A cycle that a collector commits meanwhile costs nothing but another try of the last step: rows
    stay where they are staged.

    Returns:
        The plan's entry; None if reports are missing, or the plan can't come to one: then a note
        says why, and what it had staged is gone.
    """
    attempts = [report for report in add_up(reports) if report.plan.id == plan.id]
    if not any(report.whole or report.failure for report in attempts):
        return None
    storage = open_storage(plan.collection)
    ours: list[Entry] = []
    failures: list[Failure] = []

    def made(newest: Entry, newest_digest: str) -> Entry | None:
        since = read_since(storage, plan.behind, newest.cycle)
        ours.extend(entry for entry in since if entry.plan == plan.id)
        if ours:
            return None
        found = redriven(plan, newest, newest_digest, since, attempts)
        if isinstance(found, Entry):
            return found
        failures.append(found)
        return None

    entry = append(storage, made)
    if failures:
        storage.delete(_staged(attempts))
        leave_note(storage, plan, failures[0])
    return ours[0] if ours else entry


def redriven(
    plan: RedrivePlan,
    newest: Entry,
    newest_digest: str,
    since: Sequence[Entry],
    attempts: Sequence[Report],
) -> Entry | Failure:
    """Return the entry of a redrive behind ``newest``, or why there can't be one. Pure.

    Args:
        since: the entries that came while the redrive was at work.
        attempts: sums of reports, one whole at least or failed.
    """
    again = {path for entry in since for path in entry.redriven}
    if any(file.path in again for file in plan.letters):
        return Failure(OUTRUN, "another redrive was faster")
    if newest.cycle + 1 >= plan.cycle:
        return Failure(OUTRUN, f"{plan.cycle - plan.behind} cycles were committed meanwhile")
    if newest.dropped != plan.dropped:
        return Failure(OUTRUN, "columns were dropped, or taken up again, meanwhile")
    rebased: Plan = replace(
        plan,
        cycle=newest.cycle + 1,
        boundary=newest.boundary,
        previous_boundary=newest.boundary,
        schema=merge(newest.schema, plan.schema, widen=False),
    )
    reports = [_rebased(report, rebased, newest) for report in attempts]
    settled = settle(rebased, newest, newest_digest, reports, datetime.now(timezone.utc))
    if isinstance(settled, Entry):
        return replace(
            settled,
            reads=newest.standing_reads,
            redriven=tuple(file.path for file in plan.letters),
            became=tuple(replace(read, max_time=None) for read in settled.reads),
        )
    if settled is None:
        message = "a task was whole and its plan is not"
        raise RuntimeError(message)
    return settled


def _rebased(report: Report, plan: Plan, newest: Entry) -> Report:
    """Give files the names of the cycle that they come to, and panes their timing in it."""
    return replace(
        report,
        batches=tuple(rebased_batch(batch, plan, newest) for batch in report.batches),
        dead_letters=tuple(
            replace(file, path=of_cycle(file.path, plan.cycle)) for file in report.dead_letters
        ),
    )


def _staged(attempts: Iterable[Report]) -> Iterator[str]:
    """Yield what attempts have staged."""
    for report in attempts:
        yield from (batch.file.staged for batch in report.batches)
        yield from (file.staged for file in report.dead_letters)
