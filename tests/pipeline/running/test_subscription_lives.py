"""Processes that pull: bundles tried again, dead workers, commits that take long, long stops."""

from __future__ import annotations

import time
from datetime import timedelta
from itertools import repeat
from types import SimpleNamespace
from typing import TYPE_CHECKING

import apache_beam as beam
import pytest
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from grpc import StatusCode

from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.running.local import run_steps
from tests.collecting import entries_of
from tests.services.pubsub_fake import Fault, Faults
from tests.subscribed import Workers
from transforms.process.process import new_process
from transforms.read_pulls import ReadPulls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from transforms.elements.plan import Task

HOURS = timedelta(hours=10)


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Start a server with messages, and what collects from it."""
    with Workers.of(tmp_path) as workers:
        workers.publish(6_000)
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
    assert workers.fake.stream.deliveries >= 6_000 + held


@pytest.mark.parametrize("minutes", [3, 7])
def test_a_commit_may_take_longer_than_leases(
    workers: Workers, monkeypatch: pytest.MonkeyPatch, minutes: int
) -> None:
    """They are held meanwhile, and after five minutes given back: then they are in the log."""
    create, waited = LocalStorage.create, list[str]()

    def create_late(storage: LocalStorage, path: str, content: bytes) -> None:
        if path == entry_path(2):
            waited.append(path)
            for _ in range(minutes * 2):
                workers.fake.stream.clock.seconds += 30
                time.sleep(0.1)
        create(storage, path, content)

    monkeypatch.setattr(LocalStorage, "create", create_late)
    workers.collect_here()
    assert waited
    workers.check()
    came_again = workers.fake.stream.deliveries - workers.published
    assert came_again == 0 if minutes == 3 else came_again >= 1_000


@pytest.mark.parametrize("fault", [StatusCode.NOT_FOUND, Fault.IDLE])
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
