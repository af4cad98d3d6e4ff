"""What a reader is: one way to come from files to batches that a training step can take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from tests.services.made import Made

__all__ = ["BUFFER", "COLUMNS", "ID", "VALUE", "Batch", "Job", "Prepare", "Read", "Reader"]

ID, VALUE = "id", "value"
COLUMNS = [ID, VALUE]
"""What is read: a number of 64 bits, one row's alone, and a fraction that follows from it."""

BUFFER = 10_000
"""Rows that a reader shuffles at once if it asks how many; ours mixes 262,144."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be read: all rows of a collection, once, in batches of ``size`` rows.

    Attributes:
        collection: its directory, whose Parquet files lie under ``data``.
        prepared: what the reader made of it beforehand, if it must.
        size: rows a batch; the last ones of a file or a worker may have fewer.
        shuffled: in random order, another one each time.
        workers: processes that read.
    """

    collection: Path
    prepared: Path
    size: int
    shuffled: bool
    workers: int

    @property
    def files(self) -> list[str]:
        """The Parquet files, in the order of their rows."""
        return sorted(str(path) for path in (self.collection / "data").rglob("*.parquet"))


Batch: TypeAlias = Mapping[str, Any]
"""Columns by name: NumPy arrays, or tensors of the framework that the reader is for."""

Read: TypeAlias = Callable[[Job], Iterable[Batch]]
Prepare: TypeAlias = Callable[[Path, Path], None]
"""Is given a collection, and an empty folder for what its reader reads."""


@dataclass(frozen=True, slots=True)
class Reader:
    """One way to read.

    Attributes:
        title: what the table calls it.
        gives: "NumPy", "PyTorch" or "TensorFlow": what its batches are made of.
        read: ``MODULE:FUNCTION`` of this package, a ``Read``; loads frameworks when it is called.
        modules: what is imported before it is measured.
        ours: whether it is this project's.
        made: an environment beside the project's, where it needs one.
        prepare: ``MODULE:FUNCTION``, a ``Prepare``, where it reads files of its own.
        rows: how many it gets at the most: preparing more would take minutes.
        shuffles: whether it can shuffle rows.
        workers: how many it is measured with.
        note: what explains it where it is ahead of ours.
    """

    title: str
    gives: str
    read: str
    modules: tuple[str, ...]
    ours: bool = False
    made: Made | None = None
    prepare: str | None = None
    rows: int = 1 << 62
    shuffles: bool = True
    workers: tuple[int, ...] = (0,)
    note: str = ""
