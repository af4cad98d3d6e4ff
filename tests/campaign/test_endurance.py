"""Thousands of cycles in a row: memory, handles, threads, files and time stay where they are."""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pytest

from tests.builders import at
from tests.collecting import ROOT, Collecting, Recorder, Stream, check, entries_of, sending
from transforms.process.events import CycleCommitted

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from transforms.process.events import Event

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=1s", "--grace=0s", "--batch_size=10")
EVERY = 10  # cycles between samples

_BROKER = """
import sys
from transforms.sources.kafka.embedded import EmbeddedBroker
with EmbeddedBroker() as broker:
    print(broker.bootstrap_servers, flush=True)
    for name in sys.stdin:
        print(broker.create_topic(name.strip()), flush=True)
"""


class BrokerApart:
    """The embedded broker in a process of its own: what it keeps is not the collector's."""

    def __init__(self) -> None:
        """Start it."""
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            [sys.executable, "-c", _BROKER], cwd=ROOT, stdin=pipe, stdout=pipe, text=True
        )
        self.bootstrap_servers = self._answer()

    def __enter__(self) -> BrokerApart:  # noqa: PYI034 - Python 3.10 has no Self
        """Return it, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._process.communicate("")

    def create_topic(self, name: str, _: int) -> str:
        """Create a topic."""
        assert self._process.stdin is not None
        print(name, file=self._process.stdin, flush=True)
        return self._answer()

    def _answer(self) -> str:
        assert self._process.stdout is not None
        return self._process.stdout.readline().strip()


class Sample(NamedTuple):
    """What the process holds after some cycles, and what the last ones took."""

    memory: int
    handles: int
    threads: int
    left_over: int
    seconds: float


@dataclass
class Watcher(Recorder):
    """Forgets entries, and takes a sample now and then."""

    path: Path | None = None
    cycles: int = 0
    samples: list[Sample] = field(default_factory=list)
    _spent: float = 0.0

    def __call__(self, event: Event, /) -> None:
        """Count the cycle that is committed."""
        if isinstance(event, CycleCommitted):
            self._count(event.entry)

    def _count(self, entry: Entry) -> None:
        self.cycles += 1
        if self.cycles % EVERY:
            return
        gc.collect()
        process, spent = psutil.Process(), time.process_time()
        folders = ("staging", "carry")
        assert self.path is not None
        left_over = [each for name in folders for each in self.path.glob(f"{name}/**/*")]
        named = {self.path / file.path for file in entry.carry}
        named |= {parent for file in named for parent in file.parents}
        self.samples.append(
            Sample(
                process.memory_info().rss,
                process.num_fds(),
                process.num_threads(),
                len(set(left_over) - named),
                (spent - self._spent) / EVERY,
            )
        )
        self._spent = time.process_time()


@pytest.mark.parametrize(
    ("messages", "cycles"),
    [
        pytest.param(0, 150, id="empty"),
        pytest.param(7, 50, id="small"),
        pytest.param(
            0, 9000, id="empty-long", marks=[pytest.mark.faults, pytest.mark.timeout(3600)]
        ),
        pytest.param(
            7, 1000, id="small-long", marks=[pytest.mark.faults, pytest.mark.timeout(3600)]
        ),
    ],
)
def test_cycle_after_cycle_takes_no_more(
    tmp_path: Path, tell: Callable[[str], None], messages: int, cycles: int
) -> None:
    """The last cycles hold and take what the first did, with messages and without."""
    with BrokerApart() as broker:
        stream, watcher = Stream(broker), Watcher()  # type: ignore[arg-type]
        collecting = Collecting((stream,), tmp_path, FLAGS, watcher)
        watcher.path = collecting.path
        start = last = at("10:30:00")

        def arrive(now: datetime) -> None:
            nonlocal last
            if messages and now >= last + SECOND:
                last = now
                stream.send(*(sending(now, n % 4, id=n) for n in range(messages)))

        collecting.run(start, start + cycles * SECOND, arrive)
        check(collecting.path, stream.produced)
    fifth = max(len(watcher.samples) // 5, 1)
    early, late = (
        Sample(*map(median, zip(*samples, strict=True)))
        for samples in (watcher.samples[fifth : 2 * fifth], watcher.samples[-fifth:])
    )
    tell(
        f"{watcher.cycles} cycles, {len(stream.produced)} messages; of the second fifth and the "
        f"last: RSS {early.memory / 1e6:.1f} and {late.memory / 1e6:.1f} MB, handles "
        f"{early.handles:g} and {late.handles:g}, threads {early.threads:g} and {late.threads:g}, "
        f"CPU {early.seconds * 1000:.0f} and {late.seconds * 1000:.0f} ms a cycle"
    )

    assert watcher.cycles >= cycles - 1
    assert len(entries_of(collecting.path)) == watcher.cycles + 1
    assert late.memory < early.memory + (10 << 20)
    assert late.handles <= early.handles
    assert late.threads <= early.threads
    assert late.left_over <= 1  # the folder of the newest cycle
    assert late.seconds < 1.5 * early.seconds + 0.005
