"""Commands that commit while a collector runs: it goes on behind them, and stops before a rival."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.errors import OtherCollectorError
from batch_collection.publishing.append import append, successor
from batch_collection.storage.local import LocalStorage
from pipeline.planning.schema_change import dropping
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, check, entries_of, sending, strays_of
from tests.interposed import interposed
from tests.jobs import Job, lines_of
from tests.storages import ActingStorage, some_points

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from transforms.sources.kafka.embedded import EmbeddedBroker

FLAGS = ("--interval=10s", "--batch_size=5")
TENTH = timedelta(seconds=0.1)


def pin(collection: Path, **types: str) -> Entry:
    """Commit the entry of a command."""

    def pinned(newest: Entry, digest: str) -> Entry:
        return replace(successor(newest, digest, "pin"), schema={**newest.schema, **types})

    entry = append(LocalStorage(str(collection)), pinned)
    assert entry is not None
    return entry


def drop(collection: Path) -> Entry:
    """Commit the entry of a command that leaves a column out."""
    entry = append(LocalStorage(str(collection)), dropping(["id"]))
    assert entry is not None
    return entry


def rows(clock: str, count: int) -> list[Sending]:
    """Make rows of one window."""
    return [sending(at(clock) + n * TENTH, n % 4, id=f"{clock}+{n}") for n in range(count)]


@pytest.mark.slow
@some_points(5)
def test_wherever_in_a_cycle_a_command_commits_the_collector_goes_on(
    embedded: EmbeddedBroker, tmp_path: Path, every: int
) -> None:
    """Carry, dead letters and all three kinds of panes: nothing lost, doubled or left behind."""
    stream, before, flags = Stream(embedded), tmp_path / "before", (*FLAGS, "--shards=2")
    stream.send(*rows("10:30:00", 4), *rows("10:30:10", 3))
    Collecting.of(stream, before, *flags).once(at("10:30:14"))
    bad = stream.send(Sending(b"{", at("10:30:12"), 2))
    stream.send(*rows("10:30:01", 1), *rows("10:30:11", 6), *rows("10:30:20", 7))
    dead = [(message.partition, message.offset) for message in bad]
    k, acted, cycles = 0, True, set()
    while acted:
        output = tmp_path / f"copy-{k}"
        shutil.copytree(before, output)
        collecting = Collecting.of(stream, output, *flags)
        pinning = ActingStorage(LocalStorage(str(collecting.path)), lambda: pin(collecting.path), k)  # noqa: B023

        with interposed(pinning):
            collecting.once(at("10:30:22"))

        acted = pinning.has_acted
        entries = entries_of(collecting.path)
        cycles.add([entry.cause for entry in entries][2:].index("pin") if acted else -1)
        told = [note for note in collecting.recorder.notes if "goes on after it" in note]
        assert len(told) <= acted, k
        named = {file.path for file in entries[-1].carry}
        assert set(strays_of(collecting.path)) <= named, k  # before a start would sweep
        collecting.once(at("10:30:32"))
        assert strays_of(collecting.path) == [], k
        check(collecting.path, stream.produced, dead=dead)
        k += every
    assert k > 40
    assert cycles == {-1, 0, 1}  # before the cycle's own entry, behind it, not at all


def test_a_type_that_is_pinned_meanwhile_holds_from_the_next_cycle_on(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """For a collector that runs, also against its own flags."""
    stream, schema = Stream(embedded), tmp_path / "schema.json"
    schema.write_text('{"value": "int64", "more": "string"}')
    collecting = Collecting.of(stream, tmp_path, *FLAGS, f"--schema={schema}")
    stream.send(sending(at("10:30:00"), value=1))
    script = iter([at("10:30:03"), at("10:30:15")])
    due = next(script)

    def arrive(now: object) -> None:
        nonlocal due
        if now >= due:  # type: ignore[operator]
            due = next(script, at("11:00:00"))
            pin(collecting.path, value="double")
            stream.send(sending(now, value=0.5))  # type: ignore[arg-type]

    collecting.run(at("10:30:01"), at("10:30:40"), arrive)

    check(collecting.path, stream.produced)
    entries = entries_of(collecting.path)
    assert entries[-1].schema == {"value": "double", "more": "string"}
    assert [entry.cause for entry in entries].count("pin") == 2
    assert entries[0].pinned == ("value", "more")
    assert all(entry.pinned == () for entry in entries[1:])


def test_columns_of_a_schema_file_are_pinned_though_a_command_was_faster(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """A collector that starts with new ones gives them to its first cycle, whichever that is."""
    stream, schema = Stream(embedded), tmp_path / "schema.json"
    schema.write_text('{"more": "string"}')
    stream.send(sending(at("10:30:00"), value=1))
    Collecting.of(stream, tmp_path, *FLAGS).once(at("10:30:02"))
    stream.send(sending(at("10:30:01"), value=2))
    collecting = Collecting.of(stream, tmp_path, *FLAGS, f"--schema={schema}")
    pinning = ActingStorage(LocalStorage(str(collecting.path)), lambda: pin(collecting.path), 12)

    with interposed(pinning):
        collecting.once(at("10:30:12"))

    entries = entries_of(collecting.path)
    assert [(entry.cause, entry.pinned) for entry in entries[2:]] == [
        ("pin", ()),
        ("interval", ("more",)),
    ]
    assert entries[-1].schema == {"more": "string", "value": "int64"}
    check(collecting.path, stream.produced)


def test_a_rival_is_seen_behind_a_command(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Another collector's entry stops this one, though a command's is the newest."""
    stream = Stream(embedded)
    collecting, rival = (Collecting.of(stream, tmp_path, *FLAGS) for _ in range(2))
    stream.send(*rows("10:30:00", 4))
    collecting.once(at("10:30:12"))

    def act() -> None:
        rival.once(at("10:30:22"))
        pin(collecting.path)

    with (
        interposed(ActingStorage(LocalStorage(str(collecting.path)), act, 10)),
        pytest.raises(OtherCollectorError, match="run one collector a collection"),
    ):
        collecting.once(at("10:30:22"))

    check(collecting.path, stream.produced)
    assert entries_of(collecting.path)[-1].cause == "pin"


# on an engine


@pytest.fixture
def job(embedded: EmbeddedBroker, tmp_path: Path) -> Job:
    """Give a job that stands at 10:30:02, and four rows of the window from 10:30:00."""
    job = Job(Stream(embedded), tmp_path)
    job.look()
    job.look()
    job.stream.send(*rows("10:30:01", 4))
    return job


def test_an_engine_plans_again_behind_a_command(job: Job) -> None:
    """What it had in flight comes to nothing, then the same messages are collected once."""
    flying = job.look("10:30:12")
    pin(job.path)
    job.work(flying)

    again = job.look()

    assert "pin by host=" in lines_of(again)[0]
    assert [task.plan.cycle for task in again.tasks] == [flying.tasks[0].plan.cycle + 1]
    job.work(again)
    assert not job.look("10:30:22").flight.stopped
    check(job.path, job.stream.produced)
    assert strays_of(job.path) == []


def test_a_column_that_is_dropped_while_a_cycle_is_in_flight_is_not_in_it(job: Job) -> None:
    """The same messages are planned again, and make rows without it."""
    job.work(job.look("10:30:12"))
    job.stream.send(*rows("10:30:11", 4))
    flying = job.look("10:30:22")
    drop(job.path)
    job.work(flying)

    again = job.look()

    assert "drop by host=" in lines_of(again)[0]
    job.work(again)
    table = batch_collection.open(job.path).table()
    assert (table.num_rows, table.column("id").null_count) == (8, 4)
    newest = entries_of(job.path)[-1]
    assert (newest.schema, newest.dropped) == ({}, {"id": "string"})
    assert strays_of(job.path) == []


def test_an_engine_takes_up_a_command_behind_its_own_cycle(job: Job) -> None:
    """Both since the last look: the cycle is shown, and the command."""
    job.work(job.look("10:30:12"))
    pin(job.path)

    look = job.look("10:30:13")

    assert ["cycle 2" in lines_of(look)[0], "pin by host=" in lines_of(look)[1]] == [True, True]
    assert not look.flight.stopped
    check(job.path, job.stream.produced)


def test_an_engine_sees_a_rival_behind_a_command(job: Job) -> None:
    """A worker that is new sees both in the log, and stops."""
    job.look("10:30:12")
    other = Job(job.stream, job.output, run="other", now=job.now)
    other.work(other.look())
    pin(job.path)
    job.restart()

    assert "another collector (host=" in job.look().flight.stopped
