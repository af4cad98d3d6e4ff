"""The collector of a subscription as users start it: stopped, killed, and started twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

import pytest

from batch_collection.inspection.audit import audit
from batch_collection.paths import new_token
from batch_collection.storage.local import LocalStorage
from tests.collecting import ROOT, entries_of, json_of, rows_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.pubsub import PubSubServer

pytestmark = pytest.mark.slow

LEASE_SECONDS = 120


@contextmanager
def started(pubsub: PubSubServer, path: str, output: Path) -> Iterator[subprocess.Popen[str]]:
    """Start a collector, killed at the end if it still runs."""
    flags = (f"--input_subscription={path}", f"--output={output}", "--interval=2s")
    with subprocess.Popen(
        [sys.executable, "-m", "pipeline", *flags, f"--pubsub_endpoint={pubsub.endpoint}"],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
    ) as collector:
        try:
            yield collector
        finally:
            collector.kill()


def wait_for(collector: subprocess.Popen[str], words: str) -> None:
    """Wait until a collector says something."""
    assert collector.stderr is not None
    for line in collector.stderr:
        if words in line:
            return
    raise AssertionError(words)


def publish(pubsub: PubSubServer, path: str, numbers: range) -> None:
    """Publish numbered messages."""
    pubsub.publish(path, [json_of({"id": number}) for number in numbers])


@pytest.mark.faults  # leases are waited for
def test_what_a_killed_collector_held_comes_again_and_is_there_once(
    emulator: PubSubServer, tmp_path: Path
) -> None:
    """Killed with messages in its hands, and stopped; when their leases are over all is there."""
    path = emulator.create(f"killed-{new_token()}")
    collection = tmp_path / path.rpartition("/")[2]
    publish(emulator, path, range(500))
    with started(emulator, path, tmp_path) as collector:
        wait_for(collector, " cycle 1 ")
        publish(emulator, path, range(500, 1_000))
        time.sleep(0.5)  # they are pulled, or not; a boundary may be over, or not
    killed = time.monotonic()
    with started(emulator, path, tmp_path) as collector:
        publish(emulator, path, range(1_000, 1_500))
        wait_for(collector, "messages")
        collector.send_signal(signal.SIGTERM)
        wait_for(collector, "stopped; the next run goes on from here")
        assert collector.wait(timeout=30) == 0
    with started(emulator, path, tmp_path) as collector:
        # not --once again and again: the emulator hands messages to pulls that are over, too
        deadline = killed + 2 * LEASE_SECONDS
        while time.monotonic() < deadline and entries_of(collection)[-1].ends != {0: 1_500}:
            time.sleep(1)
        collector.send_signal(signal.SIGTERM)
        collector.communicate(timeout=30)
        assert collector.returncode == 0
    found = Counter(rows_of(collection)["id"].to_pylist())
    assert found == Counter(range(1_500))
    assert audit(LocalStorage(str(collection))).findings == ()


def test_of_two_collectors_one_ends_and_no_message_is_there_twice(
    emulator: PubSubServer, tmp_path: Path
) -> None:
    """It says who the other one is; what it held is given back, and collected by that one."""
    path = emulator.create(f"twice-{new_token()}")
    collection = tmp_path / path.rpartition("/")[2]
    with ExitStack() as stack:
        collectors = [stack.enter_context(started(emulator, path, tmp_path)) for _ in range(2)]
        numbers = iter(range(0, 100_000, 20))
        deadline = time.monotonic() + 60
        while all(each.poll() is None for each in collectors) and time.monotonic() < deadline:
            start = next(numbers)
            publish(emulator, path, range(start, start + 20))
            time.sleep(0.2)
        count = next(numbers)
        (ended,) = (each for each in collectors if each.poll() is not None)
        (other,) = (each for each in collectors if each is not ended)
        assert ended.wait() == 3
        assert ended.stderr is not None
        assert "another collector (host=" in ended.stderr.read()
        deadline = time.monotonic() + 2 * LEASE_SECONDS
        while time.monotonic() < deadline and sum(entries_of(collection)[-1].ends.values()) < count:
            time.sleep(1)
        other.send_signal(signal.SIGTERM)
        other.communicate(timeout=30)
        assert other.returncode == 0
    assert Counter(rows_of(collection)["id"].to_pylist()) == Counter(range(count))
    assert audit(LocalStorage(str(collection))).findings == ()
