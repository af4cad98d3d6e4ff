"""What a log of a million entries costs: to go on with it, to open, to look at and to check it.

    python -m bench.log_for_years [--entries=999999] [--without=20000]

The entries are those of a collector with windows of 10 s and four partitions, written at once and
without their batch files. Each measurement is a process of its own: its seconds after its imports,
those of them that a core was busy, and the most memory that it ever had. ``--without`` is of how
many entries the same is measured without checkpoints. With one entry short of a million a reader
meets the most: 27 checkpoints, and 999 entries that have none yet. They take 5 GB of the disk, and
are removed again.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import orjson

import batch_collection
from batch_collection.checkpoints import ranges
from batch_collection.checkpoints.making import mend
from batch_collection.inspection.entries import LogAudit
from batch_collection.inspection.status import status
from batch_collection.log.entries import digest, newest_entry
from batch_collection.log.entry import BatchFile, CarryFile, Entry, Pane, PartitionRead, Source
from batch_collection.paths import batch_path, carry_path, entry_path, staged_path
from batch_collection.publishing.publish import publish, sweep
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.local import LocalStorage

if TYPE_CHECKING:
    from collections.abc import Callable

INTERVAL = timedelta(seconds=10)
BEGIN = datetime(2024, 1, 1, tzinfo=timezone.utc)
FILES = (1, 2, 0, 1, 4, 1, 0, 2)
"""Batch files of an entry, in turn."""

PARTITIONS, ROWS = range(4), 1000
_OPTIONS = orjson.OPT_INDENT_2 | orjson.OPT_NON_STR_KEYS | orjson.OPT_SORT_KEYS | orjson.OPT_UTC_Z


def entry_of(cycle: int, files: int, previous: str | None) -> Entry:
    """Return an entry of so many batch files."""
    end = BEGIN + cycle * INTERVAL
    start, token, offset = end - INTERVAL, crc32c(b"%d" % cycle), cycle * ROWS
    spans = dict.fromkeys(PARTITIONS, (offset, offset + ROWS - 1, ROWS // 4))
    share = files * ROWS // 4
    tokens = [crc32c(b"%d-%d" % (cycle, number)) for number in range(files)]
    paths = [batch_path(start, cycle, 0, n, token, ".parquet") for n, token in enumerate(tokens)]
    batches = tuple(
        BatchFile(path, staged_path(cycle, path), ROWS, 34_567, token, start, start, spans)
        for path in paths
    )
    return Entry(
        cycle=cycle,
        run="2f6c1a90",
        plan=token,
        previous=previous,
        host="collector-7d9f8",
        pid=12,
        committed_at=end,
        source=Source("kafka", "sensor", "xXSOyiy6Q8eqW7VCbZSX5Q", "4L6g3nShT-eMCtK--X86sw"),
        interval=INTERVAL,
        row_time="record",
        cause="interval",
        boundary=end,
        reads=tuple(
            PartitionRead(partition, offset, offset + ROWS, share, share, max_time=start)
            for partition in PARTITIONS
        ),
        panes=(Pane(start, end, "on_time", ROWS * files, batches),) if files else (),
        closed_empty=() if files else ((start, end),),
        carry=(CarryFile(carry_path(cycle, 0, 0, token), end, 10, 0, 4_321, token),),
        schema={"id": "int64", "value": "double", "place": "string"},
    )


def write_log(root: Path, entries: int) -> None:
    """Write a log, each entry chained to the last; there is nothing to publish of the newest."""
    (root / "log").mkdir(parents=True)
    previous = None
    for cycle in range(entries):
        files = FILES[cycle % len(FILES)] if cycle < entries - 1 else 0
        entry = entry_of(cycle, files, previous)
        fields = {name: getattr(entry, name) for name in entry.__slots__ if name != "interval"}
        fields["interval_seconds"] = INTERVAL.total_seconds()
        content = orjson.dumps(fields, option=_OPTIONS)
        (root / entry_path(cycle)).write_bytes(content)
        previous = digest(content)


def resume(storage: LocalStorage) -> str:
    """Do what a collector does with the log when it starts."""
    newest = newest_entry(storage)
    assert newest is not None
    publish(storage, newest)
    sweep(storage, newest)
    mend(storage, newest.cycle)
    return f"cycle {newest.cycle:,}"


def last_hour(storage: LocalStorage) -> str:
    """List the batches of the last hour."""
    view = batch_collection.open(storage)
    boundary = view.newest.boundary
    assert boundary is not None
    return f"{len(list(view.between(boundary - timedelta(hours=1), boundary))):,} batches"


def look(storage: LocalStorage) -> str:
    """Make a status."""
    return f"{status(storage).totals.rows:,} rows"


def rebuild(storage: LocalStorage) -> str:
    """Make all checkpoints anew."""
    for path in [*storage.list("log")]:
        if "checkpoint" in path:
            storage.delete([path])
    newest = newest_entry(storage)
    assert newest is not None
    mend(storage, newest.cycle, most=newest.cycle)
    files = [path for path in storage.list("log") if "checkpoint" in path]
    size = sum(storage.size(path) or 0 for path in files)
    return f"{len(files):,} files, {size / 1e3:,.0f} kB"


def check(storage: LocalStorage) -> str:
    """Do what an audit does with the log, the chain and the checkpoints; there are no files."""
    findings: list[str] = []
    log = LogAudit(storage, None, findings.append)
    assert log.newest is not None
    count = sum(1 for _ in log.entries(log.newest))
    assert not findings, findings[0]
    return f"{count:,} entries"


MEASURES: dict[str, Callable[[LocalStorage], str]] = {
    "resume": resume,
    "last_hour": last_hour,
    "status": look,
    "audit": check,
    "rebuild": rebuild,
}


def in_process(name: str, root: Path, *flags: str) -> None:
    """Measure in a new process, and print what it says."""
    command = [sys.executable, "-m", "bench.log_for_years", f"--measure={name}", f"--folder={root}"]
    subprocess.run([*command, *flags], check=True)  # noqa: S603 - this very program


def measure(name: str, root: str, *, plain: bool) -> None:
    """Measure in this process, and print."""
    storage = LocalStorage(root)
    if plain:
        ranges.LEVELS = 0  # as if no range had a checkpoint
    began, worked = time.monotonic(), time.process_time()
    found = MEASURES[name](storage)
    seconds, busy = time.monotonic() - began, time.process_time() - worked
    peak = re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())
    megabytes = int(peak[1]) / 1000 if peak else 0
    print(f"  {name:<10}{seconds:>8.2f} s{busy:>8.2f} s{megabytes:>8.0f} MB   {found}", flush=True)


def run(entries: int, few: int) -> None:
    """Write logs, measure, and clean up."""
    root = Path(tempfile.mkdtemp(prefix="log-for-years-"))
    try:
        for count, flags in ((few, ["--plain"]), (few, []), (entries, [])):
            folder = root / str(count)
            if not folder.exists():
                write_log(folder, count)
            print(f"{count:,} entries, {'without' if flags else 'with'} checkpoints")
            print(f"  {'':<10}{'wall':>10}{'busy':>10}{'peak':>11}", flush=True)
            names = [name for name in MEASURES if name != "rebuild"]
            for name in names if flags else ["rebuild", *names]:
                in_process(name, folder, *flags)
    finally:
        shutil.rmtree(root)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--entries", type=int, default=999_999)
    parser.add_argument("--without", type=int, default=20_000)
    parser.add_argument("--measure", choices=MEASURES, help=argparse.SUPPRESS)
    parser.add_argument("--folder", help=argparse.SUPPRESS)
    parser.add_argument("--plain", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.measure:
        measure(given.measure, given.folder, plain=given.plain)
    else:
        run(given.entries, given.without)
