"""What an announcement is, and what it is handed to."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CONTENT_TYPE", "Announcement", "Publisher", "UndeliveredError"]

CONTENT_TYPE = "application/cloudevents+json; charset=UTF-8"


class UndeliveredError(CollectionError):
    """An announcement was not taken just now; it is handed over again later."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """That a revision of a window is visible, as a CloudEvent (version 1.0, structured JSON).

    Attributes:
        id: the same whenever this revision is announced, another for each other one.
        event: the CloudEvent.
    """

    id: str
    event: Mapping[str, Any]

    @property
    def body(self) -> bytes:
        """The event as JSON, the same bytes each time."""
        return json.dumps(self.event, separators=(",", ":")).encode()


class Publisher(Protocol):
    """What announcements are handed to, one after the other."""

    @property
    def name(self) -> str:
        """What it is, for people: without a secret."""

    def publish(self, announcement: Announcement) -> None:
        """Hand one over; when this returns, the receiver has it for good.

        Raises:
            UndeliveredError: perhaps it has not; it may be handed over again.
            CollectionError: it will never take any.
        """

    def close(self) -> None:
        """Let go of what it holds."""
