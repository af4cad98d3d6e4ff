"""The collections in a directory, whoever writes them: looked for again every few seconds."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from batch_collection.inspection.below import collections_below
from pipeline.serving.views import CollectionView, logged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = ["Root"]

_SECONDS = 5.0


class Root:
    """Collections that lie in a directory; threads may share it."""

    def __init__(self, uri: str, clock: Callable[[], float] = time.monotonic) -> None:
        """Look at nothing yet."""
        self._uri, self._clock = uri, clock
        self._views: dict[str, CollectionView] = {}
        self._looked: float | None = None
        self._trouble: str | None = None
        self._lock = threading.Lock()

    def views(self) -> Sequence[CollectionView]:
        """Return the collections, by name."""
        with self._lock:
            now = self._clock()
            if self._looked is None or now - self._looked >= _SECONDS:
                self._look()
                self._looked = now
            return list(self._views.values())

    def reasons(self) -> Sequence[str]:
        """Return why they can't be looked at; nothing: they can."""
        self.views()
        return () if self._trouble is None else (self._trouble,)

    def _look(self) -> None:
        try:
            found = collections_below(self._uri)
        except CollectionError as error:
            self._trouble = str(error)
            return
        self._trouble = None if found else f"there is no collection in {self._uri} yet"
        known = self._views
        self._views = {
            name: known.get(name) or logged(name, storage) for name, storage in found.items()
        }
