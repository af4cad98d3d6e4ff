"""On Prism, a portable engine: continuous, exact whatever is killed. Kafka is the real one."""

from __future__ import annotations

import random
import signal
import statistics
import sys
import time
from typing import TYPE_CHECKING

import psutil
import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.storage.opening import open_storage
from batch_collection.windows import format_instant, utc_now
from pipeline.running.outcome import OTHER_COLLECTOR
from tests.collecting import (
    CollectorProcess,
    Producing,
    Sending,
    Stream,
    check,
    entries_of,
    rows_of,
    run_command,
    sending,
)
from tests.engines import FLAGS, finish, log_of, wait_until
from tests.services.gcs import BUCKET, FakeGcs
from tests.subscribed import Served, collection_of, collector

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import KafkaBroker
    from tests.services.prism import PrismServer
    from transforms.sources.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.integration

# `python -c` with this is a collector that gathers reports so slowly that Prism would split them
_SLOW_TO_GATHER = """
import time
from pipeline.__main__ import entry_point
from transforms import commit_cycle

closed = commit_cycle.closed

def closed_slowly(*given):
    time.sleep(0.5)
    return closed(*given)

commit_cycle.closed = closed_slowly
entry_point()
"""


def on(prism: PrismServer, *flags: str) -> tuple[str, ...]:
    """Return the flags of a collector that submits to a Prism that runs already."""
    return ("--runner=PrismRunner", f"--job_endpoint={prism.endpoint}", *FLAGS, *flags)


@pytest.mark.slow
def test_windows_appear_in_time_early_on_time_and_late(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """While messages come; then a cancelled job's successor, on another runner, has it all."""
    stream = Stream(kafka)
    path = tmp_path / stream.name

    def has_all() -> bool:
        timings = [pane.timing for entry in log_of(path) for pane in entry.panes if pane.rows]
        return timings.count("on_time") >= 4 and {"early", "late"} <= set(timings)

    with (
        Producing(stream, a_second=1000),
        CollectorProcess([stream], tmp_path, *on(prism)) as collector,
    ):
        wait_until(has_all, collector)
        collector.send(signal.SIGINT)
        assert collector.end() == 0, collector.lines
    waits = [
        (entry.committed_at - max(pane.window_end for pane in entry.panes)).total_seconds()
        for entry in entries_of(path)[2:]
        if any(pane.timing == "on_time" and pane.rows for pane in entry.panes)
    ]
    assert statistics.median(waits) < 0.5 + 3
    assert not any("Traceback" in line for line in collector.lines)
    finish(stream, tmp_path, *FLAGS[:3])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("engine", "kills"),
    [("prism", 4), pytest.param("flink", 10, marks=pytest.mark.faults)],
    indirect=["engine"],
)
def test_a_job_killed_again_and_again_collects_everything_once(
    kafka: KafkaBroker, engine: tuple[str, ...], tmp_path: Path, kills: int
) -> None:
    """SIGKILL at random moments, each time a new job; the last one ends by itself."""
    flags = (*engine, *FLAGS)
    stream, rng = Stream(kafka), random.Random(3)
    path = tmp_path / stream.name
    with Producing(stream, a_second=1000):
        for _ in range(kills):
            already = len(log_of(path))
            with CollectorProcess([stream], tmp_path, *flags) as collector:
                wait_until(lambda: len(log_of(path)) > already, collector)  # noqa: B023
                time.sleep(rng.uniform(0, 2.5))  # the moment of death is what is tried
    finish(stream, tmp_path, *flags)
    assert len(stream.produced) > 8_000


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_nothing(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Prism doesn't start another, so the job is over; the next goes on where the log ends."""
    stream = Stream(kafka)
    path = tmp_path / stream.name
    flags = on(prism, "--experiments=use_loopback_process_worker")
    with (
        Producing(stream, a_second=1000),
        CollectorProcess([stream], tmp_path, *flags) as collector,
    ):
        wait_until(lambda: len(log_of(path)) > 2, collector)
        workers = psutil.Process(collector.pid).children(recursive=True)
        assert workers
        for worker in workers:
            worker.kill()
        time.sleep(1)
    finish(stream, tmp_path, *on(prism))


@pytest.mark.slow
def test_of_two_collectors_the_loser_says_who_won(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Its job ends with an exit code of its own and one line, and what is collected stays exact."""
    stream = Stream(kafka)
    with (
        Producing(stream, a_second=500),
        CollectorProcess([stream], tmp_path, *on(prism)) as one,
    ):
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > 2, one)
        for _ in range(10):  # until it is the quicker one
            if run_command([stream], tmp_path, *FLAGS[:3], "--once").returncode == 0:
                break
        assert one.end() == OTHER_COLLECTOR, one.lines
    assert "error: another collector (host=" in one.lines[-1]
    assert not any("Traceback" in line for line in one.lines), one.lines
    finish(stream, tmp_path, *FLAGS[:3])


def test_reports_that_are_slowly_gathered_are_all_there(
    embedded: EmbeddedBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Prism splits no bundle of them, whose halves would forget each other's for five minutes."""
    stream = Stream(embedded)
    stream.send(*(sending(partition=n % 4, id=n) for n in range(200)))
    flags = ("--runner=PrismRunner", f"--job_endpoint={prism.endpoint}", "--once", "--flush")
    wrapper = (sys.executable, "-c", _SLOW_TO_GATHER)
    with CollectorProcess([stream], tmp_path, *flags, wrapper=wrapper) as collector:
        assert collector.end(120) == 0, collector.lines
    check(tmp_path / stream.name, stream.produced)


def test_one_topic_in_trouble_does_not_end_the_job_of_the_others(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Its messages lack the field of the row time: nothing of it is committed, exit code 2."""
    lacks, good = Stream(kafka), Stream(kafka)
    now = format_instant(utc_now())
    lacks.send(*(sending(partition=n % 4, id=n) for n in range(200)))
    good.send(*(sending(partition=n % 4, id=n, ts=now) for n in range(200)))
    flags = on(prism, "--timestamp=field:ts", "--once", "--flush")

    end = run_command([lacks, good], tmp_path, *flags)

    assert end.returncode == 2, end.stderr
    told = f"error: --timestamp=field:ts: none of the 200 messages of topic={lacks.name} has a row"
    assert told in end.stderr.splitlines()[-1]
    assert "Traceback" not in end.stderr
    assert [entry.cause for entry in entries_of(tmp_path / lacks.name)] == ["start"]
    check(tmp_path / good.name, good.produced)


@pytest.mark.slow
def test_a_job_stops_before_it_has_too_many_dead_letters(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Exit code 1; what was committed before is exact, and a higher limit has the rest."""
    stream = Stream(kafka)
    stream.send(*(Sending(b"{", partition=n % 4) for n in range(30)))
    with CollectorProcess([stream], tmp_path, *on(prism, "--max_dead_letters=50")) as collector:
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > 1, collector)
        stream.send(*(Sending(b"{", partition=n % 4) for n in range(30)))
        assert collector.end() == 1, collector.lines
    assert "(60 of this run), more than --max_dead_letters=50" in collector.lines[-1]
    end = run_command([stream], tmp_path, *FLAGS[:3], "--once", "--flush")
    assert end.returncode == 0, end.stderr
    dead = {(message.partition, message.offset) for message in stream.produced}
    check(tmp_path / stream.name, stream.produced, dead=dead)


def test_the_collector_starts_a_prism_and_takes_it_along(
    kafka: KafkaBroker, prism: PrismServer, tmp_path: Path
) -> None:
    """Nothing is left running after SIGINT."""
    stream = Stream(kafka)
    flags = ("--runner=PrismRunner", f"--prism_location={prism.binary}", *FLAGS)
    with CollectorProcess([stream], tmp_path, *flags) as collector:
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > 1, collector)
        children = psutil.Process(collector.pid).children(recursive=True)
        assert [child.name() for child in children] == ["prism"]
        collector.send(signal.SIGINT)
        for child in children:
            child.send_signal(signal.SIGINT)  # as Ctrl-C does on a terminal
        assert collector.end() == 0, collector.lines
    assert not any("Traceback" in line for line in collector.lines), collector.lines
    assert psutil.wait_procs(children, timeout=30)[1] == []


def test_a_job_writes_to_cloud_storage(
    kafka: KafkaBroker, engine: tuple[str, ...], gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What workers of an engine write to; its log begins there, and ends the job."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    output = f"gs://{BUCKET}/engines"
    stream = Stream(kafka)
    stream.send(*(sending(partition=number % 4, id=number) for number in range(2_000)))

    end = run_command([stream], output, *engine, *FLAGS, "--once", "--flush")

    assert end.returncode == 0, end.stderr
    collection = batch_collection.open(f"{output}/{stream.name}")
    assert sorted(collection.table(["id"])["id"].to_pylist()) == list(range(2_000))
    assert audit(open_storage(f"{output}/{stream.name}")).findings == ()


@pytest.mark.slow
@pytest.mark.parametrize("server", ["emulator", pytest.param("pstest", marks=pytest.mark.faults)])
def test_once_collects_what_a_subscription_holds_and_ends(
    server: str, prism: PrismServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Each message is one row, and the log says that all were acknowledged."""
    subscribed = Served(request.getfixturevalue(server))
    subscribed.publish(range(2_000))
    with collector(subscribed, tmp_path, *on(prism), "--once", "--flush") as job:
        assert job.end(240) == 0, job.lines
    path = collection_of(subscribed, tmp_path)
    assert sorted(rows_of(path)["id"].to_pylist()) == list(range(2_000))
    assert audit(open_storage(str(path))).findings == ()
    newest = entries_of(path)[-1]
    assert (newest.cause, newest.carry) == ("acknowledged", ())
    assert newest.ids
    assert all(file.acknowledged for file in newest.ids)
