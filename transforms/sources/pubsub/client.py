"""Calls of Pub/Sub by plain Protobuf messages: the client's own classes halve the speed of pulls.

What is told where no answer comes, or a bad one, is said here, too.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any

import grpc
from google.auth.exceptions import GoogleAuthError
from google.protobuf.empty_pb2 import Empty
from google.rpc.error_details_pb2 import ErrorInfo
from grpc_status import rpc_status

from batch_collection.errors import SourceError, in_one_line
from batch_collection.loading import extra

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Client", "refusals", "request"]

_HOST = "pubsub.googleapis.com:443"
_PLAIN = "http://"
_RECONNECT = ("grpc.max_reconnect_backoff_ms", 2_000)  # two minutes by default
# what Google's own client sets, but only where it talks to Google
_UNLIMITED = [
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_metadata_size", 4 * 1024 * 1024),  # refusals name their ids there
]
# of many requests that tell of leases a few may fail; whoever waits for all of them would never end
_SENT_AGAIN = {
    "methodConfig": [
        {
            "name": [
                {"service": "google.pubsub.v1.Subscriber", "method": "Acknowledge"},
                {"service": "google.pubsub.v1.Subscriber", "method": "ModifyAckDeadline"},
            ],
            "retryPolicy": {
                "maxAttempts": 5,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE", "DEADLINE_EXCEEDED", "INTERNAL", "ABORTED"],
            },
        }
    ]
}
_RETRIES = [
    ("grpc.service_config", json.dumps(_SENT_AGAIN)),
    ("grpc.per_rpc_retry_buffer_size", 1 << 20),  # a larger request is not sent again
]
_KEEPALIVE = ("grpc.keepalive_time_ms", 30_000)  # an emulator hangs up on who asks that often
_LOGIN = (
    "log in with `gcloud auth application-default login`, "
    "or name a key's file in GOOGLE_APPLICATION_CREDENTIALS"
)

_NO_SUBSCRIPTION = "no such subscription; fix its name, or create it with --create_subscription"


def request(name: str, /, **fields: object) -> Any:
    """Return a plain Protobuf message of Pub/Sub's, such as ``PullRequest``."""
    return _plain(name)(**fields)


class Client:
    """One connection, which threads share.

    Attributes:
        where: the server's address, for people.
        get, pull, modify, acknowledge, create, publish, create_topic: calls;
            ``pull(request, timeout=90)``, or ``pull.future(request, timeout=90)``.
    """

    def __init__(self, endpoint: str | None = None) -> None:
        """Open a connection; nothing is asked yet.

        Args:
            endpoint: ``HOST:PORT`` of a region, or ``http://HOST:PORT`` of an emulator, where
                nobody logs in. By default the emulator of ``PUBSUB_EMULATOR_HOST``, else Google's.

        Raises:
            CollectionError: Pub/Sub's client is not installed.
            SourceError: there is nobody to log in as.
        """
        emulator = os.environ.get("PUBSUB_EMULATOR_HOST")
        if endpoint is None and emulator:
            endpoint = _PLAIN + emulator.removeprefix(_PLAIN)
        self.is_plain = endpoint is not None and endpoint.startswith(_PLAIN)
        self.where = (endpoint or _HOST).removeprefix(_PLAIN)
        self._channel = self._opened()
        self.get = self._call("GetSubscription", "GetSubscriptionRequest", _plain("Subscription"))
        self.pull = self._call("Pull", "PullRequest", _plain("PullResponse"))
        self.modify = self._call("ModifyAckDeadline", "ModifyAckDeadlineRequest", Empty)
        self.acknowledge = self._call("Acknowledge", "AcknowledgeRequest", Empty)
        self.create = self._call("CreateSubscription", "Subscription", _plain("Subscription"))
        publisher = "Publisher"
        self.publish = self._call(
            "Publish", "PublishRequest", _plain("PublishResponse"), service=publisher
        )
        self.create_topic = self._call("CreateTopic", "Topic", _plain("Topic"), service=publisher)

    def close(self) -> None:
        """Close the connection; calls that wait for an answer are cancelled."""
        self._channel.close()

    def error(
        self,
        doing: str,
        error: grpc.RpcError,
        missing: str = _NO_SUBSCRIPTION,
        role: str = "roles/pubsub.subscriber",
    ) -> SourceError:
        """Return what to raise where a call failed, with what can be done about it.

        Args:
            doing: what was tried.
            error: what came of it.
            missing: what is told where something isn't there, and what can be done then.
            role: what allows to do it.
        """
        code, details = error.code(), " ".join((error.details() or "").split())
        if code is grpc.StatusCode.NOT_FOUND:
            told = f"pubsub at {self.where} has {missing}"
        elif code is grpc.StatusCode.PERMISSION_DENIED:
            told = f"permission denied: {details}; grant {role} on it"
        elif code is grpc.StatusCode.UNAUTHENTICATED:
            told = f"pubsub at {self.where} refuses the login: {details}; {_LOGIN}"
        elif code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            setting = "PUBSUB_EMULATOR_HOST" if self.is_plain else "the network"
            told = f"no answer from pubsub at {self.where}: {details}; check {setting}"
        else:
            told = f"pubsub at {self.where} answers {code.name}: {details}"
        return SourceError(f"cannot {doing}: {told}")

    def _opened(self) -> grpc.Channel:
        options = [*_UNLIMITED, *_RETRIES, _RECONNECT]
        if self.is_plain:
            return grpc.insecure_channel(self.where, options=options)
        transports = extra("google.pubsub_v1.services.subscriber.transports", "google-cloud-pubsub")
        try:
            return transports.SubscriberGrpcTransport.create_channel(
                self.where, options=[*options, _KEEPALIVE]
            )
        except GoogleAuthError as error:
            message = f"cannot log in to pubsub at {self.where}: {in_one_line(error)}; {_LOGIN}"
            raise SourceError(message) from error

    def _call(
        self, name: str, asked: str, answer: Any, service: str = "Subscriber"
    ) -> grpc.UnaryUnaryMultiCallable:
        return self._channel.unary_unary(
            f"/google.pubsub.v1.{service}/{name}",
            request_serializer=_plain(asked).SerializeToString,
            response_deserializer=answer.FromString,
        )


def refusals(error: grpc.RpcError) -> Mapping[str, str]:
    """Return the ack ids that an error refuses, each with its reason; none if it names none.

    Only subscriptions with exactly-once delivery say so: ``PERMANENT_FAILURE_...`` of one that is
    over, ``TRANSIENT_FAILURE_...`` of one to be sent again. What is not named was heard.
    """
    found: dict[str, str] = {}
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        told = ErrorInfo()
        if detail.Unpack(told):
            found |= {
                lease: reason
                for lease, reason in told.metadata.items()
                if reason.startswith(("PERMANENT_FAILURE_", "TRANSIENT_FAILURE_"))
            }
    return found


def _plain(name: str) -> Any:
    """Return the Protobuf class below one of the client's."""
    return getattr(extra("google.pubsub_v1.types.pubsub", "google-cloud-pubsub"), name).pb()
