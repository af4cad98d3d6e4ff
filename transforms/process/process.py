"""What there is once a process: runners make copies of each step, and of its fields."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Iterator

    from transforms.process.events import Observer

__all__ = ["Process", "current", "new_process"]

_T = TypeVar("_T")


class Process:
    """What all steps of this process share.

    Attributes:
        stop: set, for good, once this process is to end soon: whoever waits gives up. Safe to set
            in a signal handler.
        observers: who is told of events, beside those of each process (``elements/observers.py``).
        is_awaited: who submitted the job waits for it here, hears why it ends, and says so.
        abandoned: attempts of which nothing can come: what is not read for them yet is left.
    """

    def __init__(self, stop: threading.Event | None = None) -> None:
        """Begin with nothing, and let it be stopped by ``stop``."""
        self.stop = stop or threading.Event()
        self.observers: list[Observer] = []
        self.is_awaited = False
        self.abandoned: set[str] = set()
        self._kept: dict[Hashable, Any] = {}
        self._ends = ExitStack()
        self._lock = threading.Lock()

    def kept(
        self, key: Hashable, make: Callable[[], _T], end: Callable[[_T], object] | None = None
    ) -> _T:
        """Return what is kept under a key, made at the first call.

        Args:
            key: names it; the room that makes it chooses it.
            make: makes it; meanwhile other threads wait.
            end: is given it when this process is closed.
        """
        with self._lock:
            if key not in self._kept:
                made = self._kept[key] = make()
                if end is not None:
                    self._ends.callback(end, made)
            kept: _T = self._kept[key]
            return kept

    def threads(self, name: str, most: int) -> ThreadPoolExecutor:
        """Return the threads that do some work of all steps, so many at once, named after it.

        They begin nothing after the process is closed, which does not wait for them.
        """
        return self.kept(
            (ThreadPoolExecutor, name), lambda: ThreadPoolExecutor(most, name), _let_go
        )

    def close(self) -> None:
        """End all that is kept, the last first."""
        self._ends.close()


def _let_go(threads: ThreadPoolExecutor) -> None:
    threads.shutdown(wait=False)


_processes = [Process()]


def current() -> Process:
    """Return the process that this is: look it up where it is needed, and don't keep it."""
    return _processes[-1]


@contextmanager
def new_process(stop: threading.Event | None = None) -> Iterator[Process]:
    """Let this be another process, one that has just begun, as long as the block lasts.

    So each run has a ``stop`` of its own, which is never cleared.
    """
    process = Process(stop)
    _processes.append(process)
    try:
        yield process
    finally:
        _processes.remove(process)
        process.close()
