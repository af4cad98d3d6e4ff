"""The element on the edges of the graph: some thousand messages, or rows, as one Arrow table."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pyarrow as pa
from apache_beam import coders

from transforms.elements.tables import read_ipc, write_ipc

if TYPE_CHECKING:
    from transforms.elements.plan import Task

__all__ = ["REPORTS", "Chunk", "ChunkCoder"]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Messages (``MESSAGES``) or rows (``POSITION`` and ``payload``) of one attempt at a task.

    ``last`` marks the task's end; it follows everything else and brings no rows.
    """

    task: Task
    attempt: str
    table: pa.Table
    last: bool = False


class ChunkCoder(coders.Coder):
    """Arrow IPC: Beam's pickle takes the whole buffers behind ten rows along (444 KB, measured)."""

    def encode(self, value: Chunk) -> bytes:
        """Write the task in front of the rows."""
        head = pickle.dumps((value.task, value.attempt, value.last))
        return len(head).to_bytes(4, "big") + head + write_ipc(value.table).to_pybytes()

    def decode(self, encoded: bytes) -> Chunk:
        """Read what ``encode`` wrote."""
        start = 4 + int.from_bytes(encoded[:4], "big")
        task, attempt, last = pickle.loads(encoded[4:start])  # noqa: S301 - our own bytes
        return Chunk(task, attempt, read_ipc(pa.py_buffer(encoded)[start:]), last)

    def estimate_size(self, value: Chunk) -> int:
        """Return the rows' bytes, without encoding them."""
        return int(value.table.nbytes)

    def is_deterministic(self) -> bool:
        """Return False: a chunk is no key."""
        return False


coders.registry.register_coder(Chunk, ChunkCoder)

REPORTS = "reports"
