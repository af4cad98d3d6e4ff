"""Write the collection that is read.

python -m bench.readers.collected DIRECTORY ROWS
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa

from bench.readers.account import values
from bench.readers.contract import ID, VALUE
from tests.tables import TableCollector

__all__ = ["collect"]

_FILE_ROWS = 1_000_000
_LEAST_FILES = 2  # one for each of two workers
_DEVICES = 1000


def collect(root: Path, rows: int) -> None:
    """Write a collection of so many rows, at most a million a window and file."""
    collector = TableCollector.at(root)
    rng = np.random.default_rng(0)
    devices = np.array([f"device-{number}" for number in range(_DEVICES)])
    step = min(_FILE_ROWS, -(-rows // _LEAST_FILES))
    for minute, first in enumerate(range(0, rows, step)):
        ids = np.arange(first, min(first + step, rows))
        columns = {
            VALUE: values(ids),
            ID: ids,
            "device": devices[rng.integers(0, _DEVICES, len(ids))],
            "_offset": ids,
        }
        collector.collect((minute, pa.table(columns)))


if __name__ == "__main__":
    collect(Path(sys.argv[1]), int(sys.argv[2]))
