"""The element between cutting and writing: one batch of one window."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from apache_beam import coders

from batch_collection.log.entry import CarryFile
from transforms.cutting.cut import Cut, Segment
from transforms.cutting.waiting import InMemory
from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    from transforms.elements.plan import Task

__all__ = ["Batch", "BatchCoder"]


@dataclass(frozen=True, slots=True)
class Batch:
    """The rows of one batch file or carry file, and its number in the task."""

    task: Task
    attempt: str
    number: int
    cut: Cut


class BatchCoder(coders.Coder):
    """Rows as Arrow IPC, carry files by name. Used only where a runner did not fuse the steps."""

    def encode(self, value: Batch) -> bytes:
        """Load what is in a spill file: another process can't."""
        segments = tuple(map(_portable, value.cut.segments))
        return pickle.dumps(replace(value, cut=value.cut._replace(segments=segments)))

    def decode(self, encoded: bytes) -> Batch:
        """Read what ``encode`` wrote."""
        batch: Batch = pickle.loads(encoded)  # noqa: S301 - our own bytes
        segments = tuple(map(_loaded, batch.cut.segments))
        return replace(batch, cut=batch.cut._replace(segments=segments))

    def estimate_size(self, value: Batch) -> int:
        """Return a guess: the rows may be on disk."""
        return 100 * value.cut.rows


coders.registry.register_coder(Batch, BatchCoder)


def _portable(segment: Segment) -> Any:
    if isinstance(segment.source, CarryFile):
        return segment
    pieces = segment.source.pieces(segment.start, segment.rows)  # type: ignore[attr-defined]
    return write_ipc(pa.concat_tables(pieces)).to_pybytes()


def _loaded(portable: Any) -> Segment:
    if isinstance(portable, Segment):
        return portable
    rows = InMemory(read_ipc(pa.py_buffer(portable)))
    return Segment(rows, 0, rows.rows)
