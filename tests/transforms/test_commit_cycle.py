"""Committing on a runner: the log takes one entry a cycle, and only a whole one."""

from __future__ import annotations

import threading
from dataclasses import replace
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings

from batch_collection.checkpoints.listing import recalled
from batch_collection.errors import CollectionError, LogError, SourceError, StorageError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import create_entry, digest, newest_entry
from batch_collection.log.entry import Entry, PartitionRead
from batch_collection.log.expiry import first_cycle
from batch_collection.paths import entry_path, outcome_path
from batch_collection.publishing.expire import expire
from batch_collection.storage.opening import open_storage
from tests.builders import first_entry
from tests.lives import LIVES, Life, Step, panes_by_window
from tests.logs import spans
from tests.pipelines import MAIN, run
from tests.tasks import NOON, plan
from transforms.commit_cycle import CommitCycle
from transforms.committing import commit as committing
from transforms.committing.commit import read_failure
from transforms.committing.windows import OPEN_HORIZON
from transforms.elements.failure import Failure
from transforms.elements.report import Report

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime
    from pathlib import Path

    from batch_collection.storage.contract import Storage
    from transforms.elements.plan import Plan


@pytest.fixture
def asked(tmp_path: Path) -> Plan:
    """Give a plan of two tasks for a collection that was begun."""
    entry = first_entry(reads=(PartitionRead(0, 5, 5), PartitionRead(1, 7, 7)))
    create_entry(open_storage(str(tmp_path)), entry)
    return plan(tmp_path, tasks=2)


def report(of: Plan, number: int, attempt: str = "a") -> Report:
    """Build the report of a task that found two tombstones."""
    start = (5, 7)[number]
    return Report(
        of,
        number,
        attempt,
        read=True,
        reads=(PartitionRead(number, start, start + 2, messages=2),),
        decoded=(PartitionRead(number, 0, 0, messages=2, tombstones=2),),
        cut=True,
    )


def commit(reports: list[Report]) -> list[str]:
    """Commit on the runner; give the entries' paths."""
    return [seen.element for seen in run(CommitCycle(), reports, Report).get(MAIN, [])]


def test_an_entry_is_created_once_all_tasks_are_whole(asked: Plan) -> None:
    """However their reports are split."""
    whole = report(asked, 0)
    parts = [replace(whole, cut=False), replace(whole, read=False, reads=(), decoded=())]
    assert commit([*parts, report(asked, 1)]) == ["log/00000000000000000001.json"]
    entry = newest_entry(open_storage(asked.collection))
    assert entry is not None
    assert [(read.start, read.end, read.tombstones) for read in entry.reads] == [
        (5, 7, 2),
        (7, 9, 2),
    ]


def test_nothing_is_created_while_a_task_is_missing(asked: Plan) -> None:
    """Two attempts at one task are one task."""
    assert commit([report(asked, 0), report(asked, 0, "b")]) == []
    assert read_failure(asked) is None


def test_a_failure_leaves_a_note_and_no_entry(asked: Plan) -> None:
    """Whoever planned can read why."""
    failure = Failure("SourceError", "gone")
    failed = Report(asked, 1, "a", failure=failure)
    assert commit([report(asked, 0), failed]) == []
    assert read_failure(asked) == failure


@pytest.mark.parametrize(
    "note",
    [b"", b'{"kind": "Log', b"[]", b"[" * 100_000, b'{"kind": 1, "text": "x"}', b'{"kind": "x"}'],
    ids=range(6),
)
def test_a_damaged_note_is_told_and_may_pass(asked: Plan, note: bytes) -> None:
    """Nobody knows what it said, so the plan is tried again."""
    path = outcome_path(asked.cycle, asked.id)
    open_storage(asked.collection).replace(path, note)
    found = read_failure(asked)
    assert found is not None
    assert isinstance(found.error(), StorageError)
    assert str(found.error()).startswith(f"{path} in {asked.collection} is damaged")


def test_a_note_of_a_newer_version_is_taken(asked: Plan) -> None:
    """What this version does not know of it is left out; a kind that it does not know is shown."""
    note = b'{"kind": "NewerError", "text": "gone", "schema": null, "since": 3}'
    open_storage(asked.collection).replace(outcome_path(asked.cycle, asked.id), note)
    found = read_failure(asked)
    assert found == Failure("NewerError", "gone")
    assert (type(found.error()), str(found.error())) == (CollectionError, "gone")


@pytest.mark.parametrize("kind", ["in_one_line", "UNREADABLE", "__name__", "SourceError"])
def test_the_kind_of_a_failure_is_an_error_of_ours(kind: str) -> None:
    """Whatever else has that name."""
    expected = SourceError if kind == "SourceError" else CollectionError
    assert type(Failure(kind, "gone").error()) is expected


def test_a_plan_is_not_committed_behind_another_entry_than_it_was_made_behind(asked: Plan) -> None:
    """Somebody has changed the log meanwhile: what was read may be in another entry."""
    storage = open_storage(asked.collection)
    behind = replace(asked, previous=digest(storage.read(entry_path(0))))
    other = replace(behind, previous="0" * 64)
    assert commit([report(other, 0), report(other, 1)]) == []
    told = f"{entry_path(1)} of {asked.collection} does not follow the entry before it"
    failure = read_failure(other)
    assert failure is not None
    assert isinstance(failure.error(), LogError)
    assert failure.text.startswith(told)
    assert commit([report(behind, 0), report(behind, 1)]) == [entry_path(1)]


def test_the_entry_that_is_there_wins(asked: Plan) -> None:
    """A second commit of the same cycle finds the first one's entry, whole as it was."""
    commit([report(asked, 0), report(asked, 1)])
    storage = open_storage(asked.collection)
    before = newest_entry(storage)
    other = replace(asked, id="other", run="other")
    commit([report(other, 0), report(other, 1)])
    assert newest_entry(storage) == before


@pytest.mark.parametrize("cycle", [1, 2])
def test_a_plan_whose_cycle_was_expired_comes_to_nothing(asked: Plan, cycle: int) -> None:
    """Neither an entry nor a note: its number is free again, or the entry before it is gone."""
    commit([report(asked, 0), report(asked, 1)])
    storage = open_storage(asked.collection)
    for following in range(2, 5):
        before = newest_entry(storage)
        assert before is not None
        create_entry(storage, replace(before, cycle=following, previous=_digest(storage, before)))
    expire(storage, NOON, NOON)
    assert first_cycle(storage) == 4
    files = set(storage.list(""))
    zombie = replace(asked, id="zombie", run="zombie", cycle=cycle)

    assert commit([report(zombie, 0), report(zombie, 1)]) == []
    assert read_failure(zombie) is None
    assert set(storage.list("")) == files


COLLECTIONS = 4
_together = threading.Barrier(COLLECTIONS)


def _commit_together(plan: Plan, reports: Iterable[Report]) -> Entry | None:
    """Commit as soon as the other collections are about to; collection 1 can't be written."""
    _together.wait(60)
    if plan.collection.endswith("/1"):
        message = "the disk is full"
        raise StorageError(message)
    return committing.commit(plan, reports)


def test_collections_are_committed_at_once_and_an_error_of_one_keeps_no_other(
    tmp_path: Path,
) -> None:
    """A storage is waited for; what breaks off has committed the others."""
    plans = []
    for number in range(COLLECTIONS):
        storage = open_storage(str(tmp_path / str(number)))
        create_entry(storage, first_entry(reads=(PartitionRead(0, 5, 5),)))
        plans.append(plan(storage.uri, id=f"plan {number}"))

    with pytest.raises(StorageError, match="the disk is full"):
        run(CommitCycle(_commit_together), [report(each, 0) for each in plans], Report)
    cycles = [newest_entry(open_storage(each.collection)) for each in plans]
    assert [each and each.cycle for each in cycles] == [1, 0, 1, 1]


def _digest(storage: Storage, entry: Entry) -> str:
    return digest(storage.read(entry_path(entry.cycle)))


def test_a_zombie_that_ends_while_the_next_cycle_is_gathered_costs_it_nothing(asked: Plan) -> None:
    """What has come of the next cycle is kept; it needn't be planned again."""
    commit([report(asked, 0), report(asked, 1)])
    zombie = replace(asked, id="zombie")
    following = replace(asked, id="next", cycle=2)

    def later(number: int) -> Report:
        start = (7, 9)[number]
        reads = (PartitionRead(number, start, start + 2, messages=2),)
        return replace(report(following, number), reads=reads)

    parts = [later(0), report(zombie, 0), report(zombie, 1), later(1)]
    assert commit(parts)[-1] == "log/00000000000000000002.json"


@settings(max_examples=15, deadline=None)
@given(LIVES())
def test_what_a_closed_window_has_is_what_the_log_says(steps: list[Step]) -> None:
    """However far ahead its rows came: in its newest manifest, and in no range of empty windows."""
    with TemporaryDirectory() as folder, spans():
        life = Life.begun(open_storage(folder))
        life.live(steps)

        assert life.manifests() == life.files_by_window()
        empty = [each for entry in life.entries for each in entry.closed_empty]
        for start, panes in panes_by_window(life.entries).items():
            if any(first <= start < end for first, end in empty):
                assert {pane.timing for _, pane in panes} == {"late"}
        assert audit(life.storage).findings == ()


def test_early_panes_are_looked_for_only_when_one_that_was_forgotten_closes(tmp_path: Path) -> None:
    """Once a day at the most, if a device is always more than a day ahead."""
    life = Life.begun(open_storage(str(tmp_path)))
    with pytest.MonkeyPatch.context() as patch:
        asked: list[datetime | None] = []  # the boundary of before

        def counting(storage: Storage, entry: Entry, before: datetime) -> Entry:
            asked.append(entry.boundary)
            return recalled(storage, entry, before)

        patch.setattr(committing, "recalled", counting)
        life.live([Step(1, (-1, 0, 30))] * 60)

    first, second = asked
    assert first is not None
    assert second is not None
    assert second - first >= OPEN_HORIZON
    assert life.manifests() == life.files_by_window()
