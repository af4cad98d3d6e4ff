"""Says what is durable of what a process has pulled: by one rule, which looks at the log."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import CollectionError, ExpiredError, FileGoneError
from batch_collection.log.entries import read_entry
from batch_collection.paths import entry_path, outcome_path
from transforms.process.process import current
from transforms.sources.pubsub.id_lists import IdLists

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage
    from transforms.sources.pubsub.keeper import Keeper
    from transforms.sources.pubsub.settings import Pulling

__all__ = ["Releasing", "releasing_of"]

_PATIENCE_SECONDS = 600.0  # twice the default of --cycle_timeout; another one costs work alone
_EVERY_SECONDS = 5.0
_ANSWER_SECONDS, _TICK_SECONDS = 10.0, 0.05


class _Taken(NamedTuple):
    cycle: int
    since: float


class Releasing:
    """Which plans have taken messages from a keeper, and what became of those.

    Is the cycle's entry in the log, whoever made it, what its lists name is released: nothing else
    ever is, but what a later task finds in a list. What is left waits for the next plan then, as it
    does where a plan has left a note, or is too old. That is never wrong, whether or not the plan
    comes to an entry after all: the next one finds what is in the log already. So retried bundles,
    lost races and tasks that outlive their plan are no cases of their own. Threads may share it.
    """

    def __init__(
        self,
        storage: Storage,
        keeper: Keeper,
        lists: IdLists,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Begin without plans.

        Args:
            storage: where the collection lies.
            keeper: holds the messages.
            lists: reads lists of ids.
            clock: seconds that go forward.
        """
        self._storage, self._keeper, self.lists, self._clock = storage, keeper, lists, clock
        self._open: dict[str, _Taken] = {}
        self._unanswered: dict[str, frozenset[str]] = {}
        self._lock = threading.Lock()
        self._is_closed = threading.Event()
        self._watching: threading.Thread | None = None

    def watch(self) -> None:
        """Look every few seconds from now on: where tasks run, nobody says what became of them."""
        with self._lock:
            if self._watching is None:
                self._watching = threading.Thread(
                    target=self._watch, name="pubsub-releasing", daemon=True
                )
                self._watching.start()

    def close(self) -> None:
        """Look for the last time; what is not in the log by now comes again."""
        self._is_closed.set()
        if self._watching is not None:
            self._watching.join()
        with suppress(CollectionError):
            self.look()

    def takes(self, plan: str, cycle: int) -> float:
        """Note that a plan takes messages from now on; return since when it does."""
        with self._lock:
            return self._open.setdefault(plan, _Taken(cycle, self._clock())).since

    def look(self, patience: float = _PATIENCE_SECONDS) -> None:
        """Look at the log for each plan that is open.

        Args:
            patience: after how many seconds a plan is too old; none where nobody works on one.

        Raises:
            StorageError: it can't be read; what is held stays so.
        """
        with self._lock:
            for plan, taken in list(self._open.items()):
                entry = self._entry(taken.cycle)
                if entry is not None:
                    self._release(entry)
                elif self._clock() - taken.since < patience and not self._is_noted(plan, taken):
                    continue
                self._keeper.end_plan(plan)
                del self._open[plan]

    def acknowledged(self) -> tuple[str, ...]:
        """Return the lists, by path, for each of whose ids the source has answered here.

        They are returned again until ``named`` has heard of them.
        """
        with self._lock:
            open_ids = self._keeper.unacknowledged()
            return tuple(p for p, ids in self._unanswered.items() if ids.isdisjoint(open_ids))

    def answered(self) -> tuple[str, ...]:
        """Return the same, once all that is released has its answer, or after ten seconds."""
        end = self._clock() + _ANSWER_SECONDS
        while self._keeper.unacknowledged() and self._clock() < end:
            if current().stop.wait(_TICK_SECONDS):
                break
        return self.acknowledged()

    def named(self, entry: Entry) -> None:
        """Forget lists of which an entry knows that they are acknowledged, or that it released."""
        with self._lock:
            known = {file.path for file in entry.ids if not file.acknowledged}
            for path in self._unanswered.keys() - known:
                del self._unanswered[path]

    def _watch(self) -> None:
        while not self._is_closed.wait(_EVERY_SECONDS):
            with suppress(CollectionError):  # the next task says it, if it is still so
                self.look()

    def _entry(self, cycle: int) -> Entry | None:
        if self._storage.size(entry_path(cycle)) is None:
            return None
        self._storage.settle(entry_path(cycle))  # else a power cut might take it away again
        try:
            return read_entry(self._storage, cycle)
        except ExpiredError:
            return None

    def _is_noted(self, plan: str, taken: _Taken) -> bool:
        return self._storage.size(outcome_path(taken.cycle, plan)) is not None

    def _release(self, entry: Entry) -> None:
        for file in entry.new_ids:
            try:
                ids = self.lists.of(file).strings()
            except FileGoneError:  # whatever it named that comes again is found in a later one
                continue
            if self._keeper.release(ids) == len(ids):
                self._unanswered[file.path] = frozenset(ids.to_pylist())


def releasing_of(pulling: Pulling, stream: str, storage: Storage) -> Releasing:
    """Return what this process knows of the messages of a stream that it collects."""

    def begun() -> Releasing:
        return Releasing(storage, pulling.keeper, IdLists(storage), pulling.clock)

    return current().kept((Releasing, stream), begun, Releasing.close)
