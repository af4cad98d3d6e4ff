"""A Pub/Sub subscription as a source: pulls, leases, and what it says of itself."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

import grpc
import numpy as np
import pyarrow as pa

from batch_collection.errors import CollectionError, SourceError
from batch_collection.log.entry import Source
from batch_collection.windows import format_duration
from transforms.sources.contract import HEADERS, LEASED, Terms
from transforms.sources.pubsub.client import Client, refusals, request
from transforms.sources.pubsub.naming import collection_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import timedelta

__all__ = ["Subscription", "as_table", "parts", "terms_of"]

_KIND = "pubsub"
_MOST_PULLED = 1_000
_PULL_SECONDS = 90  # a shorter one leaves what was just handed out to nobody for a whole lease
_ASK_SECONDS = 7  # two of them are over within 15 s
_TELL_SECONDS = 30
_MOST_TOLD, _MOST_TOLD_BYTES = 1_000, 400 * 1024  # the service takes 512 KiB a request
_LEASE_BYTES = 4  # what Protobuf adds to each, at most
_IN_FLIGHT = 8
_PAUSES = (0.1, 0.2, 0.4, 0.8, 1.6)  # before what was refused for now is told again
_DELETED_TOPIC = "_deleted-topic_"
_EXPORTS = {
    "bigquery_config": "BigQuery",
    "bigtable_config": "Bigtable",
    "cloud_storage_config": "Cloud Storage",
}


class Subscription:
    """A subscription: a ``LeasedSource``.

    A lease is an ack id. Of a subscription with exactly-once delivery those are over for good that
    it says so of; any other takes each with an OK, which proves nothing.
    """

    def __init__(self, path: str, endpoint: str | None = None) -> None:
        """Open a connection; nothing is asked yet.

        Args:
            path: ``projects/PROJECT/subscriptions/NAME``.
            endpoint: see ``Client``.

        Raises:
            CollectionError: Pub/Sub's client is not installed.
            SourceError: there is nobody to log in as.
        """
        self.path = path
        self._client = Client(endpoint)
        self._pulls: set[Any] = set()
        self._is_interrupted = False
        self._lock = threading.Lock()

    @property
    def name(self) -> str:
        """The subscription's name without its project; ``~ + %`` as in a URL."""
        return collection_of(self.path)

    def terms(self) -> Terms:
        """Ask how the subscription is set up; without the permission to, only that it is there."""
        doing = f"look at subscription={self.path}"
        try:
            found = self._client.get(
                request("GetSubscriptionRequest", subscription=self.path), timeout=_ASK_SECONDS
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.PERMISSION_DENIED:
                raise self._client.error(doing, error) from error
            found = None
        terms = Terms(Source(_KIND, self.path)) if found is None else terms_of(found)
        self._try_to_consume()
        return terms

    def pull(self, messages: int) -> pa.Table:
        """Take up to 1,000 messages; see ``LeasedSource``."""
        asked = request(
            "PullRequest",
            subscription=self.path,
            max_messages=min(messages, _MOST_PULLED),
            return_immediately=self._client.is_plain,  # Google's emulator forgets no pull
        )
        with self._lock:
            if self._is_interrupted:
                return LEASED.empty_table()
            pull = self._client.pull.future(asked, timeout=_PULL_SECONDS)
            self._pulls.add(pull)
        try:
            return as_table(pull.result())
        except grpc.FutureCancelledError:
            return LEASED.empty_table()
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.DEADLINE_EXCEEDED:  # there was nothing
                return LEASED.empty_table()
            doing = f"pull from subscription={self.path}"
            raise self._client.error(doing, error) from error
        finally:
            with self._lock:
                self._pulls.discard(pull)

    def interrupt(self) -> None:
        """Cancel pulls; see ``LeasedSource``."""
        with self._lock:
            self._is_interrupted = True
            waiting = list(self._pulls)
        for pull in waiting:
            pull.cancel()

    def extend(self, leases: Sequence[str], seconds: int) -> None:
        """Modify ack deadlines; see ``LeasedSource``."""
        self._modify("hold messages of", leases, seconds)

    def acknowledge(self, leases: Sequence[str]) -> list[str]:
        """Acknowledge; see ``LeasedSource``."""
        call = self._client.acknowledge
        return self._told("acknowledge messages of", call, "AcknowledgeRequest", leases)

    def give_back(self, leases: Sequence[str]) -> None:
        """Let ack deadlines end now; see ``LeasedSource``."""
        self._modify("give back messages of", leases, 0)

    def close(self) -> None:
        """Close the connection."""
        self._client.close()

    def _try_to_consume(self) -> None:
        """See that messages may be pulled, without one: to modify no deadline is a bad request."""
        try:
            self._client.modify(
                request(
                    "ModifyAckDeadlineRequest", subscription=self.path, ack_deadline_seconds=60
                ),
                timeout=_ASK_SECONDS,
            )
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.INVALID_ARGUMENT:
                doing = f"consume subscription={self.path}"
                raise self._client.error(doing, error) from error

    def _modify(self, doing: str, leases: Sequence[str], seconds: int) -> None:
        kind = "ModifyAckDeadlineRequest"
        self._told(doing, self._client.modify, kind, leases, ack_deadline_seconds=seconds)

    def _told(
        self, doing: str, call: Any, kind: str, leases: Sequence[str], **fields: int
    ) -> list[str]:
        """Tell something of leases, those refused for now again; return those that are over."""
        doing = f"{doing} subscription={self.path}"
        over: list[str] = []
        for pause in (0.0, *_PAUSES):
            time.sleep(pause)
            refused: dict[str, str] = {}
            asked = (
                request(kind, subscription=self.path, ack_ids=part, **fields)
                for part in parts(leases)
            )
            try:
                for found in _answers(call, asked):
                    refused |= found
            except grpc.RpcError as error:
                raise self._client.error(doing, error) from error
            over += [lease for lease, why in refused.items() if why.startswith("PERMANENT")]
            leases = [lease for lease, why in refused.items() if why.startswith("TRANSIENT")]
            if not leases:
                return over
        message = f"cannot {doing}: {len(leases)} refused for now: {refused[leases[0]]}"
        raise SourceError(message)


def _answers(call: Any, requests: Iterator[Any]) -> Iterator[dict[str, str]]:
    """Send requests, some at once, and yield the refusals of each."""
    sent: deque[Any] = deque()
    for each in requests:
        if len(sent) == _IN_FLIGHT:
            yield _answer(sent.popleft())
        sent.append(call.future(each, timeout=_TELL_SECONDS))
    while sent:
        yield _answer(sent.popleft())


def _answer(sent: Any) -> dict[str, str]:
    try:
        sent.result()
    except grpc.RpcError as error:
        found = dict(refusals(error))
        if not found:
            raise
        return found
    return {}


def parts(leases: Sequence[str]) -> Iterator[Sequence[str]]:
    """Yield leases in parts that one request may hold: at most 1,000, and 400 KiB."""
    start = size = 0
    for index, lease in enumerate(leases):
        grown = size + len(lease) + _LEASE_BYTES
        if index > start and (index - start == _MOST_TOLD or grown > _MOST_TOLD_BYTES):
            yield leases[start:index]
            start, grown = index, len(lease) + _LEASE_BYTES
        size = grown
    if start < len(leases):
        yield leases[start:]


def as_table(answer: Any) -> pa.Table:
    """Return an answer to a pull as a table of schema ``LEASED``."""
    received = answer.received_messages
    messages = [each.message for each in received]
    times = [message.publish_time for message in messages]
    columns: list[Any] = [
        [message.message_id for message in messages],
        [each.ack_id for each in received],
        pa.array([time.seconds * 1_000_000 + time.nanos // 1_000 for time in times], pa.int64()),
        [message.data for message in messages],
        [message.ordering_key or None for message in messages],
        _attributes(messages),
    ]
    arrays = [
        each.cast(field.type) if isinstance(each, pa.Array) else pa.array(each, field.type)
        for each, field in zip(columns, LEASED, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=LEASED)


def _attributes(messages: Sequence[Any]) -> pa.Array:
    """Return the attributes of each message, null where it has none."""
    counts = np.array([len(message.attributes) for message in messages], np.int32)
    if not counts.any():
        return pa.nulls(len(messages), HEADERS)
    pairs = [pair for message in messages for pair in message.attributes.items()]
    keys = pa.array([key for key, _ in pairs], pa.string())
    values = pa.array([value.encode() for _, value in pairs], pa.binary())
    entries = pa.StructArray.from_arrays([keys, values], fields=list(HEADERS.value_type))
    offsets = np.concatenate([[0], np.cumsum(counts)])
    starts = pa.array(offsets, pa.int32(), mask=np.append(counts == 0, False))
    return pa.ListArray.from_arrays(starts, entries)


def terms_of(found: Any) -> Terms:
    """Return what a subscription's settings, Protobuf's ``Subscription``, say to us.

    Raises:
        CollectionError: it can't be pulled from, or not as fast as its messages come.
    """
    topic = None if found.topic == _DELETED_TOPIC else found.topic
    retention = found.message_retention_duration.ToTimedelta() or None
    if refused := _refused(found):
        message = (
            f"cannot collect subscription={found.name}: it {refused}; "
            f"create one to pull from, without ordering, on {topic or 'another topic'}"
        )
        raise CollectionError(message)
    return Terms(Source(_KIND, found.name, topic), retention, tuple(_notes(found, retention)))


def _refused(found: Any) -> str | None:
    if found.push_config.push_endpoint:
        return f"pushes its messages to {found.push_config.push_endpoint}"
    for field, name in _EXPORTS.items():
        if field in found.DESCRIPTOR.fields_by_name and found.HasField(field):
            return f"exports its messages to {name}"
    if found.detached:
        return "is detached from its topic"
    if found.enable_message_ordering:
        return "has message ordering, where a key's messages come only behind each acknowledgement"
    return None


def _notes(found: Any, retention: timedelta | None) -> Iterator[str]:
    name = f"subscription={found.name}"
    if found.topic == _DELETED_TOPIC:
        yield f"{name}: its topic is deleted, and nothing new comes"
    policy = found.dead_letter_policy
    if policy.dead_letter_topic:
        yield (
            f"{name}: a message that was given back or not held {policy.max_delivery_attempts} "
            f"times leaves for {policy.dead_letter_topic}"
        )
    if found.filter:
        yield f"{name}: only messages that its filter lets through come: {found.filter}"
    if retention is not None:
        kept = format_duration(retention)
        yield f"{name}: what is not collected within {kept} is gone"
