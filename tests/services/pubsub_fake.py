"""A small Pub/Sub of our own, for what no emulator does.

Answers lost, and lies, on demand; a million messages that wait, published over hours:

    python -m tests.services.pubsub_fake MESSAGES HOURS MINUTES

says where it listens, and ends with its standard input; each so many minutes are shuffled.
"""

from __future__ import annotations

import random
import sys
from concurrent import futures
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from enum import Enum, auto
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.empty_pb2 import Empty
from google.pubsub_v1.types import pubsub
from google.rpc.error_details_pb2 import ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status import rpc_status

from tests.leased_stream import Clock, LeasedStream, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PATH", "UNHEARD", "FakePubSub", "Fault", "Faults", "RefusedError", "backlog"]

PATH = "projects/tests-1/subscriptions/stream"
_MOST_BYTES = 512 * 1024  # a request's, as the real service has it
_PULL_SECONDS = 0.3


class Fault(Enum):
    """What may become of a call, beside a status code, which it answers without doing anything."""

    LOST = auto()
    """All is done, and no answer comes."""
    LATE = auto()
    """All is done, and the answer comes behind the client's deadline."""
    IDLE = auto()
    """It is answered as if all was well, and nothing is done."""
    LAPSE = auto()
    """Before it is worked off all leases are over, whatever they were extended to."""
    REFUSED = auto()
    """The first half of its ids is refused for now, as of exactly-once delivery."""


UNHEARD = {
    Fault.LOST: grpc.StatusCode.UNAVAILABLE,
    Fault.LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
}


@dataclass
class Faults:
    """What goes wrong.

    Attributes:
        calls: by method, what becomes of the next calls, one after another; None: they are well.
        is_exactly_once: acknowledgements and extensions of what is over are refused.
        transient: how many acknowledgements are refused for now.
        doubled: which part of messages is handed out again at once, though somebody has them.
    """

    calls: dict[str, Iterator[grpc.StatusCode | Fault | None]] = field(default_factory=dict)
    is_exactly_once: bool = False
    transient: int = 0
    doubled: float = 0.0


class FakePubSub(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """A server with one subscription, ``PATH``; ``faults`` may be changed while it runs.

    ``requests`` holds the size of each request in bytes, by method.
    """

    path = PATH

    def __init__(self, port: int = 0) -> None:
        """Start it; without a port it takes a free one."""
        self.stream, self.faults = LeasedStream(), Faults()
        self.settings = pubsub.Subscription.pb()(name=PATH, topic="projects/p/topics/t")
        self.requests: list[tuple[str, int]] = []
        self._chance = random.Random(0)
        self._methods: dict[str, tuple[Any, Callable[[Any], Any]]] = {
            "GetSubscription": (pubsub.GetSubscriptionRequest, lambda _: self.settings),
            "Pull": (pubsub.PullRequest, self._pull),
            "ModifyAckDeadline": (pubsub.ModifyAckDeadlineRequest, self._modify),
            "Acknowledge": (pubsub.AcknowledgeRequest, self._acknowledge),
        }
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        self._server = grpc.server(futures.ThreadPoolExecutor(16), (self,), options=limits)
        port = self._server.add_insecure_port(f"127.0.0.1:{port}")
        self.endpoint = f"http://127.0.0.1:{port}"
        self._server.start()

    @property
    def left(self) -> int:
        """How many messages are not acknowledged."""
        return len(self.stream.left)

    def close(self) -> None:
        """Stop it."""
        self._server.stop(None).wait()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Find what answers a call."""
        name = details.method.rpartition("/")[2]
        kind, do = self._methods[name]

        def answered(asked: Any, context: grpc.ServicerContext) -> Any:
            self.requests.append((name, asked.ByteSize()))
            fault = next(self.faults.calls.get(name, iter(())), None)
            if isinstance(fault, grpc.StatusCode):
                context.abort(fault, "as planned")
            if asked.subscription != PATH:
                context.abort(grpc.StatusCode.NOT_FOUND, "Resource not found")
            if asked.ByteSize() > _MOST_BYTES:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "Request payload size exceeds")
            if fault is Fault.IDLE:
                return Empty()  # the same bytes as of every message without content
            if fault is Fault.LAPSE:
                self.stream.lapse()
            if fault is Fault.REFUSED:
                self.faults.transient = len(asked.ack_ids) // 2
            try:
                answer = do(asked)
            except RefusedError as error:
                context.abort_with_status(rpc_status.to_status(error.status))
            if fault in UNHEARD:
                context.abort(UNHEARD[fault], "the answer is lost")
            return answer

        return grpc.unary_unary_rpc_method_handler(
            answered,
            request_deserializer=kind.pb().FromString,
            response_serializer=lambda answer: answer.SerializeToString(),
        )

    def _pull(self, asked: Any) -> Any:
        with self.stream.changed:
            given = self.stream.deliver(asked.max_messages)
            if not given:
                self.stream.changed.wait(_PULL_SECONDS)
                given = self.stream.deliver(asked.max_messages)
        answer = pubsub.PullResponse.pb()()
        for _, message in given:
            if self._chance.random() < self.faults.doubled:
                self.stream.hand_out_again(message.id)
        for lease, message in given:
            received = answer.received_messages.add(ack_id=lease)
            received.message.message_id, received.message.data = message.id, message.value
            received.message.ordering_key = message.key or ""
            received.message.attributes.update(message.attributes or {})
            received.message.publish_time.FromDatetime(message.published)
        return answer

    def _modify(self, asked: Any) -> Empty:
        if not asked.ack_ids:
            raise RefusedError({})
        self._each(
            asked.ack_ids, lambda lease: self.stream.extend(lease, asked.ack_deadline_seconds)
        )
        return Empty()

    def _acknowledge(self, asked: Any) -> Empty:
        self._each(asked.ack_ids, self.stream.acknowledge)
        return Empty()

    def _each(self, leases: Iterator[str], do: Callable[[str], bool]) -> None:
        refused = {}
        for lease in leases:
            if self.faults.transient:
                self.faults.transient -= 1
                refused[lease] = "TRANSIENT_FAILURE_INVALID_ACK_ID"
            elif not do(lease):
                refused[lease] = "PERMANENT_FAILURE_INVALID_ACK_ID"
        if refused and self.faults.is_exactly_once:
            raise RefusedError(refused)


class RefusedError(Exception):
    """Ack ids are refused, as of a subscription with exactly-once delivery."""

    def __init__(self, refused: dict[str, str]) -> None:
        super().__init__()
        told = AnyMessage()
        told.Pack(ErrorInfo(reason="EXACTLY_ONCE_ACKID_FAILURE", metadata=refused))
        code = grpc.StatusCode.INVALID_ARGUMENT.value[0]
        self.status = Status(code=code, message="Some ids are refused", details=[told])


def backlog(
    count: int, begin: datetime, lasted: timedelta, disorder: timedelta
) -> Iterator[Message]:
    """Yield messages of 100 bytes that were published evenly over a time.

    They come roughly as they were published, as of Google's: each time so long as ``disorder`` is
    shuffled.
    """
    rng = random.Random(count)
    step = lasted / count
    near = max(1, int(disorder / step))
    for first in range(0, count, near):
        numbers = list(range(first, min(first + near, count)))
        rng.shuffle(numbers)
        for number in numbers:
            value = b'{"id":%d,"place":"hall-%d","text":"%s"}' % (number, number % 97, b"-" * 66)
            yield Message(str(number + 1), value, begin + number * step)


def main(messages: int, hours: float, disorder: float) -> None:
    """Serve a backlog that ends now until standard input is closed; say how much was heard of."""
    fake, lasted = FakePubSub(), timedelta(hours=hours)
    fake.stream.clock = Clock(rate=1)
    begin = datetime.now(timezone.utc) - lasted
    fake.stream.wait_with(backlog(messages, begin, lasted, timedelta(minutes=disorder)))
    print(fake.endpoint, flush=True)
    sys.stdin.read()
    print(len(fake.stream.acknowledged), flush=True)
    fake.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
