"""That the measurement of collecting runs and measures what it says."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from bench.collecting import (
    FEW,
    LOOP,
    NAIVE,
    OURS,
    TWO,
    TWO_LOOPS,
    Run,
    check,
    measure,
    plot,
    results,
)

if TYPE_CHECKING:
    from pathlib import Path

    from tests.services.kafka import KafkaBroker

MB = 10**6


def ran(way: str, seconds: float, *, messages: int, megabytes: int = 100, cpu: float = 1.0) -> Run:
    """Return a run."""
    return Run(way, messages, seconds, cpu, megabytes * MB, files=1, file_bytes=1)


@pytest.mark.integration
@pytest.mark.slow
def test_all_ways_collect_the_same_messages(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Each leaves its files of all windows, checked; the results can be kept and drawn."""
    runs = measure(kafka, messages=12_000, rounds=1, memory=18_000)

    found = results(runs, 12_000)

    assert [(run.way, run.messages, run.files) for run in runs] == [
        (OURS, 12_000, 60),
        (LOOP, 12_000, 60),
        (TWO, 12_000, 120),
        (TWO_LOOPS, 12_000, 120),
        (OURS, FEW, 60),
        (LOOP, FEW, 60),
        (TWO, FEW, 120),
        (TWO_LOOPS, FEW, 120),
        (NAIVE, 12_000, 60),
        (OURS, 18_000, 60),
    ]
    assert json.loads(json.dumps(found)) == found
    plot(found, tmp_path / "results.svg")
    assert "naive pattern" in (tmp_path / "results.svg").read_text()


def test_a_median_counts_and_other_numbers_of_messages_count_for_memory_only() -> None:
    """Targets are judged by medians of the same number of messages, and by the highest peak."""
    ours = [ran(OURS, seconds, messages=8000, cpu=2.0) for seconds in (1.0, 1.5, 9.0)]
    loop = [ran(LOOP, seconds, messages=8000, cpu=3.0) for seconds in (0.1, 2.4, 9.0)]
    two = [ran(TWO, 1.0, messages=8000), ran(TWO_LOOPS, 1.5, messages=8000)]
    few = [ran(way, 0.5, messages=FEW, cpu=0.5) for way in (OURS, TWO)]
    few += [ran(way, 0.2, messages=FEW, cpu=0.2) for way in (LOOP, TWO_LOOPS)]
    small = ran(OURS, 1.0, messages=2000, megabytes=601)
    found = results([*ours, *loop, *two, *few, ran(NAIVE, 32.0, messages=8000), small], 8000)

    assert found["medians"][OURS]["seconds"] == 1.5
    assert found["starting"][LOOP]["seconds"] == 0.2
    assert list(found["with_starting"].values()) == [1.6, 1.5, 1.5]
    assert [(round(each["found"], 2), each["met"]) for each in found["targets"]] == [
        (2.2, True),
        (1.87, True),
        (21.33, True),
        (2.6, True),
        (601, False),
    ]


@pytest.mark.parametrize("ids", [[0, 1], [0, 1, 1], [0, 1, 2, 2]])
def test_files_that_are_not_what_was_sent_end_the_measurement(
    tmp_path: Path, ids: list[int]
) -> None:
    """Rows lost, rows doubled: there is no result."""
    pq.write_table(pa.table({"id": ids}), tmp_path / "a.parquet")

    with pytest.raises(SystemExit, match=f"3 messages became {len(ids)} rows"):
        check([tmp_path / "a.parquet"], 3)


def test_a_process_is_measured_alone() -> None:
    """Its memory is its own, not that of the tests, which is more; its exit code is passed on."""
    code = "import sys, time; held = bytearray(50_000_000); time.sleep(0.1); sys.exit(3)"
    command = [sys.executable, "-m", "bench.measured", sys.executable, "-c", code]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    taken = json.loads(done.stdout)
    assert done.returncode == 3
    assert taken["seconds"] >= 0.1
    assert 50 * MB <= taken["peak_bytes"] < 80 * MB
