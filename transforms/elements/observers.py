"""Telling events to observers: those of each process, on whatever engine, and those of a run."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from transforms.elements.metrics import count
from transforms.process.events import Note, Spent
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from transforms.process.events import Event, Observer

__all__ = ["OBSERVERS", "clocked", "say", "tell", "timed"]

_T = TypeVar("_T")

OBSERVERS: tuple[Observer, ...] = (count,)
"""Who is told of events in each process."""

_logger = logging.getLogger(__name__)


def tell(event: Event) -> None:
    """Tell all observers; of one that raises it is logged once, and collecting goes on."""
    process = current()
    for observer in (*OBSERVERS, *process.observers):
        try:
            observer(event)
        except Exception as error:  # noqa: BLE001 - whatever it is, no row depends on it
            process.kept((tell, id(observer)), partial(_log_failure, observer, error))


def say(text: str) -> None:
    """Tell a note."""
    tell(Note(text))


def _log_failure(observer: Observer, error: Exception) -> None:
    _logger.warning("%r raises; collecting goes on", observer, exc_info=error)


def clocked(doing: str, elements: Iterable[_T]) -> Iterator[_T]:
    """Yield elements; tell how long they took to come, together."""
    spent, began = 0.0, time.monotonic()
    for element in elements:
        spent += time.monotonic() - began
        yield element
        began = time.monotonic()
    tell(Spent(doing, round((spent + time.monotonic() - began) * 1000)))


@contextmanager
def timed(doing: str) -> Iterator[None]:
    """Tell how long a block takes, one that fails, too."""
    began = time.monotonic()
    try:
        yield
    finally:
        tell(Spent(doing, round((time.monotonic() - began) * 1000)))
