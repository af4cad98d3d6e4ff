"""What an engine does next: the log decides, whatever the runner forgets, repeats or loses."""

from __future__ import annotations

from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.errors import (
    DamagedFileError,
    DataLossError,
    DeadLettersError,
    FileGoneError,
    OtherCollectorError,
    SourceError,
    WriteError,
)
from batch_collection.log.entry import DeadLetterFile, Entry
from batch_collection.publishing.append import append, successor
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.local import LocalStorage
from pipeline.running.coordinator import Flight
from tests.builders import at
from tests.collecting import Sending, Stream, check, entries_of, sending
from tests.damage import DAMAGES, damage
from tests.interposed import interposed
from tests.jobs import Job, lines_of
from tests.storages import ActingStorage
from transforms.committing.commit import read_failure
from transforms.elements.records import from_json, to_json
from transforms.writing import staging

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker


@pytest.fixture
def job(embedded: EmbeddedBroker, tmp_path: Path) -> Job:
    """Give a job that stands at 10:30:02, and four rows of the window from 10:30:00."""
    job = Job(Stream(embedded), tmp_path)
    job.look()
    job.look()
    job.stream.send(*(sending(at("10:30:01"), number, id=number) for number in range(4)))
    return job


def test_one_cycle_is_in_flight_until_the_log_has_it(job: Job) -> None:
    """Nothing more is planned before, however much waits; then the next is, from its end."""
    first = job.look("10:30:12")
    assert [task.plan.cycle for task in first.tasks] == [2]
    assert job.look("10:30:22").tasks == ()
    job.work(first)
    second = job.look("10:30:22")
    assert "cycle 2" in lines_of(second)[0]
    job.look()
    assert [entry.cycle for entry in entries_of(job.path)] == [0, 1, 2, 3]
    check(job.path, job.stream.produced)


def test_a_window_closes_though_nothing_comes(job: Job) -> None:
    """An empty plan needs no worker."""
    job.work(job.look("10:30:12"))
    job.look()
    looks = [job.look("10:30:32"), job.look("10:30:32")]
    assert [look.tasks for look in looks] == [(), ()]
    assert entries_of(job.path)[-1].boundary == at("10:30:30")


def test_a_lost_flight_costs_a_second_plan_and_nothing_else(job: Job) -> None:
    """Both plans of the cycle are worked off; the log takes one, and the job goes on."""
    first = job.look("10:30:12")
    job.flight = Flight("job")
    job.restart()
    second = job.look()
    assert second.tasks[0].plan.cycle == first.tasks[0].plan.cycle
    job.work(second)
    job.work(first)
    after = job.look("10:30:22")
    assert not after.flight.stopped
    check(job.path, job.stream.produced)


def test_an_old_flight_is_brought_up_to_date_by_the_log(job: Job) -> None:
    """A runner that gives back what was remembered two cycles ago repeats nothing."""
    old = job.flight
    job.work(job.look("10:30:12"))
    job.look()
    job.look("10:30:22")
    job.look()
    entries = entries_of(job.path)
    job.flight = old
    assert job.look().tasks == ()
    assert entries_of(job.path) == entries
    check(job.path, job.stream.produced)


def test_a_cycle_that_does_not_close_is_planned_again_with_doubled_patience(job: Job) -> None:
    """Under another id; the zombie that comes back later finds the entry there."""
    zombie = job.look("10:30:12")
    assert job.look("10:30:51").tasks == ()
    again = job.look("10:30:52")
    assert again.tasks[0].plan.id != zombie.tasks[0].plan.id
    assert "took longer than 40s" in lines_of(again)[0]
    assert job.look("10:32:11").tasks == ()  # 80 s now
    last = job.look("10:32:12")
    assert last.tasks
    job.work(zombie)
    job.work(last)
    assert not job.look().flight.stopped
    check(job.path, job.stream.produced)


@pytest.mark.parametrize("kind", ["SourceError", "StorageError"])
def test_what_may_pass_is_tried_again_soon(job: Job, kind: str) -> None:
    """A broker or a disk that was away for a moment doesn't cost the whole timeout."""
    failed = job.look("10:30:12")
    job.fail(failed, kind)
    assert job.look().tasks == ()
    again = job.look("10:30:13")
    assert "it broke" in lines_of(again)[0]
    job.work(again)
    job.look()
    check(job.path, job.stream.produced)


def test_changed_types_are_planned_again_at_once(job: Job) -> None:
    """With the types that the failed plan has found."""
    job.fail(job.look("10:30:12"), "SchemaChange")
    assert job.look().tasks


def test_a_cycle_of_too_many_windows_is_planned_again_with_fewer_messages(job: Job) -> None:
    """As often as need be, and more are read again once a cycle had room."""
    job.stream.send(*(sending(at("10:30:05"), n % 4, id=f"more {n}") for n in range(60)))
    first = job.look("10:30:12")
    total = first.tasks[0].plan.messages
    for limit in (total // 2, total // 4):
        job.fail(first, "TooManyWindows", limit)
        first = job.look()
        assert "it broke" in lines_of(first)[0]
        assert 0 < first.tasks[0].plan.messages <= limit
    job.work(first)
    assert job.look().tasks[0].plan.messages > limit


def test_what_a_user_must_mend_stops_the_planning_and_says_so(job: Job) -> None:
    """Lost messages are no matter of time."""
    job.fail(job.look("10:30:12"), "DataLossError")
    look = job.look()
    assert isinstance(look.error, DataLossError)
    assert look.flight.stopped == "it broke"
    job.restart()
    assert job.look("10:40:00").tasks == ()


@pytest.mark.parametrize("kind", DAMAGES)
def test_damaged_rows_that_wait_stop_the_planning_and_say_so(job: Job, kind: str) -> None:
    """No new plan of the cycle reads another file; once it is put back a new job goes on."""
    job.stream.send(sending(at("10:30:11"), 0, id=9))
    job.work(job.look("10:30:12"))
    job.look()
    storage = LocalStorage(str(job.path))
    (file,) = entries_of(job.path)[-1].carry
    whole = storage.read(file.path)
    damage(storage, file.path, kind)

    job.work(job.look("10:30:22"))
    look = job.look()

    assert isinstance(look.error, FileGoneError if kind == "missing" else DamagedFileError)
    assert look.flight.stopped.startswith(f"{job.path}/{file.path} ")
    assert job.look("10:40:00").tasks == ()
    storage.replace(file.path, whole)
    after = Job(job.stream, job.output, run="after", now=job.now)
    after.work(after.look())
    assert not after.look().flight.stopped
    check(job.path, job.stream.produced)


def test_rows_that_a_rival_takes_up_while_they_are_wanted_are_no_damage(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is told in the end is the rival, not a file that is missing."""
    monkeypatch.setattr(staging, "_FEW_ROWS", 0)  # the file is begun before its rows are read
    job.stream.send(sending(at("10:30:11"), 0, id=9))
    job.work(job.look("10:30:12"))
    job.look()
    mine = job.look("10:30:22")
    storage = LocalStorage(str(job.path))

    def act() -> None:
        rival = Job(job.stream, job.output, run="rival", now=job.now)
        rival.work(rival.look())
        rival.look()

    acting = ActingStorage(storage, act, 0)
    with interposed(acting):
        job.work(mine)

    assert acting.has_acted
    failure = read_failure(mine.tasks[0].plan)
    assert failure is not None
    assert failure.kind == "FileNotFoundError"
    assert isinstance(job.look().error, OtherCollectorError)
    check(job.path, job.stream.produced)


def _redrive(left: dict[str, Any], newest: Entry, newest_digest: str) -> Entry:
    return successor(newest, newest_digest, "redrive", **left)


def test_dead_letters_that_came_and_went_while_a_cycle_ran_are_no_damage(job: Job) -> None:
    """Two redrives in one cycle: the second takes what the first has left."""
    mine = job.look("10:30:12")
    storage = LocalStorage(str(job.path))
    path, staged = "dead_letters/a.parquet", "staging/0000000002/dead_letters/a.parquet"
    storage.replace(staged, b"")
    letters = (DeadLetterFile(path, staged, 0, 0, crc32c(b"")),)
    for left in ({"dead_letters": letters}, {"redriven": (path,)}):
        append(storage, partial(_redrive, left))
    assert not (job.path / path).exists()

    job.work(mine)
    again = job.look("10:30:13")

    assert again.error is None
    job.work(again)
    assert not job.look().flight.stopped
    check(job.path, job.stream.produced)


def test_another_runs_entry_stops_this_one_and_names_the_winner(job: Job) -> None:
    """Also where the worker is new: what was taken up before is remembered."""
    mine = job.look("10:30:12")
    other = Job(job.stream, job.output, run="other", now=job.now)
    other.work(other.look())
    job.work(mine)
    job.restart()
    look = job.look()
    assert "another collector (host=" in look.flight.stopped
    assert look.tasks == job.look("10:31:00").tasks == ()
    check(job.path, job.stream.produced)


def test_an_updated_job_goes_on_as_the_run_it_was(job: Job) -> None:
    """The run is remembered, not drawn anew: the job's own entries are no stranger's."""
    flying = job.look("10:30:12")
    job.restart()
    job.flight = from_json(Flight, to_json(job.flight))
    job.work(flying)
    assert not job.look("10:30:22").flight.stopped


def test_a_broker_that_is_away_is_said_once(job: Job) -> None:
    """And also that it works again."""
    job.restart()
    job.broken = SourceError("no answer from kafka")
    notes = [lines_of(job.look()) for _ in range(3)]
    assert notes == [["no answer from kafka; trying again until it works"], [], []]
    job.broken = None
    assert lines_of(job.look("10:30:12"))[0] == f"it works again: topic={job.stream.name}"


def test_once_collects_what_was_there_and_is_done(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """In as many cycles as it takes; what comes later is left, on a new worker, too."""
    stream = Stream(embedded)
    stream.send(*(sending(at("10:30:01"), number % 4, id=number) for number in range(20)))
    flags = ("--once", "--flush", "--max_messages_per_cycle=8")
    job = Job(stream, tmp_path, flags=flags, now=at("10:31:00"))
    before, cycles = list(stream.produced), 0
    while not (look := job.look()).done:
        assert cycles < 9, "it goes after what comes"
        if look.tasks:
            stream.send(sending(at("10:30:02"), 0, id=-1))
            job.restart()
            job.work(look)
            cycles += 1
            job.now += timedelta(seconds=10)  # what is due later isn't closed
    assert cycles >= 3
    assert entries_of(job.path)[-1].boundary == at("10:30:50")
    check(job.path, before)


def test_dead_letters_are_counted_over_all_cycles_of_a_job(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """On new workers, too; the cycle that would pass the limit stops the planning."""
    job = Job(Stream(embedded), tmp_path, flags=("--interval=10s", "--max_dead_letters=3"))
    job.look()
    job.look()
    job.stream.send(sending(at("10:30:01"), 0, id=0), *[Sending(b"{", at("10:30:01"))] * 2)
    job.work(job.look("10:30:12"))
    job.stream.send(*[Sending(b"{", at("10:30:13"))] * 2)
    job.look("10:30:14")
    job.restart()
    job.flight = from_json(Flight, to_json(job.flight))
    job.work(job.look("10:30:22"))
    look = job.look()
    assert isinstance(look.error, DeadLettersError)
    assert "(4 of this run), more than --max_dead_letters=3" in look.flight.stopped
    assert len(entries_of(job.path)) == 3


def test_rows_that_cannot_be_written_are_tried_again_and_said_once(job: Job) -> None:
    """With growing pauses, like a source that is away; with ``--once`` that ends it."""
    failed, notes = job.look("10:30:12"), list[str]()
    for _ in range(3):
        job.fail(failed, "WriteError")
        job.now += timedelta(seconds=30)
        failed = job.look()
        notes += lines_of(failed)
    assert notes == ["cycle 2 is planned again: it broke"]
    job.work(failed)
    check(job.path, job.stream.produced)
    job.coordinator.once = True
    job.stream.send(sending(at("10:32:01"), 0, id=9))
    job.fail(job.look("10:34:12"), "WriteError")
    assert isinstance(job.look().error, WriteError)


def test_a_flight_of_another_version_is_read() -> None:
    """Fields that are new have their defaults, fields that are gone are left out."""
    assert from_json(Flight, b'{"run": "r", "after": 3, "gone": 1}') == Flight("r", after=3)
