"""The reading side in processes of its own: with nothing but pyarrow, and beside a writer."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pytest

import batch_collection
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from batch_collection.collection import Collection

ROOT = Path(__file__).parents[3]
ALONE = """
import sys

ALLOWED = {"batch_collection", "google_crc32c", "numpy", "pyarrow", *sys.stdlib_module_names}

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top in ALLOWED or top.startswith("_") or top == "google":
            return None
        raise ModuleNotFoundError(f"no {name} here", name=name)

sys.meta_path.insert(0, Refuse())

import batch_collection
from batch_collection.errors import CollectionError

view = batch_collection.open(sys.argv[1])
assert view.to_arrow().num_rows == 20
assert view.scan().count_rows() == 20
assert view.split({"a": 1.0}, by="device")["a"].rows == 20
assert [b.num_rows for b in view.to_arrow_batches(8, shuffle=1)] == [8, 8, 4]
assert sum(len(b["id"]) for b in view.to_numpy_batches(8)) == 20
assert sum(batch.rows for batch in view.follow("a", once=True)) == 20
for read in (view.to_pandas, view.to_polars, view.to_duckdb, lambda: view.to_torch(8)):
    try:
        read()
    except CollectionError as error:
        assert "pip install" in str(error)
    else:
        raise AssertionError("it was installed")
print("all read")
"""
WRITER = """
import sys
from pathlib import Path
from tests.tables import TableCollector, numbered

collector = TableCollector.at(Path(sys.argv[1]))
number = 0
while True:
    files = [(minute % 7, numbered(number + minute, number + minute + 50)) for minute in range(3)]
    collector.collect(*files, closed=number % 7)
    number += 1
    print(collector.newest.cycle, flush=True)
"""
READER = """
import re, sys
from pathlib import Path
import batch_collection

view = batch_collection.open(sys.argv[1])
batches = view.to_numpy_batches(1024, shuffle=1)
rows = sum(len(batch["value"]) for batch in batches)
# not getrusage's: that one counts the process that started this, the whole of pytest
peak = re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]
print(rows, int(peak) * 1024 // 1_000_000)
"""


SCANS = """
import sys
import batch_collection

view = batch_collection.open(sys.argv[1])
for _ in range(100):
    reader = view.scan().scanner().to_reader()
    reader.read_next_batch()
    del reader
print("all dropped")
"""


def test_scans_that_are_dropped_before_their_end_are_over(tmp_path: Path) -> None:
    """Arrow's threads wait for nothing that Python holds, which would be for ever."""
    collector = TableCollector.at(tmp_path, row_group=400)
    for minute in range(6):
        collector.collect(*((minute, numbered(0, 100)) for _ in range(10)), closed=minute)

    command = [sys.executable, "-c", SCANS, str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, timeout=60, capture_output=True, text=True, check=True)

    assert done.stdout.split("\n")[0] == "all dropped"


def test_reading_needs_nothing_but_pyarrow(tmp_path: Path) -> None:
    """And numpy and google-crc32c: an import of anything else is refused."""
    TableCollector.at(tmp_path).collect((0, numbered(0, 12)), (1, numbered(12, 20)))

    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(ALONE), str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr, done.returncode) == ("all read\n", "", 0)


def test_a_snapshot_stays_as_it_is_beside_a_collector(tmp_path: Path) -> None:
    """Another process commits and publishes all the while; the same cycle gives the same bytes."""
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        try:
            writer.stdout.readline()
            views: list[Collection] = []
            first: list[object] = []
            for _ in range(10):
                writer.stdout.readline()
                views.append(batch_collection.open(tmp_path))
                first.append(content(views[-1]))
            again = [content(view) for view in views]
        finally:
            writer.kill()
    newest = batch_collection.open(tmp_path)

    assert again == first
    assert [content(newest.at(cycle=view.newest.cycle)) for view in views] == first
    assert [view.rows for view in views] == [150 * view.newest.cycle for view in views]
    assert views[-1].newest.cycle > views[0].newest.cycle


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_memory_does_not_grow_with_the_collection(tmp_path: Path) -> None:
    """10 M rows, shuffled, in less than 500 MB, pyarrow and numpy included."""
    collector, rng = TableCollector.at(tmp_path), np.random.default_rng(0)
    for minute in range(10):
        values = {name: rng.normal(size=1_000_000) for name in ("value", "x", "y")}
        collector.collect((minute, pa.table(values)))

    done = subprocess.run(
        [sys.executable, "-c", READER, str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )

    rows, megabytes = map(int, done.stdout.split())
    assert rows == 10_000_000
    assert megabytes < 500


def content(view: Collection) -> list[object]:
    """Return all that a view gives, in order."""
    table = view.to_arrow()
    shuffled = [batch.column("id").to_pylist() for batch in view.to_arrow_batches(64, shuffle=1)]
    return [table.to_pydict(), shuffled, view.scan().to_table().equals(table)]
