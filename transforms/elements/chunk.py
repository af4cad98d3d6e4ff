"""The element on the edges of the graph: some thousand messages, or rows, as one Arrow table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from apache_beam import coders

from transforms.elements.records import framed, unframed
from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    import pyarrow as pa

    from transforms.elements.plan import Task

__all__ = ["REPORTS", "Chunk", "ChunkCoder"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages, or rows (``position_of`` them and ``payload``), of one attempt at a task.

    ``last`` marks the task's end; it follows everything else and brings no rows.
    """

    task: Task
    attempt: str
    table: pa.Table
    last: bool = False


class _Head(NamedTuple):
    task: Task
    attempt: str
    last: bool = False


class ChunkCoder(coders.Coder):
    """JSON, then Arrow IPC: a pickle takes whole buffers behind ten rows along (444 KB)."""

    def encode(self, value: Chunk) -> bytes:
        """Write the task in front of the rows."""
        return framed(_Head(value.task, value.attempt, value.last), write_ipc(value.table))

    def decode(self, encoded: bytes) -> Chunk:
        """Read what ``encode`` wrote, in this version or another."""
        head, rows = unframed(_Head, encoded)
        return Chunk(head.task, head.attempt, read_ipc(rows), head.last)

    def estimate_size(self, value: Chunk) -> int:
        """Return the rows' bytes, without encoding them."""
        return int(value.table.nbytes)

    def is_deterministic(self) -> bool:
        """Return False: a chunk is no key."""
        return False


coders.registry.register_coder(Chunk, ChunkCoder)

REPORTS = "reports"
