"""Commit a cycle whose account closes, or leave a note of why it is not committed."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING

from batch_collection.checkpoints.listing import recalled
from batch_collection.checkpoints.making import keep_up
from batch_collection.errors import ExpiredError, LogError, StorageError
from batch_collection.log.entries import not_following, read_link
from batch_collection.paths import outcome_path
from batch_collection.publishing.publish import append_published
from batch_collection.storage.opening import open_storage
from transforms.committing.settle import settle
from transforms.committing.windows import is_forgetful, open_horizon
from transforms.elements.failure import Failure
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batch_collection.log.entries import Link
    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage
    from transforms.elements.plan import Plan
    from transforms.elements.report import Report

__all__ = ["commit", "just_committed", "leave_note", "read_failure", "read_note"]


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
        leave_note(storage, plan, Failure.of(error))
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
    link = append_published(storage, settled)
    keep_up(storage, link.entry.cycle)
    _kept()[storage.uri] = link
    return link.entry


def just_committed(storage: Storage, plan: str) -> Link | None:
    """Return the entry of a plan if it is the last that this process has committed there."""
    link = _kept().get(storage.uri)
    return link if link is not None and link.entry.plan == plan else None


def _kept() -> dict[str, Link]:
    return current().kept(just_committed, dict)


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
    return found or Failure.of(StorageError(f"{path} in {storage.uri} is damaged; try it again"))
