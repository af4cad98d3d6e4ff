"""Crashes: wherever a collector dies, the next one loses, doubles and leaves nothing."""

from __future__ import annotations

import gc
import shutil
import signal
import socket
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from batch_collection.checkpoints.checkpoint import read_checkpoint
from batch_collection.checkpoints.ranges import Range
from batch_collection.errors import StorageError
from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from pipeline.running.outcome import OTHER_COLLECTOR
from tests import storages
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Producing,
    Sending,
    Stream,
    check,
    dead_letters_of,
    entries_of,
    manifests_of,
    run_command,
    sending,
    strays_of,
)
from tests.interposed import interposed
from tests.logs import spans
from tests.storages import Died, DyingStorage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=5")


@contextmanager
def storage_of(collection: Path, k: int | None) -> Iterator[DyingStorage]:
    """Let the collector write to a storage that dies at its ``k``-th point."""
    dying = DyingStorage(open_storage(str(collection)), k)
    with interposed(dying):
        yield dying


class Scene:
    """A collection with carry, about to collect a cycle with all that a cycle can have."""

    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        """Collect up to 10:30:14, then produce what the cycle at 10:30:22 reads."""
        self.stream = Stream(broker)
        self._before = folder / "before"
        collecting = Collecting.of(self.stream, self._before, *FLAGS)
        self.stream.send(*(self._row("10:30:00", number) for number in range(4)))
        self.stream.send(*(self._row("10:30:10", number) for number in range(3)))
        collecting.once(at("10:30:14"))
        late = self._row("10:30:01", 9)
        on_time = [self._row("10:30:10", number) for number in range(6)]
        early = [self._row("10:30:20", number) for number in range(7)]
        bad = Sending(b"{", at("10:30:12"), 2)
        produced = self.stream.send(late, *on_time, bad, *early)
        self.dead = [(m.partition, m.offset) for m in produced if m.value == b"{"]
        self._folder, self._copies = folder, 0

    def copy(self, of: Collecting | None = None) -> Collecting:
        """Return a collector of a fresh copy of the collection, or of another's."""
        self._copies += 1
        output = self._folder / f"copy-{self._copies}"
        shutil.copytree(of.output if of else self._before, output)
        return Collecting.of(self.stream, output, *FLAGS)

    def crash(self, act: Callable[[], object], collection: Path, k: int) -> bool:
        """Act until the storage dies at its ``k``-th point; return whether it did."""
        with storage_of(collection, k) as dying:
            try:
                act()
            except (Died, RuntimeError):  # Beam makes the second of the first
                assert dying.is_dead
            return dying.is_dead

    def check_after_one_more_cycle(self, collecting: Collecting, case: str) -> list[Entry]:
        """Collect on the plain storage, and see that all is there once, and nothing else."""
        entries = collecting.once(at("10:30:32"))
        assert entries, case
        assert strays_of(collecting.path) == [], case
        check(collecting.path, self.stream.produced, dead=self.dead)
        shutil.rmtree(collecting.output)
        return entries

    def _row(self, clock: str, number: int) -> Sending:
        stamp = at(clock) + number * SECOND / 10
        return sending(stamp, number % 4, id=f"{clock}+{number}")


@pytest.fixture(scope="module")
def scene(embedded: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Set the scene once."""
    scene = Scene(embedded, tmp_path_factory.mktemp("crashes"))
    gc.freeze()  # what is there already needn't be looked at after each crash
    yield scene
    gc.unfreeze()


def test_the_cycle_of_these_tests_has_all_that_a_cycle_can_have(scene: Scene) -> None:
    """Carry taken up and carry left, a dead letter, and an early, an on-time and a late pane."""
    collecting = scene.copy()
    before = entries_of(collecting.path)[-1]

    (entry,) = collecting.once(at("10:30:22"))

    assert {pane.timing for pane in entry.panes} == {"early", "on_time", "late"}
    assert sum(file.messages for file in entry.dead_letters) == 1
    assert before.carry
    assert entry.carry
    assert entry.released == tuple(sorted(file.path for file in before.carry))
    assert len(dead_letters_of(collecting.path)) == 1
    assert {len(all_) for all_ in manifests_of(collecting.path).values()} == {1, 2}
    scene.check_after_one_more_cycle(collecting, "no crash")


@pytest.mark.slow
def test_a_storage_that_dies_anywhere_in_a_cycle_loses_and_doubles_nothing(scene: Scene) -> None:
    """For every point before and after each change, the next collector makes it whole and clean."""
    k, committed = 0, set()
    while True:
        collecting = scene.copy()
        before = len(entries_of(collecting.path))
        if not scene.crash(lambda: collecting.once(at("10:30:22")), collecting.path, k):  # noqa: B023
            break
        committed.add(len(entries_of(collecting.path)) - before)
        scene.check_after_one_more_cycle(collecting, f"died at point {k}")
        k += 1
    scene.check_after_one_more_cycle(collecting, "did not die")
    assert k > 40
    assert committed == {0, 1}


@pytest.mark.slow
@pytest.mark.parametrize("depth", [0.3, 0.6, 0.8], ids=["staging", "committed", "published"])
def test_a_restart_that_dies_anywhere_is_restarted(scene: Scene, depth: float) -> None:
    """Publishing and sweeping after a crash may be interrupted at every point, and done again."""
    whole = scene.copy()
    with storage_of(whole.path, None) as living:
        whole.once(at("10:30:22"))
    first = int(living.points * depth)
    crashed = scene.copy()
    assert scene.crash(lambda: crashed.once(at("10:30:22")), crashed.path, first)
    k = 0
    while True:
        again = scene.copy(crashed)
        if not scene.crash(lambda: again.take_up(at("10:30:23")), again.path, k):  # noqa: B023
            break
        scene.check_after_one_more_cycle(again, f"died at {first}, then at {k}")
        k += 1
    scene.check_after_one_more_cycle(again, f"died at {first} only")
    assert k > 5


def test_a_collector_that_dies_while_it_makes_a_checkpoint_is_mended(scene: Scene) -> None:
    """The cycle that completes one is published by then; the next start makes the same."""
    entries = len(entries_of(scene.copy().path)) + 1
    span = Range(0, entries - 1)
    with spans(entries):
        whole = scene.copy()
        with storage_of(whole.path, None) as living:
            whole.once(at("10:30:22"))
        assert read_checkpoint(open_storage(str(whole.path)), span) is not None
        for k in range(living.points - 4, living.points):
            collecting = scene.copy()
            assert scene.crash(lambda: collecting.once(at("10:30:22")), collecting.path, k)  # noqa: B023
            assert len(entries_of(collecting.path)) == entries
            collecting.take_up(at("10:30:23"))
            assert read_checkpoint(open_storage(str(collecting.path)), span) is not None
            scene.check_after_one_more_cycle(collecting, f"died at point {k}")


class DiskFullError(StorageError):
    """What a storage says that fails, while its process lives on."""

    def __init__(self, *_: object) -> None:
        """Say it, whatever Beam would add when it raises it again."""
        super().__init__("cannot write: No space left on device")


def test_a_storage_that_fails_is_one_clear_error_and_costs_nothing(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever in a cycle: no traceback of the runner's, and the next run goes on."""
    monkeypatch.setattr(storages, "Died", DiskFullError)
    for k in range(2, 50, 6):
        collecting = scene.copy()
        with (
            storage_of(collecting.path, k),
            pytest.raises(StorageError, match=r"^cannot write: No space left on device$"),
        ):
            collecting.once(at("10:30:22"))
        scene.check_after_one_more_cycle(collecting, f"failed at point {k}")


# the real process; tests/campaign kills it at random


@pytest.mark.integration
def test_of_two_collectors_one_wins_and_the_other_stops_and_says_who_won(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Both write to one collection; it stays exact, and the loser's error names the winner."""
    stream = Stream(kafka)
    flags = ("--interval=1s", "--grace=0s", "--batch_size=200")
    path = tmp_path / stream.name
    with (
        Producing(stream, a_second=1000),
        CollectorProcess([stream], tmp_path, *flags) as one,
        CollectorProcess([stream], tmp_path, *flags) as other,
        ThreadPoolExecutor(2) as pool,
    ):
        ends = {pool.submit(one.end): (one, other), pool.submit(other.end): (other, one)}
        first = next(as_completed(ends))
        loser, winner = ends[first]
        assert first.result() == OTHER_COLLECTOR, loser.lines
        winner.wait_for("  cycle ")
        winner.send(signal.SIGTERM)
        assert winner.end() == 0, winner.lines
    told = f"error: another collector (host={socket.gethostname()} pid={winner.pid}) committed"
    assert told in loser.lines[-1]
    assert "Traceback" not in "".join(loser.lines + winner.lines)

    assert run_command([stream], tmp_path, *flags, "--once", "--flush").returncode == 0

    check(path, stream.produced)
    assert strays_of(path) == []


@pytest.mark.integration
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_a_running_collector_in_good_order(
    kafka: KafkaBroker, tmp_path: Path, number: signal.Signals
) -> None:
    """Within seconds, with exit code 0; the running cycle is committed, or nothing of it."""
    stream = Stream(kafka)
    flags = ("--interval=1s", "--grace=0s", "--batch_size=200")
    path = tmp_path / stream.name
    with Producing(stream, a_second=1000), CollectorProcess([stream], tmp_path, *flags) as running:
        running.wait_for("  cycle 2 ")
        running.send(number)
        assert running.end(seconds=10) == 0, running.lines
    assert "Traceback" not in "".join(running.lines)
    assert audit(LocalStorage(str(path))).findings == ()

    assert run_command([stream], tmp_path, *flags, "--once", "--flush").returncode == 0

    check(path, stream.produced)
    assert strays_of(path) == []
