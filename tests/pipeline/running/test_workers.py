"""Several processes that work tasks off: what comes is as of one, whoever of them dies."""

from __future__ import annotations

import os
import re
import signal
import time
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from batch_collection.errors import CollectionError, DamagedFileError, WriteError
from batch_collection.storage.local import LocalStorage
from pipeline.running import workers as workers_module
from pipeline.running.workers import Workers
from tests import tasks, toy_steps
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Recorder,
    Sending,
    Stream,
    check,
    entries_of,
    is_worker,
    payloads_of,
    rows_of,
    run_command,
    sending,
    strays_of,
)
from tests.damage import damage
from tests.toy_steps import DEADLY, TRAP, Toy
from transforms.process.events import Away
from transforms.process.process import current
from transforms.sources.kafka.reader_name import is_built

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from pipeline.graph import CollectTasks
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=40")
READER = f"--reader={'columnar' if is_built() else 'portable'}"
TWO = "--direct_num_workers=2"
MORTAL = "--input_format=tests.toy_steps:mortal"


@pytest.fixture(scope="module")
def two() -> Iterator[Workers]:
    """Give two workers, which stay for the tests of this file."""
    with closing(Workers(2)) as workers:
        yield workers


@pytest.fixture
def recorder() -> Recorder:
    """Hear what is told in this process."""
    recorder = Recorder()
    current().observers.append(recorder)
    return recorder


def steps_of(act: Callable[[Any], object]) -> CollectTasks:
    """Return toys in place of the graph."""
    return cast("CollectTasks", Toy(act))


def wait_until(holds: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def told_of(notes: Sequence[str]) -> list[tuple[int, int, int]]:
    """Return what ``counts`` has told: process, task, and how many that process had before."""
    pairs = [tuple(map(int, note.split())) for note in notes]
    return cast("list[tuple[int, int, int]]", pairs)


def test_tasks_are_worked_off_by_processes_that_stay(two: Workers, recorder: Recorder) -> None:
    """Each has its share, and keeps what it has, until the source was away."""
    steps, every = steps_of(toy_steps.counts), [tasks.task(number=number) for number in range(4)]

    two.run_steps(every, steps)
    two.run_steps(every, steps)
    first = told_of(recorder.notes)
    two.heed(Away("orders", "no answer", is_of_source=True))
    two.run_steps(every, steps)
    last = told_of(recorder.notes)[len(first) :]

    processes = {process for process, _, _ in first}
    assert len(processes) == 2
    assert os.getpid() not in processes
    assert {process for process, _, _ in last} == processes
    assert sorted(task for _, task, _ in first) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(before for _, _, before in first) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sorted(before for _, _, before in last) == [0, 0, 1, 1]


def test_what_libraries_log_is_said_once(two: Workers, caplog: pytest.LogCaptureFixture) -> None:
    """Workers have much the same to say; it is this process that shows it."""
    two.run_steps([tasks.task(number=number) for number in range(2)], steps_of(toy_steps.warns))

    assert [(each.name, each.message) for each in caplog.records] == [("library", "it is slow")]


def test_an_error_of_a_worker_keeps_its_kind(two: Workers) -> None:
    """What may pass is told from what may not; the text is one line, without Beam's words."""
    every = [tasks.task(number=number) for number in range(2)]

    with pytest.raises(WriteError, match=r"^no space left$"):
        two.run_steps(every, steps_of(toy_steps.fails))


def test_a_fault_of_the_program_is_shown_as_python_shows_it(two: Workers) -> None:
    """With the lines that led there; the workers are ended, since some may be at work."""
    with pytest.raises(RuntimeError, match=r'(?s)toy_steps\.py", line \d+, in breaks.*a bug'):
        two.run_steps([tasks.task()], steps_of(toy_steps.breaks))
    two.run_steps([tasks.task()], steps_of(toy_steps.warns))  # others are there


def test_a_worker_that_ends_by_itself_again_and_again_is_an_error(
    two: Workers, recorder: Recorder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is said in a line; the last one with what to do to see why."""
    monkeypatch.setattr(workers_module, "_MOST_DEATHS", 2)

    with pytest.raises(CollectionError) as raised:
        two.run_steps([tasks.task()], steps_of(toy_steps.leaves))

    ended = r"a worker \(pid=\d+\) ended \(exit code 7\)"
    assert re.fullmatch(
        rf"{ended}, after 1 others at the same part of a cycle; leave --direct_num_workers out to "
        "see why",
        str(raised.value),
    )
    (note,) = recorder.notes
    assert re.fullmatch(f"{ended}; another one does its part of the cycle again", note)


def test_workers_are_told_to_stop(two: Workers) -> None:
    """As soon as this process is to stop, whatever they wait for; then it is they who say so."""
    heard: list[str] = []

    def hear(event: Any) -> None:
        heard.append(event.text)
        current().stop.set()

    current().observers.append(hear)
    with closing(two):
        two.run_steps([tasks.task(number=number) for number in range(2)], steps_of(toy_steps.waits))

    assert sorted(heard) == ["stopped", "stopped", "waiting", "waiting"]


def send_rows(stream: Stream, clock: str = "10:30:00", count: int = 300, **fields: Any) -> None:
    """Send rows of a minute, over all partitions."""
    step = 60 * SECOND / count
    stream.send(*(sending(at(clock) + n * step, n % 4, id=n, **fields) for n in range(count)))


def test_two_workers_make_what_one_process_makes(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """The same rows, dead letters and account, over cycles with rows that wait; a file a shard."""
    streams = Stream(embedded), Stream(embedded)
    for stream in streams:
        send_rows(stream)
        stream.send(Sending(b"{", at("10:30:30"), 1))
    found = []
    for number, flags in enumerate(((), (TWO,))):
        output = tmp_path / str(number)
        collecting = Collecting(streams, output, ("--interval=10s", READER, *flags))
        collecting.run(at("10:30:15"), at("10:31:13"), lambda _: None)
        for stream in streams:
            path = output / stream.name
            dead = [(each.partition, each.offset) for each in stream.produced if each.value == b"{"]
            check(path, stream.produced, dead=dead)
            assert strays_of(path) == []
            entries = entries_of(path)
            assert len(entries) > 2
            assert not entries[-1].carry
            found.append((payloads_of(rows_of(path)), entries[-1].ends, entries[-1].boundary))
            windows = {p.window_start: len(p.files) for e in entries for p in e.panes}
            assert [*windows.values()] == [2 if flags else 1] * 6

    assert found[:2] == found[2:]


def test_a_worker_that_is_killed_in_a_cycle_is_one_line_and_nothing_else(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its tasks are worked off again by another: rows are there once, and no stray is left."""
    stream, trap = Stream(embedded), tmp_path / "trap"
    send_rows(stream)
    trap.touch()
    monkeypatch.setenv(TRAP, str(trap))
    collecting = Collecting.of(stream, tmp_path, *FLAGS, TWO, MORTAL)

    (entry,) = collecting.once(at("10:31:12"))

    assert not trap.exists()
    (line,) = collecting.recorder.notes
    assert re.fullmatch(
        r"a worker \(pid=\d+\) was killed \(SIGKILL, as the system does where memory is short\); "
        r"another one does its part of the cycle again",
        line,
    )
    assert sum(read.messages for read in entry.reads) == 300
    check(collecting.path, stream.produced)
    assert strays_of(collecting.path) == []


def test_tasks_that_kill_each_worker_stop_their_topic_alone(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are not tried for ever; the error says what to do, and other topics are collected."""
    monkeypatch.setattr(workers_module, "_MOST_DEATHS", 1)
    bad, good = Stream(embedded), Stream(embedded)
    bad.send(sending(at("10:30:00"), id=0, **{DEADLY: True}))
    send_rows(good)
    collecting = Collecting((bad, good), tmp_path, (*FLAGS, TWO, MORTAL))

    with pytest.raises(CollectionError, match=r"^a worker .* lower --max_messages_per_cycle or "):
        collecting.once(at("10:31:12"))

    check(tmp_path / good.name, good.produced)
    assert [entry.cycle for entry in entries_of(tmp_path / bad.name)] == [0]


def test_damaged_rows_of_one_topic_keep_no_other_from_being_collected(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """The error of a worker ends its topic, and keeps its kind."""
    streams = Stream(embedded), Stream(embedded)
    collecting = Collecting(streams, tmp_path, (*FLAGS, TWO))
    for stream in streams:
        stream.send(*(sending(at("10:30:03"), n % 4, id=n) for n in range(8)))
    collecting.once(at("10:30:05"))
    broken, good = (tmp_path / stream.name for stream in streams)
    damage(LocalStorage(str(broken)), entries_of(broken)[-1].carry[0].path, "half")

    with pytest.raises(DamagedFileError):
        collecting.once(at("10:30:22"))

    check(good, streams[1].produced)
    assert entries_of(good)[-1].boundary == at("10:30:20")
    assert entries_of(broken)[-1].boundary == at("10:30:00")


def messages_of(collection: Path) -> int:
    """Count the messages that the log has by now."""
    return sum(read.messages for entry in entries_of(collection) for read in entry.reads)


SECRET = "not-for-others"  # noqa: S105 - of this test


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked at in /proc")
def test_workers_end_with_the_collector_and_show_no_secret(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """SIGKILL of the collector ends them; what they are given stands in no command, nor variable.

    Signals that are meant for all, as Ctrl-C or a shutdown sends them, are the collector's alone.
    """
    stream = Stream(embedded)
    send_rows(stream)
    properties = tmp_path / "properties"
    properties.write_text(f"sasl.password={SECRET}\n")
    properties.chmod(0o600)
    output, path = tmp_path / "out", tmp_path / "out" / stream.name
    flags = (*FLAGS, TWO, f"--consumer_config={properties}")
    with CollectorProcess([stream], output, *flags) as collector:
        collector.wait_for("  cycle 1 ")
        workers = collector.workers()
        shown = [
            Path(f"/proc/{pid}/{name}").read_bytes()
            for pid in workers
            for name in ("cmdline", "environ")
        ]
        for pid in workers:
            os.kill(pid, signal.SIGINT)
            os.kill(pid, signal.SIGTERM)
        send_rows(stream, "10:31:00")
        wait_until(lambda: messages_of(path) == 600)
        assert collector.workers() == workers
        collector.send(signal.SIGKILL)
        wait_until(lambda: not any(map(is_worker, workers)))
        collector.end()
    assert [SECRET.encode() in each for each in shown] == [False] * 4
    assert "Traceback" not in "".join(collector.lines)
    assert run_command([stream], output, *FLAGS, "--once").returncode == 0
    check(path, stream.produced)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are looked at in /proc")
def test_ctrl_c_shows_no_traceback_whenever_it_comes(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """While workers import Beam, and while they wait: all processes of a terminal get it."""
    stream = Stream(embedded)
    send_rows(stream)
    for is_early in (True, False):
        with CollectorProcess([stream], tmp_path / str(is_early), *FLAGS, TWO) as collector:
            if not is_early:
                collector.wait_for("  cycle 1 ")
            wait_until(lambda: len(collector.workers()) == 2)
            workers = collector.workers()
            for pid in (*workers, collector.pid):
                os.kill(pid, signal.SIGINT)
            code = collector.end()
            wait_until(lambda: not any(map(is_worker, workers)))  # noqa: B023 - at once
        assert "Traceback" not in "".join(collector.lines), collector.lines
        assert code in {0, 130, -signal.SIGINT}
    assert code == 0
    assert any(line.endswith("stopped; the next run goes on from here") for line in collector.lines)
    check(tmp_path / "False" / stream.name, stream.produced)
