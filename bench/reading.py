"""How fast batches are read, against pyarrow's own and the usual ways of TensorFlow and PyTorch.

    python -m bench.reading [--rows=10_000_000] [--directory=DIR]

Each way reads the same two columns of the same Parquet files, some times in turn with the others;
the median counts. Frameworks run in processes of their own. Memory is the peak of a process that
reads all rows.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

import batch_collection
from tests.tables import TableCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection import Collection

__all__ = ["main"]

COLUMNS = ["value", "count"]
SIZE = 1024  # rows a batch
ROUNDS = {"arrow": 9, "memory": 1}
_FILE_ROWS = 1_000_000


def made(root: Path, rows: int) -> None:
    """Write a collection of so many rows, a million a window and file."""
    collector = TableCollector.at(root)
    rng = np.random.default_rng(0)
    devices = np.array([f"device-{i}" for i in range(1000)])
    for minute, first in enumerate(range(0, rows, _FILE_ROWS)):
        count = min(_FILE_ROWS, rows - first)
        table = pa.table(
            {
                "value": rng.normal(size=count),
                "count": rng.integers(0, 1000, count),
                "device": pa.array(devices[rng.integers(0, 1000, count)]),
                "_offset": np.arange(first, first + count),
            }
        )
        collector.collect((minute, table))


def arrow_ways(root: Path) -> dict[str, Callable[[], int]]:
    """Return pyarrow's own batches, and ours of the same size and smaller."""
    view = batch_collection.open(root)
    files = str(root / "data")
    return {
        "pyarrow.dataset, 131,072 rows": lambda: _rows(
            ds.dataset(files).to_batches(columns=COLUMNS)
        ),
        "scan(), 131,072 rows": lambda: _rows(view.scan(COLUMNS).to_batches()),
        "to_arrow_batches(131_072)": lambda: _rows(view.to_arrow_batches(131_072, COLUMNS)),
        "pyarrow.dataset, 1,024 rows": lambda: _rows(
            ds.dataset(files).to_batches(columns=COLUMNS, batch_size=SIZE)
        ),
        "to_arrow_batches(1_024)": lambda: _rows(view.to_arrow_batches(SIZE, COLUMNS)),
        "to_numpy_batches(1_024)": lambda: _lengths(view.to_numpy_batches(SIZE, columns=COLUMNS)),
        "the same, shuffled": lambda: _lengths(
            view.to_numpy_batches(SIZE, columns=COLUMNS, shuffle=0)
        ),
        "the same, 80 % by device": lambda: _lengths(
            view.split({"train": 0.8}, by="device")["train"].to_numpy_batches(SIZE, columns=COLUMNS)
        ),
    }


def tensorflow_ways(root: Path) -> dict[str, Callable[[], int]]:
    """Return tf.data over the same files, and ours."""
    import tensorflow as tf  # noqa: PLC0415 - an extra

    view = batch_collection.open(root)
    signature = {
        "value": tf.TensorSpec((None,), tf.float64),
        "count": tf.TensorSpec((None,), tf.int64),
    }

    def batches(size: int) -> Iterator[dict[str, Any]]:
        for batch in ds.dataset(str(root / "data")).to_batches(columns=COLUMNS, batch_size=size):
            yield {name: batch.column(name).to_numpy() for name in COLUMNS}

    def generated(size: int) -> Any:
        return tf.data.Dataset.from_generator(lambda: batches(size), output_signature=signature)

    def in_memory() -> int:
        table = ds.dataset(str(root / "data")).to_table(columns=COLUMNS)
        arrays = {name: table[name].to_numpy() for name in COLUMNS}
        return _lengths(tf.data.Dataset.from_tensor_slices(arrays).batch(SIZE).take(2_000))

    return {
        "from_generator(to_batches(1_024))": lambda: _lengths(generated(SIZE)),
        "the same, .unbatch().batch(1_024)": lambda: _lengths(
            generated(131_072).unbatch().batch(SIZE).take(500)
        ),
        "from_generator(to_batches(131_072)).rebatch(1_024)": lambda: _lengths(
            generated(131_072).rebatch(SIZE)
        ),
        "from_tensor_slices(a table), .batch(1_024)": in_memory,
        "to_tf(1_024)": lambda: _lengths(view.to_tf(SIZE, columns=COLUMNS)),
        "from_generator(to_batches(32))": lambda: _lengths(generated(32).take(5_000)),
        "to_tf(32)": lambda: _lengths(view.to_tf(32, columns=COLUMNS).take(5_000)),
    }


def torch_ways(root: Path) -> dict[str, Callable[[], int]]:
    """Return torch over the same files, and ours."""
    import torch  # noqa: PLC0415 - an extra
    from torch.utils.data import DataLoader, IterableDataset  # noqa: PLC0415

    view = batch_collection.open(root)

    class Rows(IterableDataset):  # type: ignore[misc] # torch is Any where it is missing
        """The usual iterable: rows of dicts, which the loader puts together."""

        def __iter__(self) -> Iterator[dict[str, Any]]:
            for batch in ds.dataset(str(root / "data")).to_batches(columns=COLUMNS):
                yield from batch.to_pylist()

    class Table(torch.utils.data.Dataset):  # type: ignore[misc]
        """The usual map: a table in memory, a row by its number."""

        def __init__(self) -> None:
            table = ds.dataset(str(root / "data")).to_table(columns=COLUMNS)
            self.columns = {name: table[name].to_numpy() for name in COLUMNS}

        def __len__(self) -> int:
            return len(self.columns["value"])

        def __getitem__(self, row: int) -> dict[str, Any]:
            return {name: column[row] for name, column in self.columns.items()}

    def taken(loader: Any, batches: int) -> int:
        return _lengths(batch for batch, _ in zip(loader, range(batches), strict=False))

    return {
        "DataLoader(rows, 1_024)": lambda: taken(DataLoader(Rows(), SIZE), 500),
        "DataLoader(a table, 1_024)": lambda: taken(DataLoader(Table(), SIZE), 500),
        "to_torch(1_024)": lambda: _lengths(view.to_torch(SIZE, columns=COLUMNS)),
        "to_torch(1_024) in DataLoader": lambda: _lengths(
            DataLoader(view.to_torch(SIZE, columns=COLUMNS), batch_size=None)
        ),
        "to_torch(32)": lambda: _lengths(view.to_torch(32, columns=COLUMNS)),
    }


def memory_ways(root: Path) -> dict[str, Callable[[], int]]:
    """Return a reading of everything, shuffled."""
    view: Collection = batch_collection.open(root)
    return {"all columns, shuffled": lambda: _lengths(view.to_numpy_batches(SIZE, shuffle=0))}


WAYS = {
    "arrow": arrow_ways,
    "tensorflow": tensorflow_ways,
    "torch": torch_ways,
    "memory": memory_ways,
}


def _rows(batches: Any) -> int:
    return sum(batch.num_rows for batch in batches)


def _lengths(batches: Any) -> int:
    return sum(len(batch["value"]) for batch in batches)


def _measured(ways: dict[str, Callable[[], int]], rounds: int) -> dict[str, float]:
    """Return rows a second, the median of some rounds in each of which all ways have their turn."""
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            begun = time.perf_counter()
            rows = way()
            found[name].append(rows / (time.perf_counter() - begun))
    return {name: statistics.median(speeds) for name, speeds in found.items()}


def _child(kind: str, root: Path) -> dict[str, Any]:
    """Measure in a process of its own."""
    command = [sys.executable, "-m", "bench.reading", f"--only={kind}", f"--directory={root}"]
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(  # noqa: S603 - this program
        command, capture_output=True, text=True, check=False, env=environment
    )
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def _print(title: str, base: str, speeds: dict[str, float]) -> None:
    print(f"\n{title:<46}{'M rows/s':>9}{'ratio':>8}")
    for name, speed in speeds.items():
        print(f"  {name:<44}{speed / 1e6:>9.2f}{speed / speeds[base]:>8.2f}", flush=True)


def main() -> None:
    """Measure, and print a table for each kind."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--directory", type=Path)
    parser.add_argument("--only", choices=WAYS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.only:
        speeds = _measured(WAYS[args.only](args.directory), ROUNDS.get(args.only, 3))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        print(json.dumps({"speeds": speeds, "peak": peak}))
        return
    with tempfile.TemporaryDirectory() as scratch:
        root = args.directory or Path(scratch, "collection")
        if not root.exists():
            made(root, args.rows)
        print(f"{batch_collection.open(root).rows:,} rows, 4 columns, 2 of them read")
        speeds = _child("arrow", root)["speeds"]
        names = list(speeds)
        _print("Arrow", names[0], {name: speeds[name] for name in names[:3]})
        _print("in small batches", names[3], {name: speeds[name] for name in names[3:]})
        for kind, base in (("tensorflow", 0), ("torch", 0)):
            if importlib.util.find_spec(kind) is None:
                print(f"\n{kind} is not installed")
                continue
            speeds = _child(kind, root)["speeds"]
            _print(kind, list(speeds)[base], speeds)
        print(f"\npeak memory, all columns shuffled: {_child('memory', root)['peak'] / 1e6:.0f} MB")


if __name__ == "__main__":
    main()
