"""Reading slices on a runner: small tasks at once, each task's messages in one piece."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batch_collection.errors import SourceError
from batch_collection.paths import entry_path
from batch_collection.storage.opening import open_storage
from tests.pipelines import MAIN, run
from tests.tasks import plan, task
from transforms.elements.chunk import REPORTS
from transforms.elements.plan import Task
from transforms.process.process import current, new_process
from transforms.read_slices import AT_ONCE, ReadSlices
from transforms.sources.contract import MESSAGES, Slice

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Sequence
    from pathlib import Path

    from transforms.sources.contract import Gap


class Reads:
    """What the readers of a test's process do, and how far they are."""

    def __init__(self) -> None:
        """Let nobody read yet."""
        self.together = threading.Barrier(1)
        self.lock = threading.Lock()
        self.going_on = self.most = self.closed = 0


@dataclass(frozen=True)
class Together:
    """A reader that begins when as many have begun as the test waits for."""

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Yield each message of a slice as a batch; partition 99 can't be read."""
        assert not skip_lost
        reads = current().kept(Reads, Reads)
        with reads.lock:
            reads.going_on += 1
            reads.most = max(reads.most, reads.going_on)
        try:
            reads.together.wait(60)
            for part in slices:
                if part.partition == 99:
                    message = "no answer"
                    raise SourceError(message)
                yield from (_batch(part.partition, at) for at in range(part.first, part.end))
        finally:
            with reads.lock:
                reads.going_on -= 1
                reads.closed += 1


def _batch(partition: int, offset: int) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(
        [{"partition": partition, "offset": offset, "value": b"{}"}], MESSAGES
    )


@pytest.fixture
def reads() -> Iterator[Reads]:
    """Give what the readers of a process of this test do."""
    with new_process() as process:
        yield process.kept(Reads, Reads)


def asked(folder: Path, number: int, end: int, partition: int | None = None) -> Task:
    """Build a task of a collection of its own, which reads ``end`` messages."""
    partition = number if partition is None else partition
    return task(plan(folder / str(number), id=f"plan {number}"), 0, [Slice("t", partition, 0, end)])


def test_small_tasks_are_read_at_once_and_come_in_their_order(tmp_path: Path, reads: Reads) -> None:
    """Each waits for the others to have begun; never are more of them read at once."""
    reads.together = threading.Barrier(AT_ONCE)
    tasks = [asked(tmp_path, number, 2) for number in range(2 * AT_ONCE)]
    found = run(ReadSlices(Together()), tasks, Task)

    places = [
        (chunk.task.plan.id, chunk.table.column("offset").to_pylist(), chunk.last)
        for chunk, _ in found[MAIN]
    ]
    assert places == [
        (each.plan.id, offsets, last)
        for each in tasks
        for offsets, last in (([0], False), ([1], False), ([], True))
    ]
    assert [report.plan.id for report, _ in found[REPORTS]] == [each.plan.id for each in tasks]
    assert all(report.reads[0].messages == 2 for report, _ in found[REPORTS])
    assert reads.most == AT_ONCE
    assert reads.closed == len(tasks)


def test_large_tasks_are_read_one_after_another(tmp_path: Path, reads: Reads) -> None:
    """What the next ones hold ahead would be a chunk each."""
    tasks = [asked(tmp_path, number, 40_001) for number in range(3)]
    found = run(ReadSlices(Unread()), tasks, Task)
    assert len(found[REPORTS]) == len(tasks)
    assert reads.most == 1


@dataclass(frozen=True)
class Unread(Together):
    """A reader whose messages are all gone; it counts as the other one."""

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Yield nothing of slices that are long."""
        yield from super().read([part._replace(end=0) for part in slices], skip_lost=skip_lost)


@pytest.mark.usefixtures("reads")
def test_one_that_cannot_be_read_fails_alone(tmp_path: Path) -> None:
    """Its report says why; the others are whole."""
    tasks = [asked(tmp_path, number, 1, partition) for number, partition in enumerate((1, 99, 2))]
    found = run(ReadSlices(Together()), tasks, Task)
    failures = [report.failure for report, _ in found[REPORTS]]
    assert [each and each.text for each in failures] == [None, "no answer", None]
    assert [chunk.task.plan.id for chunk, _ in found[MAIN] if chunk.last] == [
        "plan 0",
        "plan 2",
    ]


@pytest.mark.usefixtures("reads")
def test_nothing_goes_on_of_what_is_committed_already(tmp_path: Path) -> None:
    """Its cycle has an entry; the others do go on."""
    tasks = [asked(tmp_path, number, 1) for number in range(3)]
    open_storage(str(tmp_path / "1")).create(entry_path(1), b"{}")
    found = run(ReadSlices(Together()), tasks, Task)
    assert [report.plan.id for report, _ in found[REPORTS]] == ["plan 0", "plan 2"]
    assert {chunk.task.plan.id for chunk, _ in found[MAIN]} == {"plan 0", "plan 2"}


@pytest.mark.usefixtures("reads")
def test_of_fresh_tasks_the_storage_is_not_asked(tmp_path: Path) -> None:
    """A drive that works its plan off itself hands on what the log may have since."""
    open_storage(str(tmp_path / "1")).create(entry_path(1), b"{}")
    found = run(ReadSlices(Together(), fresh=True), [asked(tmp_path, 1, 1)], Task)
    assert [report.plan.id for report, _ in found[REPORTS]] == ["plan 1"]
