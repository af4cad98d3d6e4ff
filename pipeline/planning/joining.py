"""Topics that match a pattern, whenever they come: each becomes a collection of its own."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, cast

from batch_collection.errors import CollectionError, SourceError
from batch_collection.parallel import outcomes
from batch_collection.paths import new_token
from pipeline.planning.opening import open_topic
from transforms.elements.observers import tell
from transforms.process.events import Note
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from datetime import datetime

    from pipeline.options.collect import CollectOptions
    from pipeline.planning.topic import TopicCollection
    from transforms.sources.contract import Connection
    from transforms.sources.kafka.topic import KafkaCluster
    from transforms.sources.pubsub.settings import Subscriptions

__all__ = ["LOOK", "Joined", "Joining", "matching", "names_now", "pattern_of"]

LOOK = timedelta(seconds=30)
"""How often new topics are looked for: as often as topics for added partitions."""
_MOST_NAMES = 5


def pattern_of(options: CollectOptions) -> str | None:
    """Return the pattern that topics are to match; None: they are named."""
    return options.source.pattern if isinstance(options.source, KafkaSettings) else None


def matching(pattern: str, names: Sequence[str]) -> list[str]:
    """Return the topics that a pattern matches, as librdkafka does: from the name's begin on.

    Topics of Kafka's own, ``__...``, are meant by a pattern that begins with ``^__`` only.
    """
    found = re.compile(pattern)
    is_internal = pattern.startswith("^__")
    return sorted(
        name for name in names if found.match(name) and (is_internal or not name.startswith("__"))
    )


def names_now(options: CollectOptions, connection: Connection | Subscriptions) -> list[str]:
    """Return what is named, or what matches a pattern now.

    Raises:
        SourceError: no answer comes.
    """
    pattern = pattern_of(options)
    if pattern is None:
        return list(options.source.names)
    return matching(pattern, cast("KafkaCluster", connection).names())


class Joined(NamedTuple):
    """What a look has found: topics to collect from now on, and those that can't be, and why."""

    topics: Sequence[TopicCollection] = ()
    failed: Mapping[str, CollectionError] = {}


@dataclass(slots=True)
class Joining:
    """Looks for topics that match a pattern, every half minute, and opens their collections.

    A topic is opened once in a run. One whose source is away is tried again at the next look; what
    else keeps one from being opened is its own trouble, and no other's.

    Attributes:
        options: what is collected, and how.
        cluster: is asked for topics.
        pattern: what they are to match.
        began: is told of each that is opened.
        ends: whether those that are there at the first look are all.
    """

    options: CollectOptions
    cluster: KafkaCluster
    pattern: str
    began: Callable[[TopicCollection], None]
    ends: bool
    _run: str = field(default_factory=new_token)
    _known: set[str] = field(default_factory=set)
    _away: set[str] = field(default_factory=set)
    _looked_at: datetime | None = None

    def look(self, now: datetime) -> Joined:
        """Return what has come since the last look, if it is time for one.

        Raises:
            SourceError: no answer comes to the first look.
        """
        before, self._looked_at = self._looked_at, self._looked_at or now
        if before is not None and (self.ends or abs(now - before) < LOOK):
            return Joined()
        self._looked_at = now
        try:
            names = self.cluster.names()
        except SourceError:
            if before is None:
                raise
            return Joined()
        found = matching(self.pattern, names)
        if before is None and not found:
            tell(Note(self._nothing(names)))
        return self._opened([name for name in found if name not in self._known])

    def _nothing(self, names: Sequence[str]) -> str:
        own = [name for name in sorted(names) if not name.startswith("__")]
        there = ", ".join(own[:_MOST_NAMES]) + (", ..." if len(own) > _MOST_NAMES else "")
        what = "nothing is collected" if self.ends else "they are waited for"
        return f"no topic matches --topics={self.pattern}; {what}; there are: {there or 'none'}"

    def _opened(self, names: Sequence[str]) -> Joined:
        topics: list[TopicCollection] = []
        failed: dict[str, CollectionError] = {}
        for name, outcome in zip(names, outcomes(self._open, names), strict=True):
            try:
                topic = outcome.result()
            except CollectionError as error:
                if isinstance(error, SourceError) and not self.ends:
                    if name not in self._away:
                        tell(Note(f"{error}; trying again until it is back"))
                    self._away.add(name)
                    continue
                failed[name] = error
            else:
                topics.append(topic)
                self.began(topic)
            self._known.add(name)
        return Joined(topics, failed)

    def _open(self, name: str) -> TopicCollection:
        (source,) = self.cluster.sources([name])
        return open_topic(self.options, source, self._run, is_here=True)
