"""How long after its end a window is visible: its manifest, which comes behind its files."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.paths import WINDOWS, manifest_window, new_token
from bench.child import python
from bench.collecting import HERE, PARTITIONS, check
from bench.kafka import Message, produce
from tests.engines import log_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["waits"]

TOPICS = 2  # collected side by side, so that as many windows take half of the time
A_SECOND = 1_000  # messages of a topic
_INTERVAL = timedelta(seconds=1)
_BEGIN_SECONDS = 180
_LAST_SECONDS = 10  # within which the last window is visible
_END_SECONDS = 120


def waits(broker: KafkaBroker, windows: int, flags: Sequence[str]) -> list[float]:
    """Collect topics while messages come; return the seconds of each window behind the start.

    In the end all that came is a row once, and the audit agrees.
    """
    topics = [broker.create_topic(f"visible-{new_token()}", PARTITIONS) for _ in range(TOPICS)]
    each = -(-windows // TOPICS)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, topic) for topic in topics]
        command = (
            *("-m", "pipeline", f"--bootstrap_servers={broker.bootstrap_servers}"),
            *(f"--topics={','.join(topics)}", f"--output={folder}"),
            f"--interval={_INTERVAL.seconds}s",
        )
        with _coming(broker, topics) as sent, _running([*command, *flags]) as collector:
            _wait_for_cycles(paths, collector)
            time.sleep(each * _INTERVAL.total_seconds() + _LAST_SECONDS)
        found = [wait for path in paths for wait in _waits(path)[:each]]
        python(*command, "--once", "--flush")
        for path in paths:
            check(list(path.glob("data/**/*.parquet")), sent[path.name])
            python("-m", "pipeline", "audit", str(path))
    return found


@contextmanager
def _coming(broker: KafkaBroker, topics: Sequence[str]) -> Iterator[dict[str, int]]:
    """Let messages come as long as the block lasts; behind it, how many came to each topic."""
    sent, stop = dict.fromkeys(topics, 0), threading.Event()

    def messages() -> Iterator[Message]:
        began = time.time()
        while not stop.wait(0.01):
            now = time.time()
            for topic in topics:
                for number in range(sent[topic], round((now - began) * A_SECOND)):
                    yield Message(topic, f'{{"id":{number}}}', number % PARTITIONS, int(now * 1000))
                    sent[topic] += 1

    thread = threading.Thread(target=produce, args=(broker, messages()))
    thread.start()
    try:
        yield sent
    finally:
        stop.set()
        thread.join()


@contextmanager
def _running(command: Sequence[str]) -> Iterator[subprocess.Popen[str]]:
    """Run Python as long as the block lasts, and end it as a user does."""
    with subprocess.Popen(  # noqa: S603 - this project's program
        [sys.executable, *command], cwd=HERE.parent, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            _, said = process.communicate(timeout=_END_SECONDS)
            if process.returncode:
                sys.exit(f"the collector failed:\n{said}")
        finally:
            process.kill()


def _wait_for_cycles(paths: Sequence[Path], collector: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + _BEGIN_SECONDS
    while any(len(log_of(path)) < 2 for path in paths):  # noqa: PLR2004 - the start, and a cycle
        if collector.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"no cycle of the collector within {_BEGIN_SECONDS}s")
        time.sleep(0.1)


def _waits(path: Path) -> list[float]:
    """Return the waits of windows that began behind the first cycle, in their order."""
    shown: dict[object, float] = {}
    for manifest in (path / WINDOWS).iterdir():
        start = manifest_window(f"{WINDOWS}/{manifest.name}")
        came = manifest.stat().st_ctime  # when its name came to be
        shown[start] = min(came, shown.get(start, came))
    entries = log_of(path)
    panes = (pane for entry in entries for pane in entry.panes if pane.timing == "on_time")
    return [
        shown[pane.window_start] - pane.window_end.timestamp()
        for pane in sorted(panes, key=lambda pane: pane.window_start)
        if pane.rows and pane.window_start > entries[1].committed_at and pane.window_start in shown
    ]
