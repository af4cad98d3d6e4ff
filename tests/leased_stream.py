"""A stream in memory that hands messages out for a while, with a clock of its own.

It forgets nothing that is said to it, so that tests can see what was acknowledged.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from datetime import timedelta
from itertools import islice
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from batch_collection.errors import SourceError
from batch_collection.log.entry import Source
from tests.builders import at
from transforms.sources.contract import LEASED, Terms

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from datetime import datetime

__all__ = ["Clock", "Delivery", "LeasedStream", "MemorySource", "Message"]

BEGIN = at("10:30:00")


@dataclass
class Clock:
    """Seconds that go forward when they are told to, and by themselves, so many a second."""

    seconds: float = 0.0
    rate: float = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.seconds + self.rate * time.monotonic()


class Message(NamedTuple):
    """What was published."""

    id: str
    value: bytes
    published: datetime
    key: str | None = None
    attributes: Mapping[str, str] | None = None


class Delivery(NamedTuple):
    """A message as it was handed out."""

    lease: str
    message: Message


@dataclass
class LeasedStream:
    """Messages, who holds them until when, and what was acknowledged.

    As with Pub/Sub, a lease that is over counts until its message is handed out again. ``stamp``
    says when the n-th message was published.
    """

    clock: Clock = field(default_factory=Clock)
    stamp: Callable[[int], datetime] = lambda number: BEGIN + timedelta(milliseconds=number)
    lease_seconds: float = 10.0
    acknowledged: set[str] = field(default_factory=set)
    left: dict[str, Message] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Begin empty."""
        self.changed = threading.Condition()
        self._waiting: deque[str] = deque()
        self._held: dict[str, tuple[str, float]] = {}  # by id: the lease, and when it is over
        self._ids: dict[str, str] = {}  # by lease
        self._published = self._delivered = 0
        self._over_at = 0.0  # no lease is over before
        self._backlog: Iterator[Message] = iter(())

    def publish(
        self, *values: bytes, key: str | None = None, attributes: Mapping[str, str] | None = None
    ) -> list[str]:
        """Append messages; return their ids."""
        with self.changed:
            ids = []
            for value in values:
                self._published += 1
                name = str(self._published)
                stamp = self.stamp(self._published)
                self.left[name] = Message(name, value, stamp, key, attributes)
                self._waiting.append(name)
                ids.append(name)
            self.changed.notify_all()
            return ids

    def wait_with(self, backlog: Iterator[Message]) -> None:
        """Let more messages wait than memory holds: each is made when it is handed out."""
        with self.changed:
            self._backlog = backlog
            self.changed.notify_all()

    def copy(self) -> LeasedStream:
        """Return a stream with the same messages, all leases of which are over."""
        with self.changed:
            other = LeasedStream(Clock(self.clock.seconds, self.clock.rate), self.stamp)
            other.acknowledged, other.left = {*self.acknowledged}, {**self.left}
            other._waiting.extend(self.left)
            other._published = self._published
            return other

    @property
    def is_waiting(self) -> bool:
        """Whether there is a message that nobody holds."""
        with self.changed:
            return bool(self.left.keys() - self._held.keys())

    @property
    def next_lapse(self) -> float | None:
        """When the first lease is over, None if nobody holds anything."""
        with self.changed:
            return min((until for _, until in self._held.values()), default=None)

    @property
    def deliveries(self) -> int:
        """How often a message was handed out."""
        return self._delivered

    def deliver(self, messages: int) -> list[Delivery]:
        """Hand out what waits, and what is held no longer."""
        with self.changed:
            if self.clock() >= self._over_at:
                self._end_leases()
            given: list[Delivery] = []
            while self._waiting and len(given) < messages:
                name = self._waiting.popleft()
                if name in self.left and name not in self._held:
                    given.append(Delivery(self._lease(name), self.left[name]))
            for message in islice(self._backlog, messages - len(given)):
                self.left[message.id] = message
                given.append(Delivery(self._lease(message.id), message))
            return given

    def _end_leases(self) -> None:
        now = self.clock()
        for name, (_, until) in list(self._held.items()):
            if until <= now:
                self.hand_out_again(name)
        self._over_at = min((until for _, until in self._held.values()), default=now)

    def hand_out_again(self, name: str) -> None:
        """Let a message come again, though somebody holds it."""
        with self.changed:
            del self._held[name]
            self._waiting.append(name)
            self.changed.notify_all()

    def lapse(self) -> None:
        """Let all messages come again that somebody holds."""
        with self.changed:
            for name in list(self._held):
                self.hand_out_again(name)

    def extend(self, lease: str, seconds: float) -> bool:
        """Hold a message for so long; whether the lease is the last one."""
        with self.changed:
            name = self._ids.get(lease, "")
            if self._held.get(name, ("", 0))[0] != lease:
                return False
            self._hold(name, lease, seconds)
            if seconds <= 0:
                self.hand_out_again(name)
            return True

    def acknowledge(self, lease: str) -> bool:
        """Let a message be gone; whether the lease is the last one."""
        with self.changed:
            name = self._ids.get(lease, "")
            if self._held.get(name, ("", 0))[0] != lease:
                return False
            del self._held[name], self.left[name], self._ids[lease]
            self.acknowledged.add(name)
            return True

    def held_until(self, name: str) -> float | None:
        """Return when a message's lease is over, None if nobody holds it."""
        return self._held[name][1] if name in self._held else None

    def _lease(self, name: str) -> str:
        """Return an ack id of 184 bytes, as Google's have."""
        self._delivered += 1
        lease = (hashlib.sha256(b"%d" % self._delivered).hexdigest() * 3)[:184]
        self._hold(name, lease, self.lease_seconds)
        self._ids[lease] = name
        return lease

    def _hold(self, name: str, lease: str, seconds: float) -> None:
        until = self.clock() + seconds
        self._held[name] = lease, until
        self._over_at = min(self._over_at, until)


class MemorySource:
    """A ``LeasedSource`` of a stream in this process; while it is ``away`` it raises."""

    name = "stream"

    def __init__(self, stream: LeasedStream, wait_seconds: float = 0.0) -> None:
        """Take a stream, and how long a pull waits for its first message."""
        self.stream, self.away, self.calls = stream, False, list[str]()
        self._wait_seconds, self._is_interrupted = wait_seconds, False

    def terms(self) -> Terms:
        """Say what it is."""
        self._called("terms")
        return Terms(Source("pubsub", self.name))

    def pull(self, messages: int) -> pa.Table:
        """Take what there is."""
        self._called("pull")
        with self.stream.changed:
            given = [] if self._is_interrupted else self.stream.deliver(messages)
            if not given and self._wait_seconds and not self._is_interrupted:
                self.stream.changed.wait(self._wait_seconds)
                given = [] if self._is_interrupted else self.stream.deliver(messages)
        return table(given)

    def interrupt(self) -> None:
        """Let nobody wait."""
        with self.stream.changed:
            self._is_interrupted = True
            self.stream.changed.notify_all()

    def extend(self, leases: Sequence[str], seconds: int) -> None:
        """Hold."""
        self._called("extend")
        for lease in leases:
            self.stream.extend(lease, seconds)

    def acknowledge(self, leases: Sequence[str]) -> list[str]:
        """Let go, for good."""
        self._called("acknowledge")
        return [lease for lease in leases if not self.stream.acknowledge(lease)]

    def give_back(self, leases: Sequence[str]) -> None:
        """Let go."""
        self._called("give_back")
        for lease in leases:
            self.stream.extend(lease, 0)

    def close(self) -> None:
        """Note that it is closed."""
        self.calls.append("close")

    def _called(self, name: str) -> None:
        if self.away:
            message = f"cannot {name}: source={self.name} is away"
            raise SourceError(message)
        self.calls.append(name)


def table(given: Sequence[Delivery]) -> pa.Table:
    """Return deliveries as a source gives them."""
    rows = [
        {
            "id": message.id,
            "lease": lease,
            "published": message.published,
            "value": message.value,
            "key": message.key,
            "attributes": [
                {"key": key, "value": value.encode()}
                for key, value in (message.attributes or {}).items()
            ]
            or None,
        }
        for lease, message in given
    ]
    return pa.Table.from_pylist(rows, schema=LEASED)
