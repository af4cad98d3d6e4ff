"""Kafka topics as sources: offsets are addresses, and a consumer group may remember them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.log.entry import Source
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import idle_consumers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from transforms.sources.contract import Answer, Bounds
    from transforms.sources.kafka.broker import TopicInfo

__all__ = ["KafkaCluster", "KafkaTopic"]


class KafkaCluster:
    """A Kafka cluster: a ``Connection``."""

    def __init__(self, properties: Mapping[str, object], group_id: str | None = None) -> None:
        """Take librdkafka's settings; nothing is asked yet.

        Raises:
            SourceError: librdkafka refuses the settings.
        """
        self._broker, self._group_id = Broker(properties), group_id

    def names(self) -> list[str]:
        """Return the names of all topics; see ``Broker.names``."""
        return self._broker.names()

    def sources(self, names: Sequence[str]) -> list[KafkaTopic]:
        """Look topics up, which the broker lists once; see ``Connection``."""
        infos = self._broker.topics(names)
        return [KafkaTopic(self._broker, info, self._group_id) for info in infos]

    def close(self) -> None:
        """Let go of the cluster."""
        self._broker.close()


class KafkaTopic:
    """A topic: an ``AddressedSource``."""

    def __init__(self, broker: Broker, info: TopicInfo, group_id: str | None) -> None:
        """Take what is known of it."""
        self._broker, self._info, self._group_id = broker, info, group_id

    @property
    def name(self) -> str:
        """The topic's name."""
        return self._info.name

    @property
    def partitions(self) -> tuple[int, ...]:
        """Its partitions, as they were when ``refresh`` last looked."""
        return self._info.partitions

    def identity(self) -> Source:
        """Ask for the topic's id, of a broker that has some; the cluster's is the one known."""
        if self._info.topic_id is not None:
            topic_id = self._broker.topic_id(self.name)
            self._info = self._info._replace(topic_id=topic_id)
        return self._known()

    def refresh(self) -> Source:
        """Look for added partitions, and whether it is still the same topic."""
        self._info = self._broker.topic(self.name)
        return self._known()

    def _known(self) -> Source:
        return Source("kafka", self.name, self._info.topic_id, self._info.cluster_id)

    def bounds(self) -> dict[int, Bounds]:
        """Ask for the earliest offset and the end, by partition."""
        return self._broker.offsets(self.name, self.partitions)

    def at(self, instant: datetime) -> dict[int, Answer]:
        """Ask for the first record stamped at or after ``instant``, by partition."""
        return self._broker.offsets_at(self.name, self.partitions, instant)

    def remembered(self) -> dict[int, int]:
        """Ask for the offsets that the group has committed, by partition."""
        if self._group_id is None:
            return {}
        return self._broker.committed(self.name, self.partitions, self._group_id)

    def reset(self) -> None:
        """Close the consumers that this process keeps."""
        idle_consumers().close()

    def release(self, entry: Entry) -> None:
        """Commit the group's offsets."""
        if self._group_id is not None:
            self._broker.commit(self.name, self._group_id, entry.ends)
