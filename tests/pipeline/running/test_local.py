"""The local drive where the source of one topic of several is away."""

from __future__ import annotations

import io
import re
import signal
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import apache_beam as beam
import pyarrow as pa
import pytest

from batch_collection.errors import (
    CollectionError,
    DamagedFileError,
    FileGoneError,
    LogError,
    OtherCollectorError,
    SourceError,
    StorageError,
    WriteError,
)
from batch_collection.formats.known import FORMATS
from batch_collection.formats.parquet import Parquet
from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from pipeline.planning.planner import Asked
from pipeline.planning.topic import TopicCollection
from pipeline.running.local import _Pause, run_steps
from pipeline.running.signals import stopped_by_signals
from tests import tasks
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Stream,
    check,
    entries_of,
    sending,
    strays_of,
)
from tests.damage import DAMAGES, damage
from tests.services.mock_cluster import MockCluster
from transforms.process.process import current, new_process

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from pathlib import Path

    from pipeline.graph import CollectTasks
    from pipeline.planning.planner import Planned
    from transforms.elements.plan import Task
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)


def test_a_topic_whose_source_is_away_keeps_no_other_from_being_collected(tmp_path: Path) -> None:
    """Said once and again when it is back; its windows are as if it had never been away."""
    with MockCluster(brokers=2) as broker:
        orphan, other = Stream(broker, partitions=2), Stream(broker, partitions=2)
        collecting = Collecting((orphan, other), tmp_path, ("--interval=10s",))
        before: list[int] = []

        def arrive(now: datetime) -> None:
            if now == at("10:30:14"):
                broker.lead(orphan.name, 1, -1)
            if now == at("10:30:25"):
                before.extend(len(entries_of(tmp_path / each.name)) for each in (orphan, other))
                broker.lead(orphan.name, 1, 2)

        for stream in (orphan, other):
            stream.send(*(sending(at("10:30:01") + n * SECOND, n % 2, id=n) for n in range(30)))
        collecting.run(at("10:30:12"), at("10:31:03"), arrive)

        told = [note.partition(";")[0] for note in collecting.recorder.notes]
        assert told[0].startswith(f"topic={orphan.name} has no leader for partition=1: ")
        assert told[1:] == [f"the source is back: topic={orphan.name}"]
        assert before[0] < before[1]
        for stream in (orphan, other):
            check(tmp_path / stream.name, stream.produced)
            assert entries_of(tmp_path / stream.name)[-1].boundary == at("10:31:00")


def test_a_signal_between_its_handler_and_the_loop_is_not_forgotten(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Nothing is collected then; the next run in this process is not stopped."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path)
    stream.send(sending(at("10:30:01"), id=0))
    with collecting.drive(at("10:30:12"), "--once") as drive:
        with stopped_by_signals(current().stop.set):
            signal.raise_signal(signal.SIGTERM)
            drive.run()
        assert current().stop.is_set()

    assert [entry.cycle for entry in entries_of(collecting.path)] == [0]
    collecting.once(at("10:30:12"))
    check(collecting.path, stream.produced)


def test_with_once_too_a_topic_without_leader_keeps_no_other_waiting(tmp_path: Path) -> None:
    """What it is to collect is what was there when its source was first seen."""
    with MockCluster(brokers=2) as broker:
        orphan, other = Stream(broker, partitions=2), Stream(broker, partitions=2)
        Collecting((orphan, other), tmp_path, ()).once(at("10:30:12"))
        for stream in (orphan, other):
            stream.send(*(sending(at("10:30:01"), n % 2, id=n) for n in range(30)))
        broker.lead(orphan.name, 1, -1)
        with CollectorProcess((orphan, other), tmp_path, "--once") as collector:
            collector.wait_for(f"topic={orphan.name} has no leader for partition=1")
            collector.wait_for(f"{other.name}  cycle 2 ")
            broker.lead(orphan.name, 1, 2)
            assert collector.end() == 0, collector.lines
        for stream in (orphan, other):
            check(tmp_path / stream.name, stream.produced)


class Picky(Parquet):
    """Parquet that does not take a column ``bad``, as long as that is so: but for a first try."""

    def __init__(self) -> None:
        """Take none."""
        self.error: Exception | None = pa.ArrowNotImplementedError("no such type\nin Parquet")

    def writer(self, sink: Any, schema: pa.Schema, compression: str) -> Any:
        """Refuse, or write."""
        if self.error is not None and "bad" in schema.names and not isinstance(sink, io.BytesIO):
            raise self.error
        return super().writer(sink, schema, compression)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Picky:
    """Put it in the place of Parquet."""
    picky = Picky()
    monkeypatch.setitem(FORMATS, "parquet", picky)
    return picky


def two_topics(broker: EmbeddedBroker, output: Path) -> Collecting:
    """Give two topics with rows of one window, of the first with a bad column."""
    streams = Stream(broker), Stream(broker)
    streams[0].send(*(sending(at("10:30:00"), n % 4, id=n, bad=1) for n in range(8)))
    streams[1].send(*(sending(at("10:30:00"), n % 4, id=n) for n in range(8)))
    return Collecting(streams, output, ("--interval=10s",))


def test_rows_that_cannot_be_written_stop_their_topic_alone(
    embedded: EmbeddedBroker, tmp_path: Path, picky: Picky
) -> None:
    """With ``--once`` others are collected, then it ends with one line that names the column."""
    collecting = two_topics(embedded, tmp_path)
    bad, good = collecting.streams

    told = re.escape(
        f"cannot write column bad in a parquet file of window 2026-11-22T10:30:00Z of {tmp_path}/"
        f"{bad.name}, cycle=1: no such type in Parquet"
    )
    with pytest.raises(WriteError, match=f"^{told}$"):
        collecting.once(at("10:30:12"))

    check(tmp_path / good.name, good.produced)
    assert [entry.cycle for entry in entries_of(tmp_path / bad.name)] == [0]
    picky.error = None
    collecting.once(at("10:30:22"))
    for stream in collecting.streams:
        check(tmp_path / stream.name, stream.produced)


def test_rows_that_cannot_be_written_are_tried_again_with_growing_pauses(
    embedded: EmbeddedBroker, tmp_path: Path, picky: Picky
) -> None:
    """As those of a source that is away: said once, and again when it works."""
    collecting = two_topics(embedded, tmp_path)
    bad, good = collecting.streams
    cycles: list[int] = []

    def arrive(now: datetime) -> None:
        if picky.error is not None and now >= at("10:30:40"):
            cycles.extend(len(entries_of(tmp_path / each.name)) for each in (bad, good))
            picky.error = None

    collecting.run(at("10:30:12"), at("10:31:33"), arrive)

    notes = collecting.recorder.notes
    assert notes[0].endswith("no such type in Parquet; trying again until it works")
    assert notes[1:] == [f"it works again: topic={bad.name}"]
    assert cycles == [1, 4]
    for stream in (bad, good):
        check(tmp_path / stream.name, stream.produced)
        assert entries_of(tmp_path / stream.name)[-1].boundary == at("10:31:30")


def test_what_a_user_must_mend_stops_its_topic_alone(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """A rival takes one topic over; the other is collected on, and the end is the rival's."""
    collecting = two_topics(embedded, tmp_path)
    lost, kept = collecting.streams
    rival = Collecting.of(lost, tmp_path, "--interval=10s")

    def arrive(now: datetime) -> None:
        if now == at("10:30:24"):
            rival.once(at("10:30:42"))

    with pytest.raises(OtherCollectorError, match="run one collector a collection"):
        collecting.run(at("10:30:12"), at("10:31:03"), arrive)

    (note,) = collecting.recorder.notes
    assert note.startswith("error: another collector (host=")
    assert note.endswith("; the others go on")
    assert entries_of(tmp_path / lost.name)[-1].boundary == at("10:30:40")
    assert entries_of(tmp_path / kept.name)[-1].boundary == at("10:31:00")
    for stream in (lost, kept):
        check(tmp_path / stream.name, stream.produced)


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("due", ["10:30:18", "10:30:22"])
def test_damaged_rows_that_wait_stop_their_topic_alone(
    embedded: EmbeddedBroker, tmp_path: Path, kind: str, due: str
) -> None:
    """Merged with others or due; in one line, and it goes on once the file is put back."""
    collecting = two_topics(embedded, tmp_path)
    broken, good = collecting.streams
    storage = LocalStorage(str(tmp_path / broken.name))
    for stream in collecting.streams:
        stream.send(*(sending(at("10:30:13"), n % 4, id=n) for n in range(3)))
    collecting.once(at("10:30:15"))
    (file,) = entries_of(tmp_path / broken.name)[-1].carry
    whole = storage.read(file.path)
    for stream in collecting.streams:
        stream.send(*(sending(at("10:30:16"), n % 4, id=n) for n in range(3)))
    damage(storage, file.path, kind)

    with pytest.raises((DamagedFileError, FileGoneError)) as raised:
        collecting.once(at(due))

    said = str(raised.value)
    assert said.startswith(f"{tmp_path}/{broken.name}/{file.path} ")
    assert "\n" not in said
    assert collecting.recorder.notes == [f"error: {said}; the others go on"]
    check(tmp_path / good.name, good.produced)
    storage.replace(file.path, whole)
    collecting.once(at(due))
    for stream in collecting.streams:
        check(tmp_path / stream.name, stream.produced)


def test_what_breaks_a_common_run_off_is_laid_to_its_topic(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """The commit of one topic finds its log damaged; the other topic's cycle is in its log."""
    collecting = two_topics(embedded, tmp_path)
    broken, good = collecting.streams
    collecting.once(at("10:30:12"))
    for stream in collecting.streams:
        stream.send(*(sending(at("10:30:15"), n % 4, id=n) for n in range(8)))

    def damage(now: datetime) -> None:
        if now == at("10:30:14"):
            (tmp_path / broken.name / entry_path(1)).write_bytes(b"{")

    with pytest.raises(LogError, match="not a log entry"):
        collecting.run(at("10:30:12"), at("10:31:03"), damage)

    check(tmp_path / good.name, good.produced)
    assert strays_of(tmp_path / good.name) == []
    assert entries_of(tmp_path / good.name)[-1].boundary == at("10:31:00")


def test_what_was_committed_when_a_common_run_broke_off_is_not_run_again(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Both topics are in their logs; what broke the run off comes behind that."""
    collecting, runs = two_topics(embedded, tmp_path), [0]
    for stream in collecting.streams:
        stream.send(*(sending(at("10:30:11"), n % 4, id=n) for n in range(8)))

    def breaking(tasks: Sequence[Task], steps: CollectTasks) -> None:
        runs[0] += 1
        run_steps(tasks, steps)
        message = "it broke off"
        raise StorageError(message)

    with collecting.drive(at("10:30:22"), "--once") as drive:
        drive.run_steps = breaking
        drive.run()

    assert runs == [1]
    assert collecting.recorder.notes == []
    for stream in collecting.streams:
        check(tmp_path / stream.name, stream.produced)


def test_logs_hear_side_by_side_at_a_runs_end_what_was_acknowledged(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each waits for its source; that one's is away keeps no other from its last cycle."""
    streams = tuple(Stream(embedded) for _ in range(3))
    for stream in streams:
        stream.send(*(sending(at("10:30:11"), n % 4, id=n) for n in range(8)))
    together = threading.Barrier(len(streams), timeout=60)

    def planned_last(topic: TopicCollection) -> Planned | None:
        together.wait()
        if topic.name == streams[0].name:
            message = "the source is away"
            raise SourceError(message)
        return topic.plan(Asked(flush=True, force=True))

    monkeypatch.setattr(TopicCollection, "plan_last", planned_last)
    Collecting(streams, tmp_path, ("--interval=10s",)).once(at("10:30:12"))
    causes = [[entry.cause for entry in entries_of(tmp_path / each.name)] for each in streams]
    assert [each.count("flush") for each in causes] == [0, 1, 1]


def test_a_clock_that_is_set_back_ends_a_pause() -> None:
    """It would else last as long as the clock was set back."""
    pause = _Pause(at("10:30:00"), tries=1, is_of_source=True)
    held = [clock for clock in range(-3, 4) if pause.holds(at("10:30:00") + clock * SECOND)]
    assert held == [0, 1]


class _Steps(beam.PTransform):
    """Notes the tasks that come, and how often it is put together."""

    expanded = 0
    seen: ClassVar[list[int]] = []

    def expand(self, tasks: Any) -> Any:
        """Count, and note."""
        _Steps.expanded += 1
        return tasks | beam.Map(_noted)


def _noted(task: Task) -> None:
    _Steps.seen.append(task.number)


def test_the_graph_is_put_together_once_and_run_with_other_tasks_each_time() -> None:
    """Beam takes longer for that than for a small cycle; another run has a graph of its own."""
    steps = _Steps()
    with new_process():
        for numbers in ((1, 2), (3,), (4, 5)):
            run_steps([tasks.task(number=number) for number in numbers], steps)
    assert (_Steps.expanded, _Steps.seen) == (1, [1, 2, 3, 4, 5])
    with new_process():
        run_steps([tasks.task(number=6)], steps)
    assert (_Steps.expanded, _Steps.seen[5:]) == (2, [6])


def test_what_a_step_raises_is_one_line_each_time() -> None:
    """Whether the graph is new or not."""
    steps = beam.Map(_failed)
    with new_process():
        for _ in range(2):
            with pytest.raises(CollectionError, match=r"^the disk is full$"):
                run_steps([tasks.task()], steps)


def _failed(_: Task) -> None:
    message = "the disk is full"
    raise CollectionError(message)
