"""Collecting on a portable engine, which is somewhere else, as tests watch it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from tests.collecting import CollectorProcess, Stream, check, entries_of, run_command, strays_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.log.entry import Entry

__all__ = ["FLAGS", "finish", "log_of", "wait_until"]

FLAGS = ("--interval=2s", "--grace=500ms", "--batch_size=700", "--shards=2", "--cycle_timeout=10s")


def wait_until(condition: Callable[[], bool], collector: CollectorProcess | None = None) -> None:
    """Wait for something to be in the log; say what a collector has said if it never is."""
    deadline = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < deadline, collector.lines[-20:] if collector else "no entry"
        time.sleep(0.1)


def log_of(path: Path) -> list[Entry]:
    """Return a log that may not have begun."""
    return entries_of(path) if path.exists() else []


def finish(stream: Stream, output: Path, *flags: str) -> None:
    """Collect the rest with a new process, to its end, and see that all is there once."""
    end = run_command([stream], output, *flags, "--once", "--flush")
    assert end.returncode == 0, end.stderr
    check(output / stream.name, stream.produced)
    assert strays_of(output / stream.name) == []
    assert entries_of(output / stream.name)[-1].carry == ()
