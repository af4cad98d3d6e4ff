"""SIGKILL and SIGSTOP at random moments, while messages keep coming."""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from pipeline.running.outcome import OTHER_COLLECTOR
from tests.collecting import (
    CollectorProcess,
    Producing,
    Stream,
    check,
    entries_of,
    run_command,
    strays_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.services.kafka import KafkaBroker

pytestmark = pytest.mark.slow

FLAGS = ("--interval=1s", "--grace=500ms", "--batch_size=60", "--group_id=killed")
LONG = [pytest.mark.faults, pytest.mark.timeout(2400)]
OTHER = "error: another collector (host="


class Rivals:
    """Collectors of one collection, each started again when it has ended or was killed."""

    def __init__(self, stream: Stream, output: Path, count: int, *flags: str) -> None:
        """Start them."""
        self._stream, self._output, self._flags = stream, output, flags
        self._log = output / stream.name / "log"
        self.losers = 0
        self._running = [self._start() for _ in range(count)]

    def __enter__(self) -> Rivals:  # noqa: PYI034 - Python 3.10 has no Self
        """Return them, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill all."""
        for collector in self._running:
            collector.send(signal.SIGKILL)
            collector.end()

    def kill(self, rng: random.Random) -> None:
        """Kill one of them, whichever and wherever it is, and start another; or a worker of it."""
        place = rng.randrange(len(self._running))
        collector = self._running[place]
        victim = rng.choice([collector.pid, *collector.workers()])
        if victim != collector.pid:
            with suppress(ProcessLookupError):  # another one was killed in its place just now
                os.kill(victim, signal.SIGKILL)
            return
        collector.send(signal.SIGKILL)
        collector.end()
        assert "Traceback" not in "".join(collector.lines), collector.lines
        self._running[place] = self._start()

    def wait_for_entries(self, count: int, seconds: float = 120) -> None:
        """Wait until the log has got some more entries, whoever makes them."""
        wanted = self._entries() + count
        deadline = time.monotonic() + seconds
        while self._entries() < wanted:
            assert time.monotonic() < deadline, [each.lines for each in self._running]
            self._revive()
            time.sleep(0.05)

    def _start(self) -> CollectorProcess:
        return CollectorProcess([self._stream], self._output, *FLAGS, *self._flags)

    def _entries(self) -> int:
        return len(list(self._log.glob("*.json")))

    def _revive(self) -> None:
        """Start those again that lost to another, and said so."""
        for place, collector in enumerate(self._running):
            if collector.poll() is not None:
                assert collector.end() == OTHER_COLLECTOR, collector.lines
                assert OTHER in collector.lines[-1], collector.lines
                self.losers += 1
                self._running[place] = self._start()


@pytest.mark.integration
@pytest.mark.parametrize(
    ("collectors", "rounds", "kills", "flags"),
    [
        pytest.param(1, 1, 8, (), id="one"),
        pytest.param(2, 1, 8, (), id="two"),
        pytest.param(1, 4, 25, (), id="one-long", marks=LONG),
        pytest.param(2, 4, 25, (), id="two-long", marks=LONG),
        pytest.param(1, 4, 25, ("--direct_num_workers=2",), id="workers-long", marks=LONG),
    ],
)
def test_collectors_killed_again_and_again_collect_everything_once(
    kafka: KafkaBroker,
    tmp_path: Path,
    tell: Callable[[str], None],
    collectors: int,
    rounds: int,
    kills: int,
    flags: tuple[str, ...],
) -> None:
    """SIGKILL at random moments, from the start on, of one, of rivals, and of their workers."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    stream, rng, losers = Stream(kafka), random.Random(seed), 0
    path = tmp_path / stream.name
    for _ in range(rounds):
        rivals = Rivals(stream, tmp_path, collectors, *flags)
        with Producing(stream, a_second=300), rivals:
            for _ in range(kills):
                rivals.wait_for_entries(rng.choice((0, 1, 1, 3)))
                time.sleep(rng.uniform(0, 1.2))  # the moment of death is what is tried
                rivals.kill(rng)
        losers += rivals.losers
        end = run_command([stream], tmp_path, *FLAGS, "--once")
        assert end.returncode == 0, end.stderr
        check(path, stream.produced)
        assert strays_of(path) == []
    end = run_command([stream], tmp_path, *FLAGS, "--once", "--flush")
    entries = entries_of(path)
    tell(
        f"{rounds * kills} kills of {collectors} collector(s), {losers} lost to a rival, "
        f"{len(stream.produced)} messages, {len(entries)} entries, seed={seed}: exact, audit clean"
    )

    assert end.returncode == 0, end.stderr
    assert len(entries) > rounds * kills // 2
    check(path, stream.produced)
    assert strays_of(path) == []
    assert entries[-1].carry == ()
    assert stream.committed("killed") == entries[-1].ends


@pytest.mark.integration
@pytest.mark.parametrize(
    "moments",
    [
        pytest.param(3, id="short"),
        pytest.param(30, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(1800)]),
    ],
)
def test_a_collector_that_slept_while_others_committed_stops_and_says_so(
    kafka: KafkaBroker, tmp_path: Path, tell: Callable[[str], None], moments: int
) -> None:
    """Frozen at a random moment until another has committed twice: a zombie changes nothing."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    stream, rng = Stream(kafka), random.Random(seed)
    path = tmp_path / stream.name
    with Producing(stream, a_second=300):
        sleeper = CollectorProcess([stream], tmp_path, *FLAGS)
        for _ in range(moments):
            sleeper.wait_for("  cycle ")
            time.sleep(rng.uniform(0, 1.5))  # any moment of a cycle
            sleeper.send(signal.SIGSTOP)
            successor = CollectorProcess([stream], tmp_path, *FLAGS)
            for _ in range(2):
                successor.wait_for("  cycle ")
            sleeper.send(signal.SIGCONT)
            assert sleeper.end() == OTHER_COLLECTOR, sleeper.lines
            assert OTHER in sleeper.lines[-1]
            assert f"pid={successor.pid})" in sleeper.lines[-1]
            assert "Traceback" not in "".join(sleeper.lines), sleeper.lines
            sleeper = successor
        sleeper.send(signal.SIGTERM)
        assert sleeper.end() == 0, sleeper.lines
    assert run_command([stream], tmp_path, *FLAGS, "--once", "--flush").returncode == 0
    tell(
        f"{moments} collectors frozen and woken, {len(stream.produced)} messages, "
        f"{len(entries_of(path))} entries, seed={seed}: exact, audit clean"
    )

    check(path, stream.produced)
    assert strays_of(path) == []
