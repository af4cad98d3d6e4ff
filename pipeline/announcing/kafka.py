"""Announcements to a Kafka topic, one after the other."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from batch_collection.errors import SourceError
from pipeline.announcing.contract import CONTENT_TYPE, UndeliveredError
from transforms.sources.kafka.producer import SendingClient

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.announcing.contract import Announcement

__all__ = ["KafkaAnnouncements"]

_HEADERS = {"content-type": CONTENT_TYPE.encode()}


class KafkaAnnouncements:
    """Sends announcements to a topic, keyed by their collection, so that they keep their order."""

    def __init__(self, topic: str, servers: str, properties: Mapping[str, str]) -> None:
        """Take a topic, which must be there, the brokers, and librdkafka's properties."""
        self._topic, self._servers, self._properties = topic, servers, properties
        self.name = f"kafka://{topic}"
        self._client: SendingClient | None = None

    def publish(self, announcement: Announcement) -> None:
        """Send one, and wait until the brokers have it; see ``Publisher``."""
        try:
            if self._client is None:
                self._client = self._connected()
            key = str(announcement.event["source"]).encode()
            self._client.send(self._topic, announcement.body, key, _HEADERS)
            self._client.deliver(threading.Event())
        except SourceError as error:
            self._client = None  # it remembers what it could not send
            message = f"cannot announce {announcement.event['subject']} to {self.name}: {error}"
            raise UndeliveredError(message) from error

    def _connected(self) -> SendingClient:
        """Return a producer; that the topic is missing would else be a message's long timeout."""
        client = SendingClient(self._servers, self._properties, lambda _: None)
        if not client.is_there(self._topic, threading.Event()):
            message = f"no topic={self._topic} at kafka {self._servers}; create it"
            raise SourceError(message)
        return client

    def close(self) -> None:
        """Let go of the producer, which has nothing left to send."""
        self._client = None
