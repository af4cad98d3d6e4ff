"""Cutting on a runner: bundles, tasks, spilling."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import apache_beam as beam
import pyarrow as pa
import pytest

from tests.pipelines import MAIN, run
from tests.tasks import MINUTE, NOON, chunk, end, order, plan, rows, task
from transforms.cut_batches import CutBatches
from transforms.cutting.batch import Batch, BatchCoder
from transforms.cutting.waiting import InMemory, Spilled, SpillFile
from transforms.cutting.windows import split_ahead
from transforms.elements.chunk import Chunk
from transforms.into_windows import IntoWindows


class Windowed(beam.PTransform):
    """Windows in front of the cut, as in the graph."""

    def __init__(self, cut: CutBatches) -> None:
        """Put windows in front of ``cut``."""
        super().__init__()
        self._cut = cut

    def expand(self, chunks: Any) -> Any:
        """Wire it."""
        return chunks | IntoWindows(MINUTE, 10) | "Cut" >> self._cut


def cut(elements: list[Chunk], **options: Any) -> dict[str, Any]:
    """Cut chunks; give batches and reports."""
    return run(Windowed(CutBatches(**options)), elements, Chunk)


def values(batch: Batch) -> list[int]:
    """Give the values of a batch's rows, wherever they are."""
    return [
        row["value"]
        for segment in batch.cut.segments
        for piece in segment.source.pieces(segment.start, segment.rows)
        for row in piece["payload"].to_pylist()
    ]


def test_batches_come_out_in_their_windows_and_the_report_says_that_all_is_cut() -> None:
    """One task, one window: a full batch, then the rest."""
    of = task(plan(batch_size=10))
    out = cut([chunk(rows(range(8)), of), chunk(rows(range(8, 14)), of), end(of)])
    batches = [seen.element for seen in out[MAIN]]
    assert [(b.number, b.cut.timing, values(b)) for b in batches] == [
        (0, "on_time", list(range(10))),
        (1, "on_time", list(range(10, 14))),
    ]
    assert {seen.window_start for seen in out[MAIN]} == {(NOON - MINUTE).timestamp()}
    (report,) = (seen.element for seen in out["reports"])
    assert report.cut


def test_rows_that_cannot_leave_memory_fail_their_task_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The disk for temporary files is full, say; an attempt that needs none of it is whole."""

    def full(*_: Any) -> Any:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(SpillFile, "spill", full)
    large, small = (
        task(plan("collected/" + name, id=name, batch_size=1000)) for name in ("large", "small")
    )
    out = cut(
        [
            *(chunk(rows(range(100)), large), chunk(rows(range(9)), large), end(large)),
            *(chunk(rows(range(3)), small), end(small)),
        ],
        memory_limit=(4 << 10) + 2000,
    )
    reports = {seen.element.plan.id: seen.element for seen in out["reports"]}
    failure = reports["large"].failure
    assert failure.kind == "WriteError"
    assert failure.text == (
        "cannot write rows that wait in memory of collected/large, cycle=1: "
        "[Errno 28] No space left on device"
    )
    assert reports["small"].cut
    assert [values(seen.element) for seen in out[MAIN]] == [[0, 1, 2]]


@pytest.fixture
def spilled(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return how many rows leave memory from now on, each time that some do."""
    seen: list[int] = []

    def noted(self: SpillFile, of: InMemory) -> Spilled:
        seen.append(of.rows)
        return spill(self, of)

    spill = SpillFile.spill
    monkeypatch.setattr(SpillFile, "spill", noted)
    return seen


@pytest.mark.parametrize(("windows", "expected"), [(30, 16), (1, 0)])
def test_rows_of_many_windows_leave_memory_sooner(
    spilled: list[int], windows: int, expected: int
) -> None:
    """A piece of few rows takes more memory than they do."""
    scattered = rows(range(30), NOON - windows * MINUTE, step=windows * MINUTE / 30)
    out = cut([chunk(scattered), end()], memory_limit=64 << 10)
    assert sum(seen.element.cut.rows for seen in out[MAIN]) == 30
    assert spilled == [1] * expected


@pytest.mark.parametrize(("size", "expected"), [(600, [10]), (400, [])])
def test_large_rows_leave_memory_sooner(spilled: list[int], size: int, expected: list[int]) -> None:
    """A quarter of what others may take is theirs: a file takes few of them as fast."""
    of, texts = task(plan(batch_size=1000)), rows(range(10))
    payload = pa.array([{"value": number, "text": "x" * size} for number in range(10)])
    large = texts.set_column(texts.column_names.index("payload"), "payload", payload)
    out = cut([chunk(large, of), end(of)], memory_limit=4 * (9 * size + (4 << 10)))
    assert [seen.element.cut.rows for seen in out[MAIN]] == [10]
    assert spilled == expected


def test_tasks_in_one_bundle_are_cut_apart() -> None:
    """A runner may put several tasks into one bundle."""
    two = [task(plan(tasks=2), number) for number in range(2)]
    out = cut([chunk(rows([1]), two[0]), end(two[0]), chunk(rows([2]), two[1]), end(two[1])])
    assert [(s.element.order.shard, values(s.element)) for s in out[MAIN]] == [(0, [1]), (1, [2])]
    assert [seen.element.task for seen in out["reports"]] == [0, 1]


def test_a_bundle_that_ends_without_the_mark_is_cut_too() -> None:
    """A runner that did not fuse the steps may separate the mark from the rows."""
    out = cut([chunk(rows([1, 2]))])
    assert [values(seen.element) for seen in out[MAIN]] == [[1, 2]]
    assert out["reports"][0].element.cut


def test_rows_that_do_not_fit_in_memory_are_spilled_and_come_back() -> None:
    """With no memory at all, everything passes through the file."""
    later = rows(range(5), NOON + MINUTE)
    out = cut([chunk(rows(range(7))), chunk(later), chunk(rows([7, 8])), end()], memory_limit=0)
    batches = [seen.element for seen in out[MAIN]]
    assert {type(segment.source) for b in batches for segment in b.cut.segments} == {Spilled}


def test_only_rows_whose_own_time_is_beyond_the_limit_do_not_wait() -> None:
    """In the window that the limit lies in, rows are told apart; at the limit they still wait."""
    limit = NOON + MINUTE + timedelta(seconds=2)
    until = task(plan(ahead_limit=limit))
    table = rows(range(6), NOON + MINUTE, step=timedelta(seconds=1))
    out = cut([chunk(table, until), end(until)])
    found = [(seen.element.cut.timing, values(seen.element)) for seen in out[MAIN]]
    assert found == [("early", [3, 4, 5]), ("carry", [0, 1, 2])]


@pytest.mark.parametrize(("seconds", "ahead"), [(-60, True), (-1, True), (59, False), (60, False)])
def test_windows_the_limit_does_not_lie_in_are_not_looked_into(seconds: int, ahead: bool) -> None:  # noqa: FBT001 - a case
    """What begins after it is ahead as a whole, what ends by it is not; else nobody looks."""
    limit = NOON + timedelta(seconds=seconds)
    table = rows(range(3), NOON, step=timedelta(seconds=1))
    ((kept, is_ahead),) = split_ahead(table, NOON, order(ahead_limit=limit))
    assert (kept.num_rows, is_ahead) == (3, ahead)


class Recoded(Windowed):
    """Batches as another process gets them."""

    def expand(self, chunks: Any) -> Any:
        """Wire it."""
        return super().expand(chunks).batches | beam.Map(_recoded)


def _recoded(batch: Batch) -> Batch:
    return BatchCoder().decode(BatchCoder().encode(batch))


@pytest.mark.parametrize("memory_limit", [0, 1 << 30])
def test_a_batch_crosses_a_process_border_with_its_rows(memory_limit: int) -> None:
    """The coder loads what is in a file of this process only."""
    recoded, of = Recoded(CutBatches(memory_limit)), task(plan(batch_size=5))
    out = run(recoded, [chunk(rows(range(7)), of), end(of)], Chunk)[MAIN]
    batches = [seen.element for seen in out]
    assert {type(segment.source) for b in batches for segment in b.cut.segments} == {InMemory}
    assert [(b.cut.timing, values(b)) for b in batches] == [
        ("on_time", [0, 1, 2, 3, 4]),
        ("on_time", [5, 6]),
    ]
