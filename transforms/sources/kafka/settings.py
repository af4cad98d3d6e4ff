"""What flags say of Kafka topics; it names no client, so that flags are checked without one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from transforms.sources.kafka.config import ConsumerConfig

if TYPE_CHECKING:
    from collections.abc import Mapping

    from transforms.sources.kafka.reader import KafkaReader
    from transforms.sources.kafka.reader_name import ReaderName
    from transforms.sources.kafka.topic import KafkaCluster

__all__ = ["KafkaSettings"]


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """Topics of one cluster: a ``SourceSettings``.

    Attributes:
        names: the topics.
        properties: librdkafka's; a ``ConsumerConfig`` reads those of a file where it is used.
        group_id: the consumer group whose offsets say where to begin, and are committed.
        by: the reader.
        pattern: what topics are to match that are collected; there are no ``names`` then.
    """

    kind: ClassVar[str] = "kafka"
    remembering: ClassVar[None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]
    properties: Mapping[str, object]
    group_id: str | None = None
    by: ReaderName = "auto"
    pattern: str | None = None

    @property
    def where(self) -> str:
        """What it is and where it is asked."""
        known = self.properties
        if isinstance(known, ConsumerConfig):  # whose file is read on workers only
            known = known.given
        return f"kafka at {known.get('bootstrap.servers')}"

    @property
    def collections(self) -> tuple[str, ...]:
        """What the collections are called: as their topics."""
        return self.names

    def prepare(self) -> list[str]:
        """Create nothing."""
        return []

    def connect(self) -> KafkaCluster:
        """Open a connection; see ``SourceSettings``."""
        from transforms.sources.kafka.topic import KafkaCluster  # noqa: PLC0415 - imports the client

        return KafkaCluster(self.properties, self.group_id)

    def reader(self) -> KafkaReader:
        """Return what workers read with."""
        from transforms.sources.kafka.reader import KafkaReader  # noqa: PLC0415 - as above

        return KafkaReader(self.properties, self.by)
