"""Processes that pull: bundles tried again, dead workers, commits that take long, long stops."""

from __future__ import annotations

import time
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from grpc import StatusCode
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.inspection.audit import audit
from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.running.local import run_steps
from tests.collecting import dead_letters_of, entries_of, rows_of
from tests.services.pubsub_fake import Fault, Faults
from tests.subscribed import Workers
from transforms.process.process import new_process
from transforms.read_pulls import ReadPulls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.leased_stream import LeasedStream
    from transforms.elements.plan import Task

HOURS = timedelta(hours=10)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Start a server with messages, and what collects from it."""
    with Workers.of(tmp_path) as workers:
        workers.publish(2_000)
        yield workers


def read_alone(workers: Workers, task: Task) -> None:
    """Work a task off, but for what comes behind reading: its bundle fails then."""
    with beam.Pipeline(runner=FnApiRunner()) as pipeline:
        _ = pipeline | beam.Create([task], reshuffle=False) | ReadPulls(workers.reader)


def next_tasks(job: Callable[[], tuple[Task, ...]]) -> tuple[Task, ...]:
    """Look until tasks are due."""
    while not (tasks := job()):
        pass
    return tasks


def test_a_bundle_tried_again_beside_its_first_attempt_doubles_nothing(workers: Workers) -> None:
    """What the first one holds comes with its process's next task, or the log has it by then."""
    with new_process():
        (task,) = next_tasks(job := workers.job())
        first, second = (workers.by(f"worker-{number}", task) for number in range(2))
        read_alone(workers, first)
        workers.fake.stream.lapse()  # the second one gets some of what the first one has
        run_steps([second], workers.steps)
        run_steps([first], workers.steps)  # it was only slow
        (task,) = next_tasks(job)
        both = [workers.by(f"worker-{number}", task) for number in range(2)]
        run_steps(both, workers.steps)  # both come to an end
        assert len(entries_of(workers.output / "stream")) >= 3
        workers.collect()
    workers.check()


def test_a_worker_that_is_dead_after_its_task_costs_nothing(workers: Workers) -> None:
    """What it did not acknowledge comes again, and is in the log."""
    with new_process():
        (task,) = next_tasks(workers.job())
        for method in ("Acknowledge", "ModifyAckDeadline"):  # it can tell nobody any more
            workers.fake.faults.calls[method] = repeat(StatusCode.NOT_FOUND)
        run_steps([workers.by("worker-0", task)], workers.steps)
    held = sum(entries_of(workers.output / "stream")[-1].ends.values())
    assert held >= 1_000
    assert not workers.fake.stream.acknowledged
    workers.fake.faults = Faults()
    workers.collect()
    workers.check()
    assert workers.fake.stream.deliveries >= 2_000 + held


def pass_half_a_minute(stream: LeasedStream) -> None:
    """Let time pass, and give who holds messages the time to say that they are held on."""
    stream.clock.seconds += 30
    deadline = time.monotonic() + 2
    while time.monotonic() < deadline:
        lapse = stream.next_lapse
        if lapse is None or lapse > stream.clock() + 45:
            return
        time.sleep(0.01)


@pytest.mark.parametrize("minutes", [3, 7])
def test_a_commit_may_take_longer_than_leases(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """They are held meanwhile, and after five minutes given back: then they are in the log."""
    create, waited = LocalStorage.create, list[str]()

    def create_late(storage: LocalStorage, path: str, content: bytes) -> None:
        if path == entry_path(1):
            waited.append(path)
            for _ in range(2 * minutes):
                pass_half_a_minute(workers.fake.stream)
        create(storage, path, content)

    monkeypatch.setattr(LocalStorage, "create", create_late)
    workers.collect_here()
    assert waited
    workers.check()
    came_again = workers.fake.stream.deliveries - workers.published
    assert came_again == 0 if minutes == 3 else came_again >= 1_000


@pytest.mark.parametrize(
    "fault", [Fault.IDLE, pytest.param(StatusCode.NOT_FOUND, marks=[pytest.mark.faults])]
)
def test_ten_hours_between_commit_and_acknowledgement_are_no_matter(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, fault: StatusCode | Fault
) -> None:
    """Whether it was not answered, or answered and not heard; and whenever it comes then."""
    with new_process():
        job = workers.job()
        workers.fake.faults.calls["Acknowledge"] = repeat(fault)
        for _ in range(2):
            run_steps([workers.by("worker-0", each) for each in next_tasks(job)], workers.steps)
            time.sleep(0.5)  # it is told
            workers.publish(100)
    workers.fake.faults = Faults()
    workers.fake.stream.clock.seconds += HOURS.total_seconds()
    workers.now = utc_now() + HOURS
    later = SimpleNamespace(now=lambda _: utc_now() + HOURS)
    monkeypatch.setattr("transforms.committing.commit.datetime", later)
    with new_process():
        job = workers.job()
        for _ in range(3):
            workers.publish(100)
            run_steps([workers.by("worker-1", each) for each in job()], workers.steps)
    workers.collect()
    workers.check()


WORKER = st.integers(0, 2)
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 300), st.booleans()),
    st.just(("lapse",)),
    st.tuples(st.just("crash"), WORKER),
    st.tuples(st.just("cycle"), WORKER, WORKER, st.sampled_from(["well", "twice", "lost"])),
)


@dataclass
class Law:
    """Workers that a story happens to, and what must be true behind each step of it."""

    workers: Workers
    crashes: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    bad: int = 0

    def __post_init__(self) -> None:
        self.job = self.workers.job(shards=2)

    def step(self, step: tuple[Any, ...]) -> None:
        """Let something happen."""
        kind, *args = step
        stream = self.workers.fake.stream
        if kind == "publish":
            count, is_bad = args
            if is_bad:
                self.bad += count
                stream.publish(*[b"{"] * count)
            else:
                self.workers.publish(count)
        elif kind == "lapse":
            stream.lapse()
        elif kind == "crash":
            self.crash(*args)
        else:
            self.cycle(*args)
        acknowledged = {*stream.acknowledged}
        found = Counter(self.durable())
        assert max(found.values(), default=1) == 1, "twice"
        assert acknowledged <= found.keys(), "acknowledged, not durable"

    def cycle(self, one: int, other: int, how: str) -> None:
        """Let two workers, or one, work a cycle off: well, one task twice, or in vain."""
        tasks = [
            self.workers.by(self.named(worker), task)
            for worker, task in zip((one, other), next_tasks(self.job), strict=True)
        ]
        for task in tasks:
            self.workers.pulling(task).keeper.pull(20)
        if how != "well":
            read_alone(self.workers, tasks[0])
            self.workers.fake.stream.lapse()
        if how != "lost":
            run_steps(tasks, self.workers.steps)

    def named(self, worker: int) -> str:
        """Name a worker as it is since its last crash."""
        return f"worker-{worker}-{self.crashes[worker]}"

    def crash(self, worker: int) -> None:
        """Let a worker be gone, which can tell nobody of it."""
        calls = self.workers.fake.faults.calls
        for method in ("Acknowledge", "ModifyAckDeadline"):
            calls[method] = repeat(StatusCode.NOT_FOUND)
        self.workers.reader.pulling(self.named(worker), print).keeper.stop()
        calls.clear()
        self.crashes[worker] += 1

    def durable(self) -> list[str]:
        """Return the ids of all rows, waiting ones too, and of all dead letters."""
        path = self.workers.output / "stream"
        if not path.exists():
            return []
        rows = rows_of(path)
        letters = [each["id"] for each in dead_letters_of(path).values()]
        return letters + (rows["_message_id"].to_pylist() if rows.num_rows else [])

    def finish(self) -> None:
        """Go on without trouble until nothing is left."""
        self.workers.collect(job=self.job)
        stream = self.workers.fake.stream
        assert not stream.left
        count = self.workers.published + self.bad
        assert sorted(map(int, self.durable())) == [*range(1, count + 1)]
        assert len(stream.acknowledged) == count
        assert audit(LocalStorage(str(self.workers.output / "stream"))).findings == ()


@pytest.mark.parametrize(
    "examples", [3, pytest.param(60, marks=[pytest.mark.faults, pytest.mark.timeout(1800)])]
)
def test_each_message_is_in_one_batch_carry_or_dead_letter(examples: int) -> None:
    """And none is acknowledged before, whatever happened to whom."""

    @given(st.lists(STEPS, min_size=3, max_size=8))
    @settings(deadline=None, max_examples=examples)
    def holds(steps: list[tuple[Any, ...]]) -> None:
        with TemporaryDirectory() as folder, Workers.of(Path(folder), rate=400) as workers:
            with new_process():
                law = Law(workers)
                for step in (("publish", 100, False), *steps):
                    law.step(step)
            law.finish()

    holds()
