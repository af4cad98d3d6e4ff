"""On Flink, the real one: a job goes on, ends, is cancelled, and says so in a line."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from pipeline.running.outcome import OTHER_COLLECTOR
from tests.collecting import CollectorProcess, Producing, Stream, check, run_command, sending
from tests.engines import FLAGS, finish, log_of, wait_until
from tests.services.flink import FlinkServer

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.integration


def on(flink: FlinkServer, *flags: str) -> tuple[str, ...]:
    """Return the flags of a collector that submits to it, and whose workers are its own."""
    return (*flink.flags, *FLAGS, *flags)


def is_quiet(lines: list[str]) -> bool:
    """Tell whether lines are what users can read: a line each, no traceback."""
    return not any("Traceback" in line or "grpc" in line.lower() for line in lines)


@pytest.mark.slow
@pytest.mark.parametrize("flags", [(), ("--checkpointing_interval=1000",)])
def test_a_job_with_an_end_ends(
    embedded: EmbeddedBroker, flink: FlinkServer, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """By itself; and with checkpoints, which keep Flink's sources open, by who waits for it."""
    stream = Stream(embedded)
    stream.send(*(sending(partition=n % 4, id=n) for n in range(2_000)))
    end = run_command([stream], tmp_path, *on(flink, *flags), "--once", "--flush")
    assert end.returncode == 0, end.stderr
    assert is_quiet(end.stderr.splitlines()), end.stderr
    assert flink.states()[-1] == ("CANCELLED" if flags else "DONE")
    check(tmp_path / stream.name, stream.produced)


@pytest.mark.slow
def test_ctrl_c_ends_the_job_on_the_engine_too(
    embedded: EmbeddedBroker, flink: FlinkServer, tmp_path: Path
) -> None:
    """What is said is the engine's own word; the next run, on another runner, has all."""
    stream = Stream(embedded)
    with (
        Producing(stream, a_second=500),
        CollectorProcess([stream], tmp_path, *on(flink)) as collector,
    ):
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > 3, collector)
        collector.send(signal.SIGINT)
        assert collector.end() == 0, collector.lines
    assert collector.lines[-1] == "stopped; the next run goes on from here"
    assert is_quiet(collector.lines), collector.lines
    assert flink.states()[-1] == "CANCELLED"
    finish(stream, tmp_path, *FLAGS[:3])


@pytest.mark.faults
def test_a_job_whose_collection_another_run_takes_over_ends(
    embedded: EmbeddedBroker, flink: FlinkServer, tmp_path: Path
) -> None:
    """Its slots are free again, and the loser says who won."""
    stream = Stream(embedded)
    with (
        Producing(stream, a_second=500),
        CollectorProcess([stream], tmp_path, *on(flink)) as collector,
    ):
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > 2, collector)
        for _ in range(20):  # until it is the quicker one
            run_command([stream], tmp_path, *FLAGS[:3], "--once")
            if collector.poll() is not None or flink.states()[-1] != "RUNNING":
                break
        assert collector.end() == OTHER_COLLECTOR, collector.lines
    assert "error: another collector (host=" in collector.lines[-1]
    assert flink.states()[-1] == "DONE"
    finish(stream, tmp_path, *FLAGS[:3])


@pytest.mark.faults
def test_of_two_jobs_on_one_engine_one_ends_and_says_who_won(
    embedded: EmbeddedBroker, flink: FlinkServer, tmp_path: Path
) -> None:
    """The other goes on, and what both have collected is there once."""
    stream = Stream(embedded)
    with (
        Producing(stream, a_second=500),
        CollectorProcess([stream], tmp_path, *on(flink)) as one,
        CollectorProcess([stream], tmp_path, *on(flink)) as two,
    ):
        wait_until(lambda: {one.poll(), two.poll()} != {None}, one)
        loser, winner = (one, two) if two.poll() is None else (two, one)
        assert loser.end() == OTHER_COLLECTOR, loser.lines
        assert "error: another collector (host=" in loser.lines[-1]
        already = len(log_of(tmp_path / stream.name))
        wait_until(lambda: len(log_of(tmp_path / stream.name)) > already + 1, winner)
        winner.send(signal.SIGINT)
        assert winner.end() == 0, winner.lines
    assert sorted(flink.states()[-2:]) == ["CANCELLED", "DONE"]
    finish(stream, tmp_path, *FLAGS[:3])


@pytest.mark.faults
def test_an_engine_that_dies_is_said_in_a_line(
    embedded: EmbeddedBroker, flink_home: Path, tmp_path: Path
) -> None:
    """No traceback of any thread that has lost it; nothing is lost."""
    stream = Stream(embedded)
    (tmp_path / "flink").mkdir()
    server = FlinkServer(flink_home, tmp_path / "flink")
    try:
        with (
            Producing(stream, a_second=500),
            CollectorProcess([stream], tmp_path, *on(server)) as collector,
        ):
            wait_until(lambda: len(log_of(tmp_path / stream.name)) > 2, collector)
            server.kill()
            assert collector.end() == 1, collector.lines
    finally:
        server.kill()
    assert collector.lines[-1].startswith("error: the engine went away"), collector.lines
    assert is_quiet(collector.lines), collector.lines
    finish(stream, tmp_path, *FLAGS[:3])
