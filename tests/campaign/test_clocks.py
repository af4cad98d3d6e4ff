"""Clocks that are set forth and back: the boundary never goes back, and no window is lost."""

from __future__ import annotations

import contextlib
import random
from datetime import datetime, timedelta, timezone
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from batch_collection.windows import EPOCH
from tests.builders import at
from tests.collecting import Collecting, Stream, check, entries_of, sending, strays_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from transforms.sources.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.slow

SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=5", "--grace=0s")
STEPS = tuple(
    sign * step
    for sign in (1, -1)
    for step in (timedelta(hours=1), timedelta(hours=7), timedelta(days=2), 13 * SECOND)
)


def check_windows(entries: list[Entry]) -> None:
    """See that boundaries only rise, and that each window is closed once, with rows or without."""
    boundaries = [entry.boundary for entry in entries if entry.boundary is not None]
    assert boundaries == sorted(boundaries)
    closed = [
        (pane.window_start, pane.window_end)
        for entry in entries
        for pane in entry.panes
        if pane.timing == "on_time"
    ]
    closed += [part for entry in entries for part in entry.closed_empty]
    closed.sort()
    for (_, end), (start, _) in pairwise(closed):
        assert end <= start, "a window was closed twice"
    first = min((entry.boundary for entry in entries if entry.boundary), default=None)
    after = [(start, end) for start, end in closed if first is not None and start >= first]
    for (_, end), (start, _) in pairwise(after):
        assert end == start, "a window was passed over"


@pytest.mark.parametrize(
    "first", [EPOCH + 3 * SECOND, at("10:30:02"), at("10:30:02").replace(2100)]
)
def test_a_collector_may_begin_with_any_clock(
    embedded: EmbeddedBroker, tmp_path: Path, first: datetime
) -> None:
    """In 1970, today or in 2100, and go on with the right one: all is collected, in two cycles."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, *FLAGS)
    stream.send(*(sending(at("10:30:00") + n * SECOND, n % 4, id=n) for n in range(12)))
    collecting.once(first)
    stream.send(*(sending(at("10:30:15") + n * SECOND, n % 4, id=n) for n in range(12)))

    collecting.once(at("10:31:02"))

    check_windows(entries_of(collecting.path))
    check(collecting.path, stream.produced)
    assert strays_of(collecting.path) == []


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param(8, id="short"),
        pytest.param(120, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(1800)]),
    ],
)
def test_a_clock_set_forth_and_back_loses_no_window(
    embedded: EmbeddedBroker, tmp_path: Path, tell: Callable[[str], None], steps: int
) -> None:
    """By hours and days, while the collector runs and between two runs; stamps are right or not."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    rng, stream = random.Random(seed), Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, *FLAGS)
    truth = at("10:30:00")
    for _ in range(steps):
        clock = truth + rng.choice((timedelta(), *STEPS))
        stream.send(
            *(sending(rng.choice((truth, clock)), n % 4, id=n) for n in range(rng.randrange(12)))
        )
        if rng.random() < 0.5:
            collecting.once(clock)  # a new process
        else:
            _run_while_the_clock_steps(collecting, clock, rng)
        truth += 10 * SECOND
        check_windows(entries_of(collecting.path))
    entries = collecting.once(truth + timedelta(days=3), "--flush")
    entries = entries_of(collecting.path)
    tell(f"{steps} steps of the clock, {len(stream.produced)} messages, {len(entries)} entries")

    check_windows(entries)
    check(collecting.path, stream.produced)
    assert entries[-1].carry == ()
    assert strays_of(collecting.path) == []


def _run_while_the_clock_steps(collecting: Collecting, clock: datetime, rng: random.Random) -> None:
    """Run continuously, step the clock twice on the way, and stop after some waits."""
    (stream,) = collecting.streams
    waits = 0

    def arrive(now: datetime) -> None:
        nonlocal waits
        waits += 1
        if waits in {3, 6}:
            collecting.step(rng.choice(STEPS))
            stream.send(*(sending(now, n % 4, id=n) for n in range(rng.randrange(8))))
        if waits == 9:
            raise _EndedError

    with contextlib.suppress(_EndedError):
        collecting.run(clock, datetime.max.replace(tzinfo=timezone.utc), arrive)


class _EndedError(Exception):
    """The process ends while it waits."""
