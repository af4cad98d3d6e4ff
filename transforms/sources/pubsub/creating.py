"""Creates a subscription to collect from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import grpc
from google.protobuf.duration_pb2 import Duration

from batch_collection.errors import CollectionError
from transforms.sources.pubsub.client import Client, request

if TYPE_CHECKING:
    from typing import Any

__all__ = ["create"]

_CALL_SECONDS = 7
_ACK_SECONDS = 60
_RETENTION_SECONDS = 7 * 24 * 60 * 60


def create(path: str, topic: str, endpoint: str | None = None) -> str:
    """Create a subscription of a topic, unless there is one; return what to say of it.

    It is one that is never deleted for not being used, without ordering and without a dead-letter
    topic.

    Args:
        path: ``projects/PROJECT/subscriptions/NAME``.
        topic: ``projects/PROJECT/topics/NAME``.
        endpoint: see ``Client``.

    Raises:
        CollectionError: there is one of that name, of another topic.
        SourceError: it can't be created.
    """
    client = Client(endpoint)
    try:
        return _created(client, path, topic)
    finally:
        client.close()


def _created(client: Client, path: str, topic: str) -> str:
    wanted = request(
        "Subscription",
        name=path,
        topic=topic,
        ack_deadline_seconds=_ACK_SECONDS,
        message_retention_duration=Duration(seconds=_RETENTION_SECONDS),
        expiration_policy={},
    )
    try:
        client.create(wanted, timeout=_CALL_SECONDS)
    except grpc.RpcError as error:
        if error.code() is grpc.StatusCode.ALREADY_EXISTS:
            _check_topic(client, path, topic)
            return f"subscription={path} is there already; it is taken as it is"
        doing, missing = f"create subscription={path}", f"no topic={topic}; fix --input_topic"
        raise client.error(doing, error, missing, "roles/pubsub.editor") from error
    return f"created subscription={path} of topic={topic}: what was published before is not in it"


def _check_topic(client: Client, path: str, topic: str) -> None:
    try:
        found: Any = client.get(
            request("GetSubscriptionRequest", subscription=path), timeout=_CALL_SECONDS
        )
    except grpc.RpcError:  # whoever may not look at it is told when it is collected
        return
    if found.topic != topic:
        message = (
            f"subscription={path} is there already, of topic={found.topic} and not {topic}; "
            "give another --create_subscription, or collect it with --input_subscription"
        )
        raise CollectionError(message)
