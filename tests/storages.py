"""Storages for tests: one that dies on the way, as a killed process would; others act on others."""

from __future__ import annotations

import contextlib
import itertools
import threading
from typing import TYPE_CHECKING, Any, BinaryIO

import pytest

from batch_collection.storage.checksum import stream_crc32c
from batch_collection.storage.contract import Sink

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from typing_extensions import Buffer

    from batch_collection.storage.contract import Storage

__all__ = ["ActingStorage", "BusyStorage", "Died", "DyingStorage", "file_crc32c", "some_points"]

_living: dict[int, DyingStorage] = {}
_numbers = itertools.count()


def file_crc32c(storage: Storage, path: str) -> tuple[int, str]:
    """Return a file's size in bytes and its CRC-32C, as an entry names them."""
    with storage.open(path) as file:
        return stream_crc32c(file)


def some_points(every: int) -> pytest.MarkDecorator:
    """Let a test take ``every``-th point only; ``make faults`` takes each."""
    each = pytest.param(1, id="each", marks=[pytest.mark.faults, pytest.mark.timeout(900)])
    return pytest.mark.parametrize("every", [pytest.param(every, id="some"), each])


class Died(BaseException):
    """The process is gone: no ``except Exception`` of the code under test stops it."""


class DyingStorage:
    """A storage whose process dies at its ``k``-th point, counted from 0; None: never.

    Points lie before and after each change (create, replace, open for writing, close, move, delete,
    settle), and between the files of one move or delete. Once dead, every call dies, so that no
    clean-up of the code under test does what a dead process can't. ``points`` counts those passed.
    A pickled one is the same one again, in the same process.
    """

    def __init__(self, storage: Storage, k: int | None = None) -> None:
        """Wrap ``storage``."""
        self.storage, self.k = storage, k
        self.points, self.is_dead = 0, False
        self._lock = threading.Lock()
        self._sinks: list[_DyingSink] = []
        self._number = next(_numbers)
        _living[self._number] = self

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle as a name for this very object."""
        return _living.__getitem__, (self._number,)

    def reach(self) -> None:
        """Pass a point, or die there."""
        with self._lock:
            if self.points == self.k and not self.is_dead:
                self.is_dead = True
                for sink in self._sinks:
                    sink.tear()
            if self.is_dead:
                raise Died
            self.points += 1

    def check(self) -> None:
        """Die if dead."""
        if self.is_dead:
            raise Died

    @property
    def uri(self) -> str:
        """The wrapped storage's."""
        return self.storage.uri

    @property
    def is_far(self) -> bool:
        """Whether the wrapped storage is."""
        return self.storage.is_far

    def local_path(self, path: str) -> Path | None:
        """Return the wrapped storage's."""
        return self.storage.local_path(path)

    def create(self, path: str, content: bytes) -> None:
        """Create, with a point before and after."""
        with self._points():
            self.storage.create(path, content)

    def settle(self, path: str) -> None:
        """Settle, with a point before and after."""
        with self._points():
            self.storage.settle(path)

    def replace(self, path: str, content: bytes) -> None:
        """Replace, with a point before and after."""
        with self._points():
            self.storage.replace(path, content)

    def write(self, path: str) -> Sink:
        """Open for writing, with a point before and after; the sink's ``close`` has its own."""
        with self._points():
            sink = _DyingSink(self, self.storage.write(path), path)
            self._sinks.append(sink)
        return sink

    def read(self, path: str) -> bytes:
        """Read."""
        self.check()
        return self.storage.read(path)

    def open(self, path: str) -> BinaryIO:
        """Open."""
        self.check()
        return self.storage.open(path)

    def size(self, path: str) -> int | None:
        """Look up."""
        self.check()
        return self.storage.size(path)

    def move(self, moves: Iterable[tuple[str, str]]) -> None:
        """Move file by file, with a point before each and after the last."""
        for move in moves:
            self.reach()
            self.storage.move([move])
        self.reach()

    def check_moves(self) -> None:
        """Check."""
        self.check()
        self.storage.check_moves()

    def list(self, prefix: str, start: str = "", end: str = "") -> Iterator[str]:
        """List."""
        self.check()
        return self.storage.list(prefix, start, end)

    def folders(self) -> Iterator[str]:
        """List folders."""
        self.check()
        return self.storage.folders()

    def delete(self, paths: Iterable[str]) -> None:
        """Delete file by file, with a point before each and after the last."""
        for path in paths:
            self.reach()
            self.storage.delete([path])
        self.reach()

    @contextlib.contextmanager
    def _points(self) -> Iterator[None]:
        self.reach()
        yield
        self.reach()


class _DyingSink(Sink):
    """A sink of a process that may die; a dead one leaves its file behind, torn."""

    def __init__(self, storage: DyingStorage, sink: Sink, path: str) -> None:
        super().__init__()
        self._storage, self._sink, self._path = storage, sink, path
        self._closing = threading.Lock()

    def tear(self) -> None:
        """Leave the file as the dead process did, were it still being written.

        One that is being closed by another thread is let to an end: the process died after that.
        """
        with self._closing:
            if self._sink.closed:
                return
            self._sink.abandon()
            with self._storage.storage.write(self._path) as torn:
                torn.write(b"torn")

    def write(self, content: Buffer) -> int | None:
        self._storage.check()
        return self._sink.write(content)

    def flush(self) -> None:
        if not self._sink.closed:
            self._storage.check()
            self._sink.flush()

    def tell(self) -> int:
        return self._sink.tell()

    def close(self) -> None:
        if self.closed:
            return
        self._storage.reach()
        with self._closing:
            self._storage.check()
            self._sink.close()
        self._storage.reach()
        super().close()

    def abandon(self) -> None:
        if self.closed or not hasattr(self, "_sink"):
            return
        self._sink.abandon()
        super().close()


class BusyStorage:
    """A storage on which somebody else acts: ``act`` is called before every ``every``-th call."""

    def __init__(self, storage: Storage, act: Callable[[], object], every: int) -> None:
        """Wrap ``storage``."""
        self._storage, self._act, self._every = storage, act, every
        self.calls = 0

    def __getattr__(self, name: str) -> Any:
        """Act, then give the storage's own method; what is no method is only given."""
        found = getattr(self._storage, name)
        if callable(found):
            self.calls += 1
            if self.calls % self._every == 0:
                self._act()
        return found


class ActingStorage(DyingStorage):
    """A storage at whose ``k``-th point somebody else acts, once; see ``DyingStorage``."""

    def __init__(self, storage: Storage, act: Callable[[], object], k: int) -> None:
        """Wrap ``storage``."""
        super().__init__(storage)
        self._act, self._at = act, k
        self.has_acted = False

    def reach(self) -> None:
        """Pass a point."""
        with self._lock:
            acts = self.points == self._at
            self.has_acted |= acts
            self.points += 1
        if acts:
            self._act()
