"""A stream in memory as processes pull from it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from batch_collection.paths import new_token
from tests.leased_stream import LeasedStream, MemorySource
from transforms.process.process import current
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.settings import Pulling, SubscriptionReader

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["MemoryReader", "memory_reader"]

_SOURCES: dict[str, MemorySource] = {}
_FAST = 40
_WAIT_SECONDS = 0.02


@dataclass(frozen=True)
class MemoryReader(SubscriptionReader):
    """Pulls from a stream of this process, by a clock that goes ``_FAST`` times as fast."""

    name: str = field(default_factory=new_token)

    @property
    def source(self) -> MemorySource:
        """The source that is pulled from; each process has its own."""
        return _SOURCES[self.name]

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        """Return what this process has of it."""

        def begun() -> Pulling:
            source = _SOURCES[self.name] = MemorySource(self.source.stream, _WAIT_SECONDS)
            return Pulling.begun(source, say, self.bounds, lambda: time.monotonic() * _FAST)

        return current().kept((Keeper, stream), begun, lambda pulling: pulling.keeper.stop())


def memory_reader(stream: LeasedStream, **fields: Any) -> MemoryReader:
    """Return a reader of a stream."""
    reader = MemoryReader(**fields)
    _SOURCES[reader.name] = MemorySource(stream, _WAIT_SECONDS)
    return reader
