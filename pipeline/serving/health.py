"""Whether collecting goes on as it should: an observer of a run."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.windows import utc_now
from transforms.process.events import (
    Away,
    Back,
    CycleBegan,
    CycleCommitted,
    GivenUp,
    Note,
    Waiting,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from transforms.process.events import Event

__all__ = ["Health", "Trouble"]

_MOST_TROUBLES = 20


class Trouble(NamedTuple):
    """What was said of something that went wrong, and when."""

    at: datetime
    text: str


class Health:
    """Knows of each topic that is left alone, and whether cycles come to their ends.

    A run tells what it does at least once a second: that it waits, or what it works on. So silence
    means that it hangs, and a cycle that is at work for long that something holds it up.
    """

    def __init__(self, patience: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Begin with a run that is not ready.

        Args:
            patience: After how many seconds silence, or a cycle at work, is trouble.
            clock: Seconds that go forward.
        """
        self._patience, self._clock = patience, clock
        self._lock = threading.Lock()
        self._is_started = False
        self._heard = clock()
        self._cycle_began: float | None = None
        self._away: dict[str, str] = {}
        self.troubles: deque[Trouble] = deque(maxlen=_MOST_TROUBLES)

    def started(self) -> None:
        """Hear that the source has answered, and collecting begins."""
        with self._lock:
            self._is_started, self._heard = True, self._clock()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self._lock:
            self._heard = self._clock()
            match event:
                case CycleBegan():
                    self._cycle_began = self._heard
                case Away():
                    self._away[event.topic] = event.error
                    self._note(f"{event.topic}: {event.error}")
                case Back():
                    self._away.pop(event.topic, None)
                case GivenUp():
                    self._away[event.topic] = str(event.error)
                    self._note(f"{event.topic}: {event.error}")
                case Note() if event.text.startswith(("warning: ", "error: ")):
                    self._note(event.text)
                case _:
                    pass
            if isinstance(event, CycleCommitted | Away | GivenUp | Waiting):
                self._cycle_began = None

    def _note(self, text: str) -> None:
        self.troubles.append(Trouble(utc_now(), text))

    def reasons(self) -> list[str]:
        """Return why it is not ready; nothing: it is."""
        with self._lock:
            if not self._is_started:
                return ["the source has not answered yet"]
            now = self._clock()
            found = [f"{topic}: {error}" for topic, error in self._away.items()]
            began = self._cycle_began
            if began is not None and now - began > self._patience:
                found.append(f"a cycle is at work since {now - began:.0f} s")
            elif now - self._heard > self._patience:
                found.append(f"nothing was heard of collecting for {now - self._heard:.0f} s")
            return found
