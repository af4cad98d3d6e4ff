"""How fast rows are read shuffled, and those of one side of a split, beside all rows as they lie.

    python -m bench.narrowed [--rows=4_000_000] [--epochs=9] [--size=N ...]

Two columns of the same files, which are in the system's cache, come as NumPy arrays. The ways take
turns in one process, each epoch opens the collection anew, and medians count. The side has 80 % of
the rows by a column of 1,000 texts; its first loop also tells which rows are on it, its second
does not.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import batch_collection
from bench.collecting import show_target, target
from bench.readers.collected import collect
from bench.readers.contract import COLUMNS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from batch_collection.collection import Collection

__all__ = ["main"]

SIZES = (10, 256, 4096)
LEAST = 0.5
"""Of the speed of all rows as they lie."""

_FRACTIONS = {"train": 0.8, "test": 0.2}


class Epoch(NamedTuple):
    """What a row took, in nanoseconds; and the first batch, in milliseconds."""

    nanoseconds: float
    cpu_nanoseconds: float
    first_milliseconds: float


def ways(collection: Path) -> dict[str, Callable[[int], Iterable[Any]]]:
    """Return how batches of so many rows are read, by what they are."""

    def whole() -> Collection:
        return batch_collection.open(collection)

    def side() -> Collection:
        return whole().split(_FRACTIONS, by="device")["train"]

    def read(view: Callable[[], Collection], shuffle: int | None, size: int) -> Iterable[Any]:
        return view().to_numpy_batches(size, columns=COLUMNS, shuffle=shuffle)

    same = side()
    return {
        "all": partial(read, whole, None),
        "shuffled": partial(read, whole, 0),
        "80 % side": partial(read, side, None),
        "80 % side again": partial(read, lambda: same, None),
    }


def measured(read: Callable[[], Iterable[Any]]) -> Epoch:
    """Read an epoch, whose batches are thrown away."""
    began, cpu, rows, first = time.perf_counter(), time.process_time(), 0, 0.0
    for batch in read():
        first = first or time.perf_counter() - began
        rows += len(batch[COLUMNS[0]])
    return Epoch(
        (time.perf_counter() - began) / rows * 1e9,
        (time.process_time() - cpu) / rows * 1e9,
        first * 1e3,
    )


def compare(collection: Path, size: int, epochs: int) -> dict[str, float]:
    """Print what each way takes; return its speed, that of all rows as they lie being 1."""
    every = ways(collection)
    found: dict[str, list[Epoch]] = {name: [] for name in every}
    for _ in range(epochs + 1):
        for name, read in every.items():
            found[name].append(measured(partial(read, size)))
    medians = {
        name: Epoch(*map(statistics.median, zip(*taken[1:], strict=True)))
        for name, taken in found.items()
    }
    whole = next(iter(medians.values())).nanoseconds
    print(f"batches of {size:,}")
    for name, epoch in medians.items():
        print(
            f"  {name:<15} {1e3 / epoch.nanoseconds:6.1f} million rows/s, "
            f"{epoch.cpu_nanoseconds:5.1f} ns of CPU a row, first batch after "
            f"{epoch.first_milliseconds:4.0f} ms, {whole / epoch.nanoseconds:.2f} of all"
        )
    return {name: whole / epoch.nanoseconds for name, epoch in medians.items() if name != "all"}


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all ways at all sizes."""
    parser = argparse.ArgumentParser(description="shuffled rows and a side, beside all rows")
    parser.add_argument("--rows", type=int, default=4_000_000)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--size", type=int, action="append")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        collection = Path(folder)
        collect(collection, options.rows)
        for size in options.size or SIZES:
            for name, ratio in compare(collection, size, options.epochs).items():
                show_target(target(f"{name}, of all as they lie", ratio, least=LEAST))


if __name__ == "__main__":
    main()
