"""What flags say of Pub/Sub subscriptions; no client is named, so flags are checked without."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar

from batch_collection.loading import extra
from transforms.process.process import current
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.arrivals import Arrivals
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.naming import collection_of

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from transforms.sources.contract import LeasedSource
    from transforms.sources.pubsub.subscription import Subscription

__all__ = [
    "Pulling",
    "SubscriptionReader",
    "SubscriptionSettings",
    "Subscriptions",
    "require_client",
]


@dataclass(frozen=True, slots=True)
class Pulling:
    """What a process has of one subscription: its keeper, and what is known of its pulls.

    ``clock`` is both's: seconds that go forward.
    """

    keeper: Keeper
    arrivals: Arrivals
    clock: Callable[[], float]

    @classmethod
    def begun(
        cls,
        source: LeasedSource,
        say: Callable[[str], None],
        bounds: Bounds,
        clock: Callable[[], float] = time.monotonic,
    ) -> Pulling:
        """Begin to keep what is pulled from a source."""
        arrivals = Arrivals(source, clock)
        keeper = Keeper(arrivals, say, bounds=bounds, clock=clock)
        keeper.start()
        return cls(keeper, arrivals, clock)


@dataclass(frozen=True, slots=True)
class SubscriptionReader:
    """What a process pulls with.

    Attributes:
        endpoint: see ``pubsub.client.Client``.
        bounds: how much a process holds at once.
    """

    endpoint: str | None = None
    bounds: Bounds = field(default_factory=Bounds)

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        """Return what this process has of a subscription, which is begun at the first call."""

        def begun() -> Pulling:
            return Pulling.begun(_opened(stream, self.endpoint), say, self.bounds)

        return current().kept((Keeper, stream), begun, lambda pulling: pulling.keeper.stop())


@dataclass(frozen=True, slots=True)
class SubscriptionSettings:
    """Subscriptions of one Pub/Sub: ``SourceSettings``, but what they connect to is leased.

    Attributes:
        names: their paths, ``projects/PROJECT/subscriptions/NAME``.
        endpoint: see ``pubsub.client.Client``.
        topic: the path of the topic that the one subscription is to be created on; None: it is
            there.
        bounds: how much a process holds at once.
        remembering: for how long ids are remembered, and how many.
    """

    kind: ClassVar[str] = "pubsub"
    packages: ClassVar[tuple[str, ...]] = ("google-cloud-pubsub>=2.30",)  # as in setup.py
    names: tuple[str, ...]
    endpoint: str | None = None
    topic: str | None = None
    bounds: Bounds = field(default_factory=Bounds)
    remembering: Remembering = field(default_factory=Remembering)

    @property
    def where(self) -> str:
        """What it is and where it is asked."""
        endpoint = self.endpoint or os.environ.get("PUBSUB_EMULATOR_HOST")
        return f"pubsub at {endpoint}" if endpoint else "pubsub"

    @property
    def collections(self) -> tuple[str, ...]:
        """What the collections of the subscriptions are called."""
        return tuple(map(collection_of, self.names))

    def prepare(self) -> list[str]:
        """Create the subscription that flags ask for, if it isn't there; return what to say of it.

        Raises:
            SourceError: it can't be created, or is one of another topic.
        """
        if self.topic is None:
            return []
        require_client()
        from transforms.sources.pubsub.creating import create  # noqa: PLC0415 - imports the client

        return [create(path, self.topic, self.endpoint) for path in self.names]

    def connect(self) -> Subscriptions:
        """Open a connection; see ``SourceSettings``."""
        return Subscriptions(self.endpoint)

    def reader(self) -> SubscriptionReader:
        """Return what each process pulls with."""
        return SubscriptionReader(self.endpoint, self.bounds)


@dataclass(slots=True)
class Subscriptions:
    """Subscriptions to be asked what they are: a ``Connection`` to leased sources."""

    endpoint: str | None
    _opened: list[Subscription] = field(default_factory=list)

    def sources(self, names: Sequence[str]) -> list[Subscription]:
        """Look subscriptions up by their paths; each is asked when its ``terms`` are."""
        self._opened += (opened := [_opened(name, self.endpoint) for name in names])
        return opened

    def close(self) -> None:
        """Let go of them."""
        for each in self._opened:
            each.close()


def require_client() -> None:
    """Say how Pub/Sub's client is installed, if it isn't, before something imports it.

    Raises:
        CollectionError: it isn't.
    """
    extra("google.pubsub_v1.types.pubsub", "google-cloud-pubsub")


def _opened(path: str, endpoint: str | None) -> Subscription:
    require_client()
    from transforms.sources.pubsub.subscription import Subscription  # noqa: PLC0415 - as above

    return Subscription(path, endpoint)
