"""Where announcements go, as a flag names it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from pipeline.announcing.command import Command

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pipeline.announcing.contract import Publisher

__all__ = ["FORMS", "Target"]

FORMS = "https://HOST/PATH, kafka://TOPIC or command:PROGRAM ..."
_TOPIC = re.compile(r"kafka://([A-Za-z0-9._-]{1,249})/?")
_COMMAND = "command:"


@dataclass(frozen=True, slots=True)
class Target:
    """Where announcements go.

    Attributes:
        text: one of ``FORMS``.
        secret: what a webhook's are signed with; None: they are not.
        servers: Kafka's brokers, for a topic.
        properties: librdkafka's, for a topic.
    """

    text: str
    secret: bytes | None = field(default=None, repr=False)
    servers: str = ""
    properties: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def is_kafka(self) -> bool:
        """Whether it is a topic."""
        return self.text.startswith("kafka:")

    def open(self) -> Publisher:
        """Return what hands announcements over; nobody is connected to yet.

        Raises:
            CollectionError: there can be no such target.
        """
        if self.text.startswith(("https:", "http:")):
            from pipeline.announcing.webhook import Webhook  # noqa: PLC0415 - loads an HTTP client

            return Webhook(self.text, self.secret)
        if self.secret is not None:
            message = "only what is posted to https:// is signed; leave the secret out"
            raise CollectionError(message)
        if self.text.startswith(_COMMAND):
            return Command(self.text.removeprefix(_COMMAND))
        topic = _TOPIC.fullmatch(self.text)
        if topic is None:
            message = f"announcements go to {FORMS}"
            raise CollectionError(message)
        from pipeline.announcing.kafka import KafkaAnnouncements  # noqa: PLC0415 - loads the client

        return KafkaAnnouncements(topic[1], self.servers, self.properties)
