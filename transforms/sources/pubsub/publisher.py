"""Publishes messages, to try a collector on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc

from transforms.sources.pubsub.client import Client, request

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Publisher"]

_CALL_SECONDS = 10
_ROLE = "roles/pubsub.publisher"


class Publisher:
    """Sends to topics; what it has returned the id of, Pub/Sub has."""

    def __init__(self, endpoint: str | None = None) -> None:
        """Open a connection; see ``Client``."""
        self._client = Client(endpoint)

    def publish(self, topic: str, values: Sequence[bytes]) -> list[str]:
        """Publish messages, at most 1,000; return their ids.

        Args:
            topic: ``projects/PROJECT/topics/NAME``.
            values: their data.

        Raises:
            SourceError: there is no such topic, or no answer comes.
        """
        messages = [request("PubsubMessage", data=value) for value in values]
        asked = request("PublishRequest", topic=topic, messages=messages)
        try:
            return list(self._client.publish(asked, timeout=_CALL_SECONDS).message_ids)
        except grpc.RpcError as error:
            doing, missing = f"send to topic={topic}", "no such topic; add --create_topics"
            raise self._client.error(doing, error, missing, _ROLE) from error

    def create(self, topic: str) -> None:
        """Create a topic, unless it is there.

        Raises:
            SourceError: it can't be created.
        """
        try:
            self._client.create_topic(request("Topic", name=topic), timeout=_CALL_SECONDS)
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.ALREADY_EXISTS:
                doing, missing = f"create topic={topic}", "no such project"
                raise self._client.error(doing, error, missing, "roles/pubsub.editor") from error

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
