"""Measure one reader once, in a process that does nothing else; print it as a line of JSON.

    python -m bench.readers.turn NAME JOB
    python -m bench.readers.turn --prepare NAME JOB

It is what ``python -m bench.readers`` starts; ``JOB`` is JSON.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import resource
import statistics
import sys
import time
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from bench.readers.contract import ID, Job

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from bench.readers.contract import Batch, Reader

__all__ = ["Epoch", "Turn", "main", "measure", "named"]

_LEAST_EPOCHS, _MOST_EPOCHS = 3, 6  # where one comes to its end in time
_LUMP_ROWS = 1 << 16  # rows that are looked at together


class Epoch(NamedTuple):
    """A loop over all rows, or some of them: seconds and rows to the first batch and to the end.

    CPU seconds are of this process and all its threads. ``left``: the time was over before it.
    """

    first_seconds: float
    first_rows: int
    seconds: float
    rows: int
    cpu_seconds: float
    left: bool

    def all_seconds(self, rows: int) -> float:
        """Return what all rows would have taken: those that were left out as long as the others."""
        if not self.left or self.rows == self.first_rows:
            return self.seconds * rows / self.rows
        pace = (self.seconds - self.first_seconds) / (self.rows - self.first_rows)
        return self.first_seconds + pace * (rows - self.first_rows)


@dataclass(frozen=True, slots=True)
class Turn:
    """What one process measured.

    Attributes:
        rows: that the reader was given.
        rows_per_second: of a whole epoch, from its first call to its last batch: the median of
            all epochs but the first, if there are several.
        cpu_seconds_per_row: of this process, without workers, likewise.
        first_seconds: from the first call to the first batch, in the first epoch.
        import_seconds: before that, and in no other figure.
        peak_bytes: of resident memory, imports and all.
        imported_bytes: what of it imports take.
        worker_peak_bytes: of the largest worker, with what it shares with its parent.
        epochs: how many were read within the time.
        whole: whether one came to its end, so that all rows are known to have come.
    """

    rows: int
    rows_per_second: float
    cpu_seconds_per_row: float
    first_seconds: float
    import_seconds: float
    peak_bytes: int
    imported_bytes: int
    worker_peak_bytes: int
    epochs: int
    whole: bool


def measure(reader: Reader, job: Job, rows: int, seconds: float) -> Turn:
    """Read epochs for so many seconds, and one batch at least.

    Raises:
        WrongRowsError: the rows are not those of the collection.
    """
    begun = time.perf_counter()
    for module in reader.modules:
        importlib.import_module(module)
    read = named(reader.read)
    import_seconds = time.perf_counter() - begun
    from bench.readers.account import Account, total  # noqa: PLC0415 - NumPy is imported by now

    imported_bytes = _peak(resource.RUSAGE_SELF)
    account = Account(rows)
    end = time.perf_counter() + seconds
    epochs = [_epoch(lambda: read(job), account.take, seconds)]
    account.close(whole=not epochs[0].left)
    while not epochs[-1].left and (
        len(epochs) < _LEAST_EPOCHS or (len(epochs) < _MOST_EPOCHS and time.perf_counter() < end)
    ):
        epochs.append(_epoch(lambda: read(job), total, seconds))
    gc.collect()  # workers are waited for: only then their memory is known
    timed = epochs[1:] or epochs
    return Turn(
        rows=rows,
        rows_per_second=rows / statistics.median(each.all_seconds(rows) for each in timed),
        cpu_seconds_per_row=statistics.median(each.cpu_seconds / each.rows for each in timed),
        first_seconds=epochs[0].first_seconds,
        import_seconds=import_seconds,
        peak_bytes=_peak(resource.RUSAGE_SELF),
        imported_bytes=imported_bytes,
        worker_peak_bytes=_peak(resource.RUSAGE_CHILDREN),
        epochs=len(epochs),
        whole=not epochs[0].left,
    )


def _epoch(
    read: Callable[[], Any], look: Callable[[Sequence[Batch]], object], seconds: float
) -> Epoch:
    """Read all rows, or for so many seconds after the first batch."""
    begun, cpu = time.perf_counter(), time.process_time()
    batches: Iterator[Batch] = iter(read())
    lump = [next(batches)]
    rows = first_rows = len(lump[0][ID])
    first = time.perf_counter() - begun
    end, looked, left = begun + first + seconds, 0, False
    for batch in batches:
        lump.append(batch)
        rows += len(batch[ID])
        if rows - looked >= _LUMP_ROWS:
            look(lump)
            lump, looked = [], rows
        if left := time.perf_counter() > end:
            break
    if lump:
        look(lump)
    taken = time.perf_counter() - begun
    return Epoch(first, first_rows, taken, rows, time.process_time() - cpu, left)


def named(function: str) -> Any:
    """Return ``MODULE:FUNCTION`` of this package."""
    module, _, name = function.partition(":")
    return getattr(importlib.import_module(f"bench.readers.{module}"), name)


def _peak(whose: int) -> int:
    return resource.getrusage(whose).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def main(arguments: Sequence[str]) -> None:
    """Measure, or prepare what is measured."""
    from bench.readers.known import READERS  # noqa: PLC0415 - the parent imports it, too

    warnings.simplefilter("ignore")
    reader, given = READERS[arguments[-2]], json.loads(arguments[-1])
    rows, seconds = given.pop("rows"), given.pop("seconds")
    given |= {name: Path(given[name]) for name in ("collection", "prepared")}
    job = Job(**given)
    if arguments[0] == "--prepare":
        assert reader.prepare is not None
        named(reader.prepare)(job.collection, job.prepared)
        return
    turn = measure(reader, job, rows, seconds)
    print(json.dumps(asdict(turn)), flush=True)
    os._exit(0)  # some leave threads or processes behind that would be waited for


if __name__ == "__main__":
    main(sys.argv[1:])
