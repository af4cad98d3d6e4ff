"""What is told of other ways to collect, and how one that never ends is ended."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bench.peers.known import PEERS, Job
from bench.peers.until import main as run_until

if TYPE_CHECKING:
    from pathlib import Path

_WRITES = """
import pyarrow as pa, pyarrow.parquet as pq, sys, time
for number in range(int(sys.argv[2])):
    pq.write_table(pa.table({"id": [number] * 5}), f"{sys.argv[1]}/{number}.parquet")
while len(sys.argv) > 3:
    time.sleep(1)
"""


def writes(folder: Path, files: int, *more: str) -> list[str]:
    """Return a command that writes files of 5 rows, and then waits if there is ``more``."""
    return [sys.executable, "-c", _WRITES, str(folder), str(files), *more]


def test_a_command_that_never_ends_is_ended_once_its_rows_are_there(tmp_path: Path) -> None:
    """And counts as one that did well."""
    assert run_until(tmp_path, 10, writes(tmp_path, 2, "and waits")) == 0


def test_a_command_that_ends_without_its_rows_has_failed(tmp_path: Path) -> None:
    """Whatever its exit code."""
    assert run_until(tmp_path, 11, writes(tmp_path, 2)) == 1


@pytest.mark.parametrize("name", PEERS)
def test_each_peer_is_told_what_to_collect(tmp_path: Path, name: str) -> None:
    """By its words, its environment, or its script."""
    job = Job("broker:9092", "some-topic", tmp_path, 7)
    words = PEERS[name].command(tmp_path, job)
    said = " ".join(words) + "".join(path.read_text() for path in tmp_path.glob("*.sql"))
    assert all(text in said for text in ("broker:9092", "some-topic", str(tmp_path)))
    assert "{" not in said
