"""Steps that workers run in place of the graph's, and a function that kills who calls it."""

from __future__ import annotations

import json
import logging
import os
import signal
from collections import Counter
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa

from batch_collection.errors import WriteError
from transforms.elements.observers import say
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable

    from transforms.elements.plan import Task

__all__ = [
    "DEADLY",
    "TRAP",
    "Toy",
    "breaks",
    "counts",
    "fails",
    "leaves",
    "mortal",
    "waits",
    "warns",
]

TRAP = "TRAP_OF_A_TEST"
"""The variable that names a file: who finds and removes it dies."""
DEADLY = "deadly"
"""The field of a message that kills whoever decodes it."""


@dataclass(eq=False)
class Toy:
    """Calls a function with each task; nothing is reported, so nothing is committed."""

    act: Callable[[Task], object]

    def accounts(self, tasks: Any) -> Any:
        """Wire it."""
        return tasks | "Act" >> beam.Map(self.act) | "Nothing" >> beam.FlatMap(lambda _: ())


def counts(task: Task) -> None:
    """Say which process this is, which task, and how many this process had before."""
    before = current().kept(counts, Counter[str])
    say(f"{os.getpid()} {task.number} {before.total()}")
    before["tasks"] += 1


def warns(_: Task) -> None:
    """Log what a library would."""
    logging.getLogger("library").warning("it is slow")


def fails(task: Task) -> None:
    """Fail one task of some."""
    if task.number == 0:
        message = "no space left"
        raise WriteError(message)


def breaks(_: Task) -> None:
    """Be wrong."""
    message = "a bug"
    raise ValueError(message)


def leaves(_: Task) -> None:
    """End the process, as nobody should."""
    os._exit(7)


def waits(_: Task) -> None:
    """Wait for the word to stop."""
    say("waiting")
    assert current().stop.wait(60)
    say("stopped")


def mortal(messages: pa.Table) -> pa.Table:
    """Return a row a message, with its id; see ``TRAP`` and ``DEADLY``."""
    rows = [json.loads(value) for value in messages.column("value").to_pylist()]
    if TRAP in os.environ:
        with suppress(FileNotFoundError):
            Path(os.environ[TRAP]).unlink()
            os.kill(os.getpid(), signal.SIGKILL)
    if any(DEADLY in row for row in rows):
        os.kill(os.getpid(), signal.SIGKILL)
    return pa.table({"id": pa.array([row["id"] for row in rows], pa.int64())})
