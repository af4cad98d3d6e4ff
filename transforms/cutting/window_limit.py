"""How many windows and bytes a task has, chunk by chunk, and when they are too many."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.compute as pc

from batch_collection.windows import microseconds
from transforms.cutting.row_bytes import ends_of, fitting, row_bytes
from transforms.elements.partitions import run_starts

if TYPE_CHECKING:
    from datetime import timedelta

    import pyarrow as pa

    from transforms.elements.plan import Task

__all__ = ["TooManyWindows", "WindowLimit"]


class TooManyWindows(Exception):  # noqa: N818 - no failure: the cycle is planned again
    """A task's rows are of more windows, or its messages of more bytes, than its plan allows.

    The name is what reports and notes have for both.

    Attributes:
        limit: how many messages the cycle should read instead.
    """

    def __init__(self, task: Task, fits: int, what: str) -> None:
        """Take how many of the task's messages stay within the bound, and what is beyond."""
        plan, of_task = task.plan, sum(each.end - each.first for each in task.slices)
        of_task = of_task if task.pull is None else task.pull.messages
        # a part of them, which other partitions may have more windows in; fewer each time
        self.limit = max(plan.messages * fits * 3 // (max(of_task, 1) * 4), 1)
        super().__init__(
            f"{what}; it reads at most {self.limit:,} messages instead of {plan.messages:,}"
        )


@dataclass(slots=True)
class WindowLimit:
    """Counts the windows of one attempt at a task, and the bytes of its messages.

    Each window with rows becomes a file at least, and a part of the cycle's entry; a day of row
    times that are wrong, or a backlog of years with few messages, has any number of them. Bytes
    are those of values; no offset tells of them before they are read.
    """

    task: Task
    _starts: set[int] = field(default_factory=set)
    _messages: int = 0
    _bytes: int = 0

    def add(self, messages: pa.Table, rows: pa.Table) -> None:
        """Take in a chunk of messages and their rows.

        Raises:
            TooManyWindows: it has too many new ones, or too many bytes.
        """
        self._add_bytes(messages)
        most = self.task.plan.most_windows
        if most is not None and rows.num_rows:
            starts, places = _windows(rows, self.task.plan.interval)
            new = [place for start, place in zip(starts, places, strict=True) if start not in self]
            if len(self._starts) + len(new) > most:
                excess = sorted(new)[most - len(self._starts)]
                fits = self._messages + _before(messages, rows, excess)
                what = f"its rows are of more than {most * self.task.plan.tasks:,} windows"
                raise TooManyWindows(self.task, fits, what)
            self._starts.update(starts)
        self._messages += messages.num_rows

    def _add_bytes(self, messages: pa.Table) -> None:
        most = self.task.plan.most_bytes
        if most is None or not messages.num_rows:
            return
        ends = ends_of(row_bytes(messages.column("value")))
        fits = self._messages + fitting(ends, 0, most - self._bytes)
        self._bytes += int(ends[-1])
        if self._bytes > most:
            what = f"its messages have more than {most * self.task.plan.tasks:,} bytes"
            raise TooManyWindows(self.task, fits, what)

    def __contains__(self, start: int) -> bool:
        """Tell whether a window that begins then was seen."""
        return start in self._starts


def _windows(rows: pa.Table, interval: timedelta) -> tuple[list[int], list[int]]:
    """Return the windows of rows, by their number since the epoch, and where each comes first."""
    numbers = rows.column("row_time").to_numpy() // microseconds(interval)
    changes = run_starts(numbers)
    found, first = np.unique(numbers[changes], return_index=True)
    return found.tolist(), changes[first].tolist()


def _before(messages: pa.Table, rows: pa.Table, place: int) -> int:
    """Return how many messages come before the one that a row is of."""
    partition, offset = (rows.column(name)[place] for name in ("partition", "offset"))
    is_it = pc.and_(
        pc.equal(messages.column("partition"), partition),
        pc.equal(messages.column("offset"), offset),
    )
    return int(pc.index(is_it, value=True).as_py())
