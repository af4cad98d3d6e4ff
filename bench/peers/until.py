"""Run a command that never ends until its Parquet files hold so many rows.

python -m bench.peers.until DIRECTORY ROWS COMMAND...
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

__all__ = ["main"]

_LOOK_SECONDS = 0.2


def main(directory: Path, rows: int, command: list[str]) -> int:
    """Return 0 once the rows are there, or the command's exit code if it ends before."""
    known: dict[Path, int] = {}
    with subprocess.Popen(command) as process:  # noqa: S603 - one of the peers
        while sum(known.values()) < rows and process.poll() is None:
            time.sleep(_LOOK_SECONDS)
            for file in directory.rglob("*.parquet"):
                if file not in known:
                    try:
                        known[file] = pq.ParquetFile(file).metadata.num_rows
                    except pa.ArrowInvalid:  # it is not whole yet
                        continue
        process.terminate()
        code = process.wait()
    return 0 if sum(known.values()) >= rows else code or 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3:]))
