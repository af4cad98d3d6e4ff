"""Disks that are full, read-only, slow, or fail: one clear line, and the next run repairs."""

from __future__ import annotations

import os
import random
import re
import shutil
import signal
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import StorageError
from batch_collection.paths import LOG
from tests.builders import at
from tests.campaign.broken_disk import CALLS, BrokenDisk
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Sending,
    Stream,
    check,
    entries_of,
    run_command,
    sending,
    strays_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from transforms.sources.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=5")
FAST = ("--interval=1s", "--grace=0s")


class SmallDisk:
    """A real file system of a few megabytes, mounted for one test."""

    def __init__(self, folder: Path) -> None:
        """Mount it; skip the test, saying why, where that is not allowed."""
        self.folder = folder
        folder.mkdir()
        if message := self._mount("-t", "tmpfs", "-o", "size=1m", "tmpfs"):
            pytest.skip(f"no small disk: {message}")

    def remount(self, options: str) -> None:
        """Mount it again with other options, as ``ro`` or ``size=8m``."""
        assert self._mount("-o", f"remount,{options}") == ""

    def become_read_only(self) -> None:
        """Refuse writes from the first moment on in which no file is being written."""
        while self._mount("-o", "remount,ro"):
            pass

    def unmount(self) -> None:
        """Take it away."""
        subprocess.run([str(shutil.which("umount")), "-l", str(self.folder)], check=True)

    def _mount(self, *words: str) -> str:
        """Mount; return why that failed."""
        program = shutil.which("mount")
        if program is None or os.geteuid():
            return "mounting needs root"
        done = subprocess.run(
            [program, *words, str(self.folder)], capture_output=True, text=True, check=False
        )
        return done.stderr.strip()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[SmallDisk]:
    """Mount one."""
    disk = SmallDisk(tmp_path / "disk")
    yield disk
    disk.unmount()


def test_a_full_disk_is_one_clear_line_and_costs_nothing(
    embedded: EmbeddedBroker, small_disk: SmallDisk
) -> None:
    """Exit code 1 while it is full; once there is room the next run collects all of it."""
    stream, rng = Stream(embedded), random.Random(1)
    flags = ("--interval=1s", "--once", "--max_messages_per_cycle=300")
    messages = [
        sending(at("10:30:00"), n % 4, id=n, noise=rng.randbytes(1000).hex()) for n in range(1500)
    ]
    produced = stream.send(*messages)

    full = run_command([stream], small_disk.folder, *flags)
    still_full = run_command([stream], small_disk.folder, *flags)

    for done in (full, still_full):
        assert done.returncode in {1, 2}, done.stderr
        last = done.stderr.splitlines()[-1]
        assert "error: cannot write " in last
        assert last.endswith(": No space left on device")
        assert "Traceback" not in done.stderr
    assert full.returncode == 1  # it had begun
    small_disk.remount("size=16m")
    end = run_command([stream], small_disk.folder, *flags, "--flush")
    assert end.returncode == 0, end.stderr
    check(small_disk.folder / stream.name, produced)
    assert strays_of(small_disk.folder / stream.name) == []


def test_a_disk_that_becomes_read_only_ends_a_collector_with_one_clear_line(
    embedded: EmbeddedBroker, small_disk: SmallDisk
) -> None:
    """Exit code 1, and 2 for one that is started there; writable again, nothing is missing."""
    stream = Stream(embedded)
    stream.send(*(sending(None, n % 4, id=n) for n in range(100)))
    with CollectorProcess([stream], small_disk.folder, *FAST) as collector:
        collector.wait_for("  cycle 1 ")
        small_disk.become_read_only()
        stream.send(*(sending(None, n % 4, id=n) for n in range(100, 200)))
        assert collector.end() == 1, collector.lines
    assert "error: cannot " in collector.lines[-1]
    assert collector.lines[-1].endswith(": Read-only file system")
    assert "Traceback" not in "".join(collector.lines)
    started = run_command([stream], small_disk.folder, *FAST, "--once")
    assert (started.returncode, len(started.stderr.splitlines())) == (2, 1), started.stderr
    assert "error: " in started.stderr

    small_disk.remount("rw")

    assert run_command([stream], small_disk.folder, *FAST, "--once", "--flush").returncode == 0
    check(small_disk.folder / stream.name, stream.produced)
    assert strays_of(small_disk.folder / stream.name) == []


class Scene:
    """A collection with carry, and messages for a cycle that has all that a cycle can have."""

    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        """Collect up to 10:30:14, then produce what the cycle at 10:30:22 reads."""
        self.stream, self._folder, self._copies = Stream(broker), folder, 0
        self.stream.send(*(self._row("10:30:00", n) for n in range(4)))
        self.stream.send(*(self._row("10:30:10", n) for n in range(3)))
        Collecting.of(self.stream, folder / "before", *FLAGS).once(at("10:30:14"))
        rows = [self._row("10:30:10", n) for n in range(6)]
        rows += [self._row("10:30:20", n) for n in range(7)]
        bad = Sending(b"{", at("10:30:12"), 2)
        produced = self.stream.send(self._row("10:30:01", 9), *rows, bad)
        self.dead = [(m.partition, m.offset) for m in produced if m.value == b"{"]

    def copy(self) -> Collecting:
        """Return a collector of a fresh copy."""
        self._copies += 1
        output = self._folder / f"copy-{self._copies}"
        shutil.copytree(self._folder / "before", output)
        return Collecting.of(self.stream, output, *FLAGS)

    def check_after_one_more_cycle(self, collecting: Collecting) -> None:
        """Collect on the mended disk; see that all is there once, and nothing else."""
        collecting.once(at("10:30:32"))
        assert strays_of(collecting.path) == []
        check(collecting.path, self.stream.produced, dead=self.dead)
        shutil.rmtree(collecting.output)

    def _row(self, clock: str, n: int) -> Sending:
        return sending(at(clock) + n * SECOND / 10, n % 4, id=f"{clock}+{n}")


@pytest.fixture(scope="module")
def scene(embedded: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Set the scene once."""
    return Scene(embedded, tmp_path_factory.mktemp("disks"))


@pytest.mark.parametrize(
    "every", [pytest.param(6, id="some"), pytest.param(1, id="each", marks=pytest.mark.faults)]
)
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.timeout(900)
def test_a_call_of_the_disk_that_fails_is_one_clear_error_and_costs_nothing(
    scene: Scene, tell: Callable[[str], None], call: str, every: int
) -> None:
    """The first, the last, any: no entry names a file that isn't durable, the next run repairs."""
    whole = scene.copy()
    with BrokenDisk(whole.path, call).plugged_in() as disk:
        whole.once(at("10:30:22"))
    calls, survived = disk.count, 0
    assert calls
    for k in sorted({*range(0, calls, every), calls - 1}):
        collecting = scene.copy()
        with BrokenDisk(collecting.path, call, k).plugged_in() as disk:
            survived += _fails(collecting, disk)
        scene.check_after_one_more_cycle(collecting)
    tell(f"os.{call} fails at {len(range(0, calls, every))} of {calls} places: repaired")

    if call == "fsync":
        assert survived == 0


def _fails(collecting: Collecting, disk: BrokenDisk) -> bool:
    """Collect on a disk that fails; return whether that was nothing to stop for."""
    before = {entry.cycle for entry in entries_of(collecting.path)}
    try:
        collecting.once(at("10:30:22"))
    except StorageError as error:
        said = str(error)
    else:
        return True
    assert re.fullmatch("cannot .*: Input/output error", said)
    failed = Path(disk.failed).relative_to(collecting.path)
    new = [entry for entry in entries_of(collecting.path) if entry.cycle not in before]
    if disk.call == "fsync" and failed.parts[:1] != (LOG,):
        named = {Path(staged).name for entry in new for staged, _ in entry.moves}
        named |= {Path(file.path).name for entry in new for file in entry.carry}
        assert failed.name not in named
    return False


@pytest.mark.parametrize(
    ("call", "k", "code"),
    [
        ("rename", 0, 2),  # while it begins
        ("link", 1, 2),
        ("fsync", 30, 1),
        ("rename", 1, 1),
        ("link", 4, 1),
        ("link", 5, 1),
    ],
)
def test_a_collector_on_a_disk_that_fails_ends_with_one_clear_line(
    embedded: EmbeddedBroker, tmp_path: Path, call: str, k: int, code: int
) -> None:
    """The real process: exit code 1, or 2 before it began; on the mended disk it goes on."""
    stream = Stream(embedded)
    produced = stream.send(*(sending(None, n % 4, id=n) for n in range(100)))
    path = tmp_path / stream.name

    with CollectorProcess([stream], tmp_path, *FAST, wrapper=broken(tmp_path, call, k)) as running:
        assert running.end() == code, running.lines

    assert "error: cannot " in running.lines[-1]
    assert running.lines[-1].endswith(": Input/output error")
    assert "Traceback" not in "".join(running.lines)
    end = run_command([stream], tmp_path, *FAST, "--once", "--flush")
    assert end.returncode == 0, end.stderr
    check(path, produced)
    assert strays_of(path) == []


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(0.05, id="50ms"),
        pytest.param(2, id="2s", marks=[pytest.mark.faults, pytest.mark.timeout(1200)]),
    ],
)
def test_a_slow_disk_costs_time_and_nothing_else(
    embedded: EmbeddedBroker, tmp_path: Path, tell: Callable[[str], None], seconds: float
) -> None:
    """Each sync takes long: cycles are late, nothing is said of it, and a signal ends it well."""
    stream = Stream(embedded)
    stream.send(*(sending(None, n % 4, id=n) for n in range(100)))
    path, slow = tmp_path / stream.name, broken(tmp_path, "fsync", -1, seconds)
    with CollectorProcess([stream], tmp_path, *FAST, wrapper=slow) as collector:
        for cycle in (1, 2):
            line = collector.wait_for(f"  cycle {cycle} ", seconds=300)
            stream.send(*(sending(None, n % 4, id=n) for n in range(100)))
        collector.send(signal.SIGTERM)
        assert collector.end(seconds=300) == 0, collector.lines
    tell(f"{seconds:g} s a sync: {line.strip()}")

    assert [line for line in collector.lines if "error" in line or "warning" in line] == []
    assert run_command([stream], tmp_path, *FAST, "--once", "--flush").returncode == 0
    check(path, stream.produced)
    assert strays_of(path) == []


def broken(output: Path, call: str, k: int, seconds: float = 0) -> tuple[str, ...]:
    """Return what starts a collector on a broken disk."""
    module = ("-m", "tests.campaign.broken_disk")
    return (sys.executable, *module, str(output), call, str(k), str(seconds), "--", "collect")
