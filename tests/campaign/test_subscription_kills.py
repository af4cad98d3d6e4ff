"""A subscription's collectors, killed, frozen, and started twice."""

from __future__ import annotations

import random
import signal
import sys
import time
from typing import TYPE_CHECKING

import pytest

from pipeline.running.outcome import OTHER_COLLECTOR
from tests.collecting import entries_of
from tests.services.pubsub_fake import FakePubSub
from tests.subscribed import (
    Faked,
    Publishing,
    Served,
    check_collected,
    collected,
    collection_of,
    collector,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.collecting import CollectorProcess
    from tests.services.pubsub import PubSubServer
    from tests.subscribed import Subscribed

pytestmark = pytest.mark.slow

FLAGS = ("--interval=2s", "--grace=500ms")
LEASE_SECONDS = 120
MOST_WAITING = 50_000  # Google's emulator gets slow where more wait

SERVERS = [pytest.param(each, marks=[pytest.mark.faults]) for each in ("emulator", "pstest")]

_KILLED = """
import os, re, sys
from batch_collection.storage.local import LocalStorage
from pipeline.__main__ import entry_point

when, pattern = sys.argv[1:3]
del sys.argv[1:3]
create = LocalStorage.create

def create_or_die(self, path, content):
    is_it = re.fullmatch(pattern, path)
    if is_it and when == "before":
        os.kill(os.getpid(), 9)
    create(self, path, content)
    if is_it and when == "behind":
        os.kill(os.getpid(), 9)

LocalStorage.create = create_or_die
entry_point()
"""
CLAIM = r"staging/\w+/claims-\w+/0*"
POINTS = {
    "between claim and decode": ("behind", CLAIM + "0"),
    "between the claims of two tasks": ("before", CLAIM + "1"),
    "between commit and acknowledgement": ("behind", r"log/0*[1-9]\d*\.json"),
}


@pytest.fixture
def faked() -> Iterator[Faked]:
    """Start a server whose leases lapse when they are told to."""
    server = FakePubSub()
    server.stream.clock.rate = 1  # what was handed out to a pull of a dead process comes again
    yield Faked(server)
    server.close()


def end_in_order(process: CollectorProcess) -> None:
    """Stop a collector as a user does."""
    process.send(signal.SIGTERM)
    assert process.end() == 0, process.lines
    assert "Traceback" not in "".join(process.lines), process.lines


def wait_until(condition: Callable[[], bool], process: CollectorProcess, seconds: float) -> None:
    """Wait for something to be in the log."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, process.lines[-20:]
        assert process.poll() is None, process.lines
        time.sleep(0.1)


def test_a_collector_killed_at_the_worst_moments_collects_everything_once(
    faked: Faked, tmp_path: Path
) -> None:
    """With a claim that nobody works off, with one of two, and with what it did not acknowledge."""
    collection, count = collection_of(faked, tmp_path), 3_000
    flags = (*FLAGS, "--shards=2", "--max_leased=1000")  # so that each of two tasks gets something
    faked.publish(range(count))
    for name, (when, pattern) in POINTS.items():
        assert not collected(collection), name
        wrapper = (sys.executable, "-c", _KILLED, when, pattern)
        with collector(faked, tmp_path, *flags, wrapper=wrapper) as process:
            assert process.end() == -signal.SIGKILL, (name, process.lines)
        assert not faked.server.stream.acknowledged, name
        faked.lapse()
    assert collected(collection)
    with collector(faked, tmp_path, *flags) as process:
        wait_until(lambda: not faked.server.stream.left, process, 60)
        end_in_order(process)
    check_collected(faked, tmp_path, count)


def test_a_collector_that_slept_beyond_its_leases_doubles_nothing(
    faked: Faked, tmp_path: Path
) -> None:
    """Whether what it held came again to itself, or to another, which it finds when it wakes."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    collection, rng = collection_of(faked, tmp_path), random.Random(seed)
    numbers = iter(range(0, 10**6, 1_000))

    def freeze(process: CollectorProcess) -> None:
        """Freeze it with messages in its hands, at any moment of its cycle."""
        start = next(numbers)
        faked.publish(range(start, start + 1_000))
        time.sleep(rng.uniform(0, 1.0))
        process.send(signal.SIGSTOP)
        faked.lapse()

    with collector(faked, tmp_path, *FLAGS) as sleeper:
        wait_until(lambda: bool(entries_of(collection)), sleeper, 60)
        for _ in range(3):
            freeze(sleeper)
            sleeper.send(signal.SIGCONT)
        freeze(sleeper)
        with collector(faked, tmp_path, *FLAGS) as other:
            other.wait_for("  cycle ")
            sleeper.send(signal.SIGCONT)
            count = next(numbers)
            faked.publish(range(count, count + 10))
            assert sleeper.end() == OTHER_COLLECTOR, sleeper.lines
            assert "another collector (host=" in sleeper.lines[-1]
            faked.lapse()
            wait_until(lambda: not faked.server.stream.left, other, 60)
            end_in_order(other)
    check_collected(faked, tmp_path, count + 10)


@pytest.mark.parametrize("server", ["fake", *SERVERS])
def test_of_two_collectors_one_ends_and_no_message_is_there_twice(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """It says who the other one is; what it held is given back, and collected by that one."""
    given = request.getfixturevalue("faked" if server == "fake" else server)
    subscribed = given if server == "fake" else Served(given)
    with (
        collector(subscribed, tmp_path, *FLAGS) as one,
        collector(subscribed, tmp_path, *FLAGS) as two,
    ):
        numbers = iter(range(0, 100_000, 20))
        deadline = time.monotonic() + 60
        while one.poll() is two.poll() is None and time.monotonic() < deadline:
            start = next(numbers)
            subscribed.publish(range(start, start + 20))
            time.sleep(0.2)
        count = next(numbers)
        ended, other = (one, two) if two.poll() is None else (two, one)
        assert ended.end() == OTHER_COLLECTOR, ended.lines
        assert "another collector (host=" in ended.lines[-1]
        collection = collection_of(subscribed, tmp_path)
        wait_until(lambda: collected(collection) >= count, other, 2 * LEASE_SECONDS)
        end_in_order(other)
    check_collected(subscribed, tmp_path, count)


def killed_again_and_again(
    subscribed: Subscribed, output: Path, flags: tuple[str, ...], kills: int, seconds: float
) -> str:
    """Kill collectors of 100,000 messages at random moments, and see what came of it."""
    seed, count = random.randrange(2**32), 100_000
    print(f"seed={seed}")
    rng, collection = random.Random(seed), collection_of(subscribed, output)
    with Publishing(subscribed, output, count, a_second=1_000, most=MOST_WAITING):
        for _ in range(kills):
            already = len(entries_of(collection)) if collection.exists() else 0
            with collector(subscribed, output, *flags) as process:
                if rng.random() < 0.7:  # else perhaps before it has committed anything
                    wait_until(
                        lambda: (
                            collection.exists() and len(entries_of(collection)) > max(already, 1)  # noqa: B023
                        ),
                        process,
                        120,
                    )
                time.sleep(rng.uniform(0, seconds))  # the moment of death is what is tried
        killed_at = time.monotonic()
        with collector(subscribed, output, *flags) as process:
            wait_until(lambda: collected(collection) >= count, process, 600)
            lapsed_at = killed_at + LEASE_SECONDS + 20
            wait_until(lambda: time.monotonic() > lapsed_at, process, 600)
            end_in_order(process)
    check_collected(subscribed, output, count)
    entries = entries_of(collection)
    assert len(entries) > kills // 2
    return (
        f"{kills} kills, {count} messages, {len(entries)} entries, seed={seed}: exact, audit "
        "clean, nothing left"
    )


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("server", SERVERS)
def test_collectors_killed_again_and_again_collect_everything_once(
    server: str, tmp_path: Path, tell: Callable[[str], None], request: pytest.FixtureRequest
) -> None:
    """SIGKILL at random moments, from the start of a collector on; leases of the dead lapse."""
    subscribed = Served(request.getfixturevalue(server))
    tell(killed_again_and_again(subscribed, tmp_path, FLAGS, kills=20, seconds=3.0))


@pytest.mark.faults
@pytest.mark.timeout(1800)
def test_jobs_killed_again_and_again_collect_everything_once(
    emulator: PubSubServer, engine: tuple[str, ...], tmp_path: Path, tell: Callable[[str], None]
) -> None:
    """On each engine, where tasks pull; each time a new job."""
    flags = (*FLAGS, *engine, "--shards=2")
    tell(killed_again_and_again(Served(emulator), tmp_path, flags, kills=10, seconds=25.0))
