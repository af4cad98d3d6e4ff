"""Which messages a process holds, and by which leases: what a keeper goes by."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from transforms.sources.contract import LEASED
from transforms.sources.pubsub.spill import spilled

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["MESSAGES_A_PULL", "TAKEN", "Bounds", "Held", "Waiting"]

TAKEN = pa.schema([each for each in LEASED if each.name != "lease"])
"""What is handed on of messages: their leases are never written down."""
MESSAGES_A_PULL = 1_000
BYTES_A_PULL = 11_000_000  # a pull's answer has at most 10 MB, and its columns a little more
_ROWS = 1 << 16  # of a chunk, at most
_WAITING, _RELEASED, _GONE = 0, -1, -2
_TOGETHER_SECONDS, _TOGETHER_BYTES = 1.0, 1_000_000
_A_MESSAGE = 64  # its bytes beside its value: ids, lease, stamp


class Bounds(NamedTuple):
    """How much is held at once, pulls on their way included; what is beyond ``memory`` is on disk.

    ``bytes`` count whole answers until all their messages are gone. A single answer is taken
    whatever its size.
    """

    messages: int = 200_000
    bytes: int = 512_000_000
    memory: int = 64_000_000


class Waiting(NamedTuple):
    """What no plan has taken: messages, their bytes, and since when the oldest is held."""

    messages: int
    bytes: int
    since: float | None


@dataclass(eq=False, slots=True)
class _Chunk:
    """What an answer, or some within a second, brought that was not held.

    ``owners``: of each message the number of the plan that took it, or a state. ``renewed``: leases
    by row under which messages came again. ``batch`` is None once it is put away.
    """

    arrived: float
    ids: pa.Array
    leases: pa.Array
    owners: np.ndarray
    sizes: np.ndarray
    batch: pa.RecordBatch | None
    left: int
    put_away: Callable[[], pa.RecordBatch] | None = None
    renewed: dict[int, str] = field(default_factory=dict)
    nbytes: int = 0

    @classmethod
    def of(cls, table: pa.Table, arrived: float) -> _Chunk:
        (batch,) = table.combine_chunks().to_batches()
        ids, leases, rows = batch["id"], batch["lease"], len(batch)
        sizes = np.asarray(pc.binary_length(batch["value"])) + _A_MESSAGE
        owners = np.full(rows, _WAITING, np.int64)
        chunk = cls(arrived, ids, leases, owners, sizes, batch.select(TAKEN.names), rows)
        chunk.nbytes = batch.nbytes
        return chunk

    def takes(self, other: _Chunk) -> bool:
        """Tell whether another one is better held with it: many small ones are slow, and large."""
        return (
            self.batch is not None
            and other.arrived - self.arrived <= _TOGETHER_SECONDS
            and len(self.owners) + len(other.owners) <= MESSAGES_A_PULL
            and self.nbytes + other.nbytes <= _TOGETHER_BYTES
        )

    def join(self, other: _Chunk) -> None:
        """Append another one's messages."""
        both = pa.Table.from_batches([self.read(), other.read()])
        (self.batch,) = both.combine_chunks().to_batches()
        self.ids = self.batch["id"]
        self.leases = pa.concat_arrays([self.leases, other.leases])
        self.owners = np.concatenate([self.owners, other.owners])
        self.sizes = np.concatenate([self.sizes, other.sizes])
        self.left += other.left
        self.nbytes += other.nbytes

    def read(self) -> pa.RecordBatch:
        if self.batch is not None:
            return self.batch
        assert self.put_away is not None  # noqa: S101 - it is one or the other
        return self.put_away()

    def ids_of(self, mask: np.ndarray) -> list[str]:
        return self.ids.filter(pa.array(mask)).to_pylist()

    def lease(self, row: int) -> str:
        return self.renewed.get(row) or self.leases[row].as_py()

    def leases_of(self, mask: np.ndarray) -> list[str]:
        if self.renewed:
            return [self.lease(row) for row in np.flatnonzero(mask).tolist()]
        return self.leases.filter(pa.array(mask)).to_pylist()


class Held:
    """Messages from when they came until they are acknowledged or given back, each of them once.

    It knows neither clock, threads nor source. Nothing is to be acknowledged that was not released;
    a message is acknowledged by the last lease under which it came.
    """

    def __init__(self, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - it is a tuple
        """Hold nothing yet."""
        self._bounds = bounds
        self._places: dict[str, int] = {}  # by id: the chunk's number and the row in one
        self._chunks: dict[int, _Chunk] = {}
        self._last = 0
        self._plans: dict[str, int] = {}
        self._owners = count(1)
        self._asked: list[int] = []
        self.nbytes = 0

    def __len__(self) -> int:
        """Return how many messages are held."""
        return len(self._places)

    def ask(self) -> int:
        """Return how many messages to pull now, and expect them: 0 while there is no room."""
        room = self._bounds.messages - len(self) - sum(self._asked)
        coming = BYTES_A_PULL * (len(self._asked) + 1)
        is_full = self.nbytes + coming > self._bounds.bytes and bool(self._places or self._asked)
        asked = 0 if is_full else max(0, min(room, MESSAGES_A_PULL))
        if asked:
            self._asked.append(asked)
        return asked

    def came(self, asked: int, table: pa.Table | None, now: float) -> list[str]:
        """Take what a pull that asked for so many has brought, None if it failed.

        Returns:
            The leases to be extended. Of a message that is held already the new lease counts.
        """
        self._asked.remove(asked)
        if table is None or not table.num_rows:
            return []
        fresh: dict[str, int] = {}
        leases = table["lease"].to_pylist()
        for row, each in enumerate(table["id"].to_pylist()):
            if each in self._places:
                number, held = divmod(self._places[each], _ROWS)
                self._chunks[number].renewed[held] = leases[row]
            else:
                fresh[each] = row
        rows = list(fresh.values())
        if rows:
            self._append(list(fresh), table if len(rows) == len(leases) else table.take(rows), now)
        return leases

    def put_away(self) -> None:
        """Move what is beyond the bound of memory to the disk.

        Raises:
            StorageError: it can't be written; it stays in memory.
        """
        here = [chunk for chunk in self._chunks.values() if chunk.batch is not None]
        if sum(chunk.nbytes for chunk in here) > self._bounds.memory:
            there = spilled([chunk.read() for chunk in here])
            for chunk, read in zip(here, there, strict=True):
                chunk.batch, chunk.put_away = None, read

    def take(self, plan: str, messages: int, nbytes: int) -> pa.Table:
        """Hand waiting messages on to a plan, those that came first first; they stay held.

        Returns:
            A table of schema ``TAKEN``: at most so many messages and bytes, but at least one if one
            waits. None of them is handed on again before ``put_back``.
        """
        owner = self._plans.setdefault(plan, next(self._owners))
        taken: list[pa.RecordBatch] = []
        for chunk in self._chunks.values():
            if messages <= 0:
                break
            rows = np.flatnonzero(chunk.owners == _WAITING)[:messages]
            sizes = np.cumsum(chunk.sizes[rows])
            fitting = int(np.searchsorted(sizes, nbytes, side="right"))
            has_room = fitting == len(rows)
            rows = rows[: max(fitting, 0 if taken else 1)]
            if len(rows):
                taken.append(chunk.read().take(pa.array(rows)).select(TAKEN.names))
                chunk.owners[rows] = owner
                messages, nbytes = messages - len(rows), nbytes - int(sizes[len(rows) - 1])
            if not has_room:
                break
        return pa.Table.from_batches(taken, TAKEN)

    def put_back(self, plan: str) -> int:
        """Let what is left of an ended plan, neither released nor gone, wait again; count it."""
        owner = self._plans.pop(plan, None)
        returned = 0
        for chunk in self._chunks.values() if owner is not None else ():
            mask = chunk.owners == owner
            chunk.owners[mask] = _WAITING
            returned += int(mask.sum())
        return returned

    def release(self, ids: pa.Array | pa.ChunkedArray) -> int:
        """Note that messages are durable, those of them that are held; return how many are."""
        released = 0
        for each in ids.to_pylist():
            place = self._places.get(each)
            if place is not None:
                number, row = divmod(place, _ROWS)
                self._chunks[number].owners[row] = _RELEASED
                released += 1
        return released

    def waiting(self) -> Waiting:
        """Count what no plan has taken."""
        messages = nbytes = 0
        since = None
        for chunk in self._chunks.values():
            mask = chunk.owners == _WAITING
            if found := int(mask.sum()):
                messages, nbytes = messages + found, nbytes + int(chunk.sizes[mask].sum())
                since = chunk.arrived if since is None else since
        return Waiting(messages, nbytes, since)

    def leases(self) -> list[str]:
        """Return the leases of all that is held: what is to be extended."""
        return [
            lease
            for chunk in self._chunks.values()
            for lease in chunk.leases_of(chunk.owners != _GONE)
        ]

    def released(self) -> dict[str, str]:
        """Return what is to be acknowledged: ids by leases."""
        return {
            lease: each
            for number, chunk in self._chunks.items()
            if (mask := chunk.owners == _RELEASED).any()
            for lease, each in zip(chunk.leases_of(mask), chunk.ids_of(mask), strict=True)
        }

    def acknowledged(self, released: Mapping[str, str]) -> None:
        """Let go of what was acknowledged, but not of what has come again meanwhile."""
        for lease, each in released.items():
            place = self._places.get(each)
            if place is not None:
                number, row = divmod(place, _ROWS)
                if self._chunks[number].lease(row) == lease:
                    self._drop(each, number, row)

    def give_up(self) -> list[str]:
        """Let go of all that was not released; return the leases, to be given back."""
        given = []
        for number, chunk in list(self._chunks.items()):
            mask = chunk.owners >= _WAITING
            given += chunk.leases_of(mask)
            for each, row in zip(chunk.ids_of(mask), np.flatnonzero(mask).tolist(), strict=True):
                self._drop(each, number, row)
        self._plans.clear()
        return given

    def _append(self, ids: list[str], table: pa.Table, now: float) -> None:
        chunk, first = _Chunk.of(table, now), 0
        last = self._chunks.get(self._last)
        if last is not None and last.takes(chunk):
            first = len(last.owners)
            last.join(chunk)
        else:
            self._last += 1
            self._chunks[self._last] = chunk
        start = self._last * _ROWS + first
        self._places |= {each: start + row for row, each in enumerate(ids)}
        self.nbytes += chunk.nbytes

    def _drop(self, each: str, number: int, row: int) -> None:
        chunk = self._chunks[number]
        chunk.owners[row] = _GONE
        del self._places[each]
        chunk.left -= 1
        if not chunk.left:
            self.nbytes -= chunk.nbytes
            del self._chunks[number]
