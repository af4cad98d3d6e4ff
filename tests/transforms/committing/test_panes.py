"""Panes of Beam as entries: whatever order they come in, and however often."""

from __future__ import annotations

import uuid
from contextlib import nullcontext, suppress
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import batch_collection
from batch_collection.errors import WriteError
from batch_collection.inspection.audit import audit
from batch_collection.log.chain import check_link
from batch_collection.log.entries import newest_entry, read_entries
from batch_collection.log.entry import Awaited, Entry, Origin
from batch_collection.storage.known import STORAGES
from batch_collection.storage.opening import open_storage
from batch_collection.windows import microseconds, utc_now
from tests.interposed import interposed
from tests.storages import Died, DyingStorage, some_points
from tests.toys import MemoryStorage
from transforms.committing.ledger import Ledger
from transforms.committing.panes import begun, commit_panes, paned, step_behind
from transforms.committing.windows import OPEN_HORIZON
from transforms.elements.pane import Job, PaneReport
from transforms.elements.records import from_json, to_json
from transforms.process.process import new_process
from transforms.writing.layout import Output
from transforms.writing.panes import Fired, stage_pane

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MINUTE = timedelta(minutes=1)
NOON = datetime(2026, 11, 22, 12, tzinfo=timezone.utc)
OUTPUT = Output("parquet", "zstd", "none")


@pytest.fixture(autouse=True, scope="module")
def _memory() -> Iterator[None]:
    """Let collections lie in memory."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(STORAGES, "memory", MemoryStorage)
        yield


def job(**changes: Any) -> Job:
    """Build what a pipeline was built with; its collection lies in memory, and is new."""
    plain = Job(
        collection=f"memory://{uuid.uuid4().hex[:8]}",
        run="run-1",
        built_at=utc_now(),
        interval=MINUTE,
        batch_size=3,
        shards=1,
        allowed_lateness=timedelta(days=1),
        schema={},
    )
    return replace(plain, **changes)


def fired(
    window: int, *numbers: int, shard: int = 0, index: int = 0, is_early: bool = False
) -> Fired:
    """Build a pane of the window that many minutes after noon, with a row for each number."""
    start = NOON + window * MINUTE
    return Fired(
        window_start=start,
        shard=shard,
        index=index,
        is_early=is_early,
        checksum=f"of {sorted(numbers)}",
        elements=[(microseconds(start), {"n": number}) for number in numbers],
    )


def staged(of: Job, *panes: Fired) -> list[PaneReport]:
    """Stage panes, and let what is said of them cross a shuffle."""
    storage = open_storage(of.collection)
    reports = [stage_pane(storage, begun(of), of, pane, OUTPUT) for pane in panes]
    return [from_json(PaneReport, to_json(report)) for report in reports]


def commit(of: Job, *panes: Fired) -> Entry | None:
    """Stage and commit panes as one bundle."""
    return commit_panes(of, staged(of, *panes))


def entries_of(of: Job) -> list[Entry]:
    """Return the log."""
    storage = open_storage(of.collection)
    newest = newest_entry(storage)
    assert newest is not None
    return list(read_entries(storage, 0, newest.cycle))


def check(of: Job) -> list[int]:
    """See that a collection is sound and nothing is left over; return its numbers, sorted."""
    storage = open_storage(of.collection)
    assert audit(storage).findings == ()
    assert list(storage.list("staging")) == []
    table = batch_collection.open(of.collection).table()
    return sorted(table.column("n").to_pylist()) if table.num_rows else []


def boundaries(of: Job) -> list[int | None]:
    """Return by how many windows after noon each entry says that windows are closed."""
    found = (entry.boundary for entry in entries_of(of)[1:])
    return [None if each is None else (each - NOON) // MINUTE for each in found]


def test_with_one_shard_the_on_time_pane_closes_its_window() -> None:
    """Early ones do not."""
    of = job()
    commit(of, fired(0, 1, 2, 3, is_early=True))
    commit(of, fired(0, 4, index=1))
    assert boundaries(of) == [None, 1]
    assert [pane.timing for entry in entries_of(of) for pane in entry.panes] == ["early", "on_time"]
    assert check(of) == [1, 2, 3, 4]


def test_panes_of_one_entry_stand_by_their_places() -> None:
    """However they came, rows are read in the order of windows, shards and panes."""
    of = job(shards=2)
    late, first = fired(0, 3, index=1), fired(0, 1, is_early=True)
    commit(of, fired(1, 5), fired(0, 4, shard=1), late, first)
    table = batch_collection.open(of.collection).table()
    assert table.column("n").to_pylist() == [1, 3, 4, 5]


def test_with_several_shards_none_closes_a_window_alone() -> None:
    """An empty pane counts; who came is in the log, for whoever commits the next."""
    of = job(shards=3)
    commit(of, fired(0, 1, shard=0))
    with new_process():
        commit(of, fired(0, shard=2))
    assert entries_of(of)[-1].awaited == (Awaited("run-1", NOON, (0, 2)),)
    with new_process():
        commit(of, fired(0, 2, shard=1))
    assert boundaries(of) == [None, None, 1]
    assert entries_of(of)[-1].awaited == ()
    assert check(of) == [1, 2]


def test_a_window_that_is_open_holds_later_ones_up() -> None:
    """They are closed with it, in one entry, and their files are on time."""
    of = job()
    commit(of, fired(0, 1, is_early=True))
    commit(of, fired(2, 2))
    commit(of, fired(0, 3, index=1))
    assert boundaries(of) == [None, None, 3]
    manifests = open_storage(of.collection).list("windows")
    assert [path.partition(".")[2] for path in manifests] == ["r1.json", "r1.json"]
    assert check(of) == [1, 2, 3]


def test_what_another_run_left_open_holds_nothing_up() -> None:
    """It is closed as soon as a later one is."""
    first = job()
    commit(first, fired(0, 1, is_early=True))
    second = replace(first, run="run-2")
    commit(second, fired(1, 2))
    assert boundaries(second) == [None, 2]
    assert entries_of(second)[-1].awaited == ()
    commit(first, fired(0, 3, index=1))
    assert entries_of(first)[-1].panes[0].timing == "late"
    assert check(first) == [1, 2, 3]


def test_an_early_pane_behind_the_on_time_one_is_a_late_pane() -> None:
    """Prism fires in any order; the window's manifest gets a revision."""
    of = job()
    commit(of, fired(0, 2, index=1))
    commit(of, fired(0, 1, is_early=True))
    assert [pane.timing for entry in entries_of(of) for pane in entry.panes] == ["on_time", "late"]
    assert len(list(open_storage(of.collection).list("windows"))) == 2
    assert check(of) == [1, 2]


def test_windows_far_ahead_are_not_named_for_ever() -> None:
    """An entry stays small whatever clocks say; such windows are closed all the same."""
    of = job()
    far = OPEN_HORIZON // MINUTE + 5
    commit(of, fired(0, 1))
    commit(of, fired(far, 2, is_early=True))
    assert entries_of(of)[-1].awaited == ()
    commit(of, fired(far, 3, index=1))
    assert boundaries(of)[-1] == far + 1
    assert check(of) == [1, 2, 3]


def test_a_pane_that_comes_again_is_skipped() -> None:
    """As the same report, or staged anew by another worker; nothing of it is left."""
    of = job()
    (report,) = staged(of, fired(0, 1, 2))
    assert commit_panes(of, [report]) is not None
    assert commit_panes(of, [report]) is None
    with new_process():
        assert commit(of, fired(0, 2, 1)) is None
    again = staged(of, fired(1, 3), fired(1, 3))
    assert commit_panes(of, again) is not None
    assert [len(entry.origins) for entry in entries_of(of)] == [0, 1, 1]
    assert check(of) == [1, 2, 3]


def test_a_new_worker_reads_back_as_far_as_its_run_may_go(monkeypatch: pytest.MonkeyPatch) -> None:
    """Some entries at a time; what was there before the pipeline was built is none of its own."""
    monkeypatch.setattr("transforms.committing.ledger._AT_ONCE", 2)
    of = job()
    for window in range(5):
        commit(of, fired(window, window))
    with new_process():
        assert commit(of, fired(0, 0)) is None
    later = replace(of, built_at=utc_now() + timedelta(hours=1))
    with new_process():
        assert commit(later, fired(0, 0)) is not None


def test_the_same_place_with_other_rows_is_published_and_counted() -> None:
    """A job that starts again counts panes from 0: to skip them would lose rows."""
    of = job()
    commit(of, fired(0, 1, 2))
    with new_process():
        commit(of, fired(0, 2, 3))
    assert [each.repeated for entry in entries_of(of) for each in entry.origins] == [False, True]
    assert check(of) == [1, 2, 2, 3]


def test_an_audit_finds_a_pane_that_is_there_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of rows without addresses the log shows that much."""
    of = job()
    commit(of, fired(0, 1))
    monkeypatch.setattr(Ledger, "new", lambda _, reports: list(reports))
    commit(of, fired(0, 1))
    (finding,) = audit(open_storage(of.collection)).findings
    assert "pane 0 of window 2026-11-22T12:00:00Z, shard=0, was in the log before" in finding


def test_an_audit_finds_rows_that_no_pane_brought() -> None:
    """The rows of an entry's files are those of its panes."""
    of = job()
    commit(of, fired(0, 1, 2))
    before, entry = entries_of(of)
    (origin,) = entry.origins
    torn = replace(entry, origins=(replace(origin, rows=3),))
    assert list(check_link(entry, before)) == []
    assert list(check_link(torn, before)) == [
        "log/00000000000000000001.json: 0 waiting and 3 new rows became 2 in batches and 0 waiting"
    ]


def test_it_lies_wherever_collections_lie(new_uri: Callable[[], str]) -> None:
    """In a directory, and in Cloud Storage."""
    of = job(collection=new_uri(), shards=2)
    commit(of, fired(0, 1, 2, 3, 4, is_early=True), fired(0, 5, shard=1))
    with new_process():
        commit(of, fired(0, 1, 2, 3, 4, is_early=True), fired(0, index=1))
    assert boundaries(of) == [None, 1]
    assert check(of) == [1, 2, 3, 4, 5]


def test_a_pane_of_another_run_is_another_one() -> None:
    """Though place and rows are the same."""
    first = job()
    commit(first, fired(0, 1))
    commit(replace(first, run="run-2"), fired(0, 1))
    assert [each.repeated for entry in entries_of(first) for each in entry.origins] == [False] * 2
    assert check(first) == [1, 1]


def test_what_was_staged_and_not_committed_is_not_there() -> None:
    """A crash between the two; and a collector that sweeps leaves what may still be committed."""
    of = job()
    reports = staged(of, fired(0, 1))
    commit(of, fired(0, 2, index=1))
    table = batch_collection.open(of.collection).table()
    assert table.column("n").to_pylist() == [2]
    commit_panes(of, reports)
    assert check(of) == [1, 2]


def test_what_dead_jobs_have_staged_is_removed_once_the_log_is_there() -> None:
    """Whoever commits first in a process looks for it; what may still be committed stays."""
    of = job()
    storage = open_storage(of.collection)
    commit(of, fired(0, 1))
    storage.replace("staging/0000000001/left", b"")
    storage.replace("staging/0000000009/living", b"")
    with new_process():
        commit(of, fired(0, 2, index=1))
    assert list(storage.list("staging")) == ["staging/0000000009/living"]


@some_points(4)
def test_a_job_that_dies_anywhere_loses_and_doubles_nothing(every: int) -> None:
    """At points before and after each change its runner gives the panes to another worker."""
    k, committed = 0, set()
    while True:
        of = job()
        commit(of, fired(0, 1, is_early=True))
        bundle = (fired(0, 2, 3, 4, 5, index=1), fired(1, 6))
        dying = DyingStorage(open_storage(of.collection), k)
        with new_process(), interposed(dying), suppress(Died):
            commit(of, *bundle)
        committed.add(len(entries_of(of)))
        with new_process():
            commit(of, *bundle)
        left = set(open_storage(of.collection).list("staging"))
        assert not left & {staged for entry in entries_of(of) for staged, _ in entry.moves}
        open_storage(of.collection).delete(left)
        assert check(of) == [1, 2, 3, 4, 5, 6]
        assert boundaries(of)[-1] == 2
        if not dying.is_dead:
            break
        k += every
    assert k > 15
    assert committed == {2, 3}


def test_types_that_panes_saw_first_are_brought_together() -> None:
    """Two workers saw a new column at once, one with integers and one with fractions."""
    of = job()
    whole, fraction = fired(0, 1), fired(0, 2, index=1)
    fraction = replace(fraction, elements=[(microseconds(NOON), {"n": 2.5})])
    commit_panes(of, staged(of, whole, fraction))
    assert entries_of(of)[-1].schema == {"n": "double"}
    assert check(of) == [1.0, 2.5]


def test_types_that_cannot_be_brought_together_are_an_error() -> None:
    """Nobody could read both; nothing of it is committed."""
    of = job()
    whole, flag = fired(0, 1), fired(0, 2, index=1)
    flag = replace(flag, elements=[(microseconds(NOON), {"n": {"a": 1}})])
    with pytest.raises(WriteError, match=r"column n came as .*, and is int64"):
        commit_panes(of, staged(of, whole, flag))
    assert len(entries_of(of)) == 1


class Bundle(NamedTuple):
    """Panes that are committed together, and whether that worker has just begun."""

    panes: list[Fired]
    is_new_worker: bool


@st.composite
def scripts(draw: st.DrawFn) -> tuple[int, list[Bundle]]:
    """Draw the shards of a run, and its panes: in any order, any bundles, some again."""
    shards = draw(st.integers(1, 3))
    panes, number = [], 0
    for window in range(draw(st.integers(1, 4))):
        for shard in range(shards):
            sizes = draw(st.lists(st.integers(0, 7), min_size=1, max_size=4))
            on_time = draw(st.integers(0, len(sizes) - 1))
            for index, size in enumerate(sizes):
                rows = range(number, number + size)
                number += size
                is_early = index < on_time
                if size or index == on_time:
                    panes.append(fired(window, *rows, shard=shard, index=index, is_early=is_early))
    again = draw(st.lists(st.sampled_from(panes), max_size=4))
    order = draw(st.permutations([*panes, *again]))
    cuts = sorted(draw(st.sets(st.integers(1, len(order)), max_size=6)))
    bundles = [order[a:b] for a, b in pairwise([0, *cuts, len(order)]) if a < b]
    return shards, [Bundle(bundle, draw(st.booleans())) for bundle in bundles]


@settings(max_examples=60)
@given(scripts())
def test_every_row_is_in_one_file_in_whatever_order_panes_come(
    script: tuple[int, list[Bundle]],
) -> None:
    """However often, in whatever bundles, by whichever workers: the laws of a collection hold."""
    shards, bundles = script
    of = job(shards=shards)
    for bundle in bundles:
        with new_process() if bundle.is_new_worker else nullcontext():
            commit(of, *bundle.panes)
    numbers = {row["n"] for bundle in bundles for pane in bundle.panes for _, row in pane.elements}
    assert check(of) == sorted(numbers)
    assert all(batch.rows <= of.batch_size for batch in batch_collection.open(of.collection))
    for pane in (pane for entry in entries_of(of) for pane in entry.panes):
        assert pane.files or pane.timing == "on_time"


@settings(max_examples=300)
@given(scripts())
def test_the_boundary_never_goes_back_and_closes_what_is_whole(
    script: tuple[int, list[Bundle]],
) -> None:
    """When it passes a window of which panes are known, all its on-time panes are committed."""
    shards, bundles = script
    of = job(shards=shards)
    newest = begun(of)
    came: dict[datetime, set[int]] = {}
    for bundle in bundles:
        reports = [report_of(of, pane) for pane in bundle.panes]
        step = step_behind(newest, of, reports, NOON)
        for report in reports:
            ended = came.setdefault(report.origin.window_start, set())
            ended |= set() if report.is_early else {report.origin.shard}
        entry = paned(newest, "digest", step, of)
        if entry is None:
            continue
        assert list(check_link(entry, newest)) == []
        for start, ended in came.items():
            passed = entry.boundary is not None and start + MINUTE <= entry.boundary
            before = newest.boundary is not None and start + MINUTE <= newest.boundary
            if passed and not before:
                assert ended == set(range(shards))
        newest = Entry.from_json(entry.to_json())
        assert newest == entry
    assert newest.boundary == max(came) + MINUTE
    assert newest.awaited == ()


def report_of(of: Job, pane: Fired) -> PaneReport:
    """Return the report on a pane of which nothing was written."""
    origin = Origin(of.run, pane.window_start, pane.shard, pane.index, pane.checksum, 0)
    return PaneReport(origin, pane.is_early)
