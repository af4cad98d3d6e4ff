"""A collector whose log lost an entry, or forks: it stops before it collects anything twice."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import LogError
from batch_collection.log.entries import create_entry, digest, read_entry
from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from tests.builders import at
from tests.collecting import Collecting, Stream, check, entries_of, sending
from tests.jobs import Job

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

    Damage = Callable[[LocalStorage], str]
    """Damages a log whose newest entry is the second, and returns what is to be said of it."""


def begun(embedded: EmbeddedBroker, output: Path) -> Collecting:
    """Collect once, so that entries 0 and 1 are there, and let more wait."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, output, "--interval=10s")
    collecting.once(at("10:30:02"))
    stream.send(*(sending(at("10:30:01"), n % 4, id=n) for n in range(8)))
    collecting.once(at("10:30:12"))
    stream.send(*(sending(at("10:30:15"), n % 4, id=n) for n in range(8)))
    assert [entry.cycle for entry in entries_of(collecting.path)][-1] == 2
    return collecting


def removed(storage: LocalStorage) -> str:
    """Remove the newest entry."""
    storage.delete([entry_path(2)])
    return f"{entry_path(2)} is missing in {storage.uri}: somebody has removed it since"


def replaced(storage: LocalStorage) -> str:
    """Put another collector's in its place."""
    newest = read_entry(storage, 2)
    storage.replace(entry_path(2), replace(newest, run="theirs", plan="theirs").to_json())
    return f"{entry_path(3)} of {storage.uri} does not follow the entry before it"


def forked(storage: LocalStorage) -> str:
    """Let another collector go on from another entry than this one."""
    told = replaced(storage)
    newest = read_entry(storage, 2)
    content = storage.read(entry_path(2))
    create_entry(storage, replace(newest, cycle=3, previous=digest(content), run="theirs"))
    return told


@pytest.mark.parametrize("damage", [removed, replaced, forked])
def test_a_running_collector_does_not_go_on_from_another_log(
    embedded: EmbeddedBroker, tmp_path: Path, damage: Damage
) -> None:
    """It holds the newest entry in memory: what is on disk must be that, and follow it."""
    collecting, told = begun(embedded, tmp_path), list[str]()

    def act(now: datetime) -> None:
        if now == at("10:30:16"):
            told.append(damage(LocalStorage(str(collecting.path))))

    with pytest.raises(LogError) as raised:
        collecting.run(at("10:30:14"), at("10:31:03"), act)
    assert str(raised.value).startswith(told[0])
    assert not any("another collector" in note for note in collecting.recorder.notes)


@pytest.mark.parametrize("damage", [removed, replaced, forked])
def test_an_engine_plans_no_more_behind_another_log(
    embedded: EmbeddedBroker, tmp_path: Path, damage: Damage
) -> None:
    """The plan in flight comes to no entry, and the job says why."""
    job = Job(Stream(embedded), tmp_path)
    job.look()
    job.look()
    job.stream.send(*(sending(at("10:30:01"), n, id=n) for n in range(4)))
    job.work(job.look("10:30:12"))
    job.stream.send(*(sending(at("10:30:15"), n, id=n) for n in range(4)))
    flying = job.look("10:30:22")
    assert flying.tasks[0].plan.cycle == 3
    told = damage(LocalStorage(str(job.path)))
    job.work(flying)
    assert job.look("10:30:23").flight.stopped.startswith(told)


@pytest.mark.parametrize("cycle", [0, 1])
def test_a_start_refuses_a_hole_and_goes_on_once_it_is_mended(
    embedded: EmbeddedBroker, tmp_path: Path, cycle: int
) -> None:
    """Nothing is read and nothing written; with the entry put back nothing is lost."""
    collecting = begun(embedded, tmp_path)
    storage = LocalStorage(str(collecting.path))
    content = storage.read(entry_path(cycle))
    storage.delete([entry_path(cycle)])
    before = {path: storage.read(path) for path in storage.list("")}
    told = f"{entry_path(cycle)} is missing in {storage.uri}, though {entry_path(cycle + 1)}"
    with pytest.raises(LogError, match=re.escape(told)):
        collecting.once(at("10:30:22"), "--flush")
    assert {path: storage.read(path) for path in storage.list("")} == before
    storage.create(entry_path(cycle), content)
    collecting.once(at("10:30:22"), "--flush")
    check(collecting.path, collecting.streams[0].produced)
