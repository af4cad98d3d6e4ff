"""How fast batches are read for training, by this project and by others, in one run.

    python -m bench.readers [--rows=4_000_000] [--seconds=0.6] [--only=NAME ...] [--size=N ...]

All read the same two columns of the same Parquet files, or of copies in files of their own, in
batches of 10, 256 and 4,096 rows, plain and shuffled. Each measurement is a process of its own,
whose imports are measured apart, with the files in the system's cache. Rows are held against what
was written; a reader that gives others ends the measurement. Slow ones get fewer rows, or are left
after ``--seconds``: what the rest would have taken is reckoned from what they read. What a reader
needs more than this environment has is installed once, beside it, in the user's cache; one that
can't be had here is left out, and it is said why. All of it, with no ``--only`` and ``--size``, is
kept as ``bench/readers.json``; ``python -m bench.readers.table --write`` renews docs/training.md.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.child import python
from bench.readers.environments import environment
from bench.readers.known import READERS
from bench.readers.table import RESULTS, markdown
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["SIZES", "Bench", "main"]

SIZES = (10, 256, 4096)
_MOST_SECONDS = 300  # of a turn: none takes a tenth of it
_PACKAGES = ("duckdb", "numpy", "polars", "pyarrow", "tensorflow-cpu", "tensorflow", "torch")


class Bench:
    """Collections of some sizes, what readers prepared of them, and turns of readers."""

    def __init__(self, scratch: Path, rows: int, seconds: float) -> None:
        """Let readers have at most ``rows``, and write to ``scratch``."""
        self._scratch, self._rows, self._seconds = scratch, rows, seconds

    def turns(self, name: str, sizes: Sequence[int] = SIZES) -> Iterator[dict[str, Any]]:
        """Measure a reader in all its ways; yield what came of each.

        Raises:
            UnavailableError: it can't be had here.
        """
        reader = READERS[name]
        temporary = self._folder("temporary")
        variables = environment(reader, temporary)
        rows = min(self._rows, reader.rows)
        prepared = self._scratch / f"{name}-{rows}"
        given = {
            "collection": str(self._collection(rows)),
            "prepared": str(prepared),
            "rows": rows,
            "seconds": self._seconds,
        }
        if reader.prepare is not None and not prepared.exists():
            self._folder(prepared.name)
            whole = json.dumps(given | {"size": 1, "shuffled": False, "workers": 0})
            _turn(variables, "--prepare", name, whole)
        for workers in reader.workers:
            for shuffled in (False, True)[: 1 + reader.shuffles]:
                for size in sizes:
                    way = {"size": size, "shuffled": shuffled, "workers": workers}
                    job = json.dumps(given | way)
                    said = _turn(variables, name, job)
                    yield {"reader": name, **way, **json.loads(said.splitlines()[-1])}

    def _collection(self, rows: int) -> Path:
        collection = self._scratch / f"{rows}-rows"
        if not collection.exists():
            arguments = [str(collection), str(rows)]
            python("-m", "bench.readers.collected", *arguments)
        return collection

    def _folder(self, name: str) -> Path:
        folder = self._scratch / name
        folder.mkdir(exist_ok=True)
        return folder


def _turn(variables: Mapping[str, str], *arguments: str) -> str:
    """Let a reader have a turn; return what it printed."""
    return python(
        "-m", "bench.readers.turn", *arguments, variables=variables, seconds=_MOST_SECONDS
    )


def _results(given: argparse.Namespace, scratch: Path) -> dict[str, Any]:
    bench = Bench(scratch, given.rows, given.seconds)
    load = os.getloadavg()[0]
    turns: list[dict[str, Any]] = []
    left_out: dict[str, str] = {}
    for name in given.only or READERS:
        try:
            for turn in bench.turns(name, given.size or SIZES):
                turns.append(turn)
                print(_line(turn), file=sys.stderr, flush=True)
        except UnavailableError as error:
            left_out[name] = str(error)
            print(f"{name} is left out: {error}", file=sys.stderr)
    return {
        "measured_at": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%MZ}",
        "machine": {
            "cpus": os.cpu_count(),
            "load": round(load, 1),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "packages": dict(_versions()),
        },
        "rows": given.rows,
        "left_out": left_out,
        "turns": turns,
    }


def _versions() -> Iterator[tuple[str, str]]:
    for name in _PACKAGES:
        try:
            yield name, version(name)
        except PackageNotFoundError:
            continue


def _line(turn: dict[str, Any]) -> str:
    order = "shuffled" if turn["shuffled"] else "plain"
    return (
        f"{turn['reader']:<20}{turn['size']:>6}  {order:<9}{turn['workers']} workers"
        f"{turn['rows_per_second'] / 1e3:>10,.1f} thousand rows/s"
        f"{turn['cpu_seconds_per_row'] * 1e9:>9,.0f} ns of CPU a row"
        f"{turn['first_seconds'] * 1e3:>8,.0f} ms first{turn['peak_bytes'] / 1e6:>7,.0f} MB"
        f"  {turn['epochs']} epochs"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--seconds", type=float, default=0.6)
    parser.add_argument("--only", choices=READERS, action="append")
    parser.add_argument("--size", type=int, action="append", help="rows a batch")
    given = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as scratch:
        found = _results(given, Path(scratch))
    if not given.only and not given.size:
        RESULTS.write_text(f"{json.dumps(found, indent=1)}\n", encoding="utf-8")
    print(markdown(found))
    return 0


if __name__ == "__main__":
    sys.exit(main())
