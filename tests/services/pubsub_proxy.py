"""A proxy in front of a real server of Pub/Sub, at which goes wrong what does at our own.

It knows what the server has handed out last, and which acknowledgements have come through.
"""

from __future__ import annotations

import random
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from google.pubsub_v1.types import pubsub
from grpc_status import rpc_status

from tests.services.pubsub_fake import UNHEARD, Fault, Faults, RefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.services.pubsub import PubSubServer

__all__ = ["PubSubProxy"]

_TELLING = {
    "Acknowledge": pubsub.AcknowledgeRequest.pb(),
    "ModifyAckDeadline": pubsub.ModifyAckDeadlineRequest.pb(),
}
_MODIFY = "/google.pubsub.v1.Subscriber/ModifyAckDeadline"
_A_REQUEST = 1_000
_SECONDS = 60


class PubSubProxy(grpc.GenericRpcHandler):  # type: ignore[misc]  # it has no types
    """Passes calls for one subscription on, but for what its ``faults`` say.

    Leases lapse, and messages are doubled, by giving them back behind the client's back: the server
    hands them out again, under leases of its own. What the client says of the ones given back does
    not come through, and calls are passed on one after another: so it is known what is left. None
    is given back before the client has extended it: of two answers on their way it could take the
    older one for the newer, and the message would come again when that lease is over.

    Attributes:
        path: the subscription.
        endpoint: where it listens.
        faults: see ``FakePubSub``; may be changed while it runs.
        injected: how many calls went wrong, and messages were doubled.
    """

    def __init__(self, server: PubSubServer, path: str) -> None:
        """Start it."""
        self.path, self.faults, self.injected = path, Faults(), 0
        self._chance = random.Random(0)
        self._lock = threading.RLock()
        self._last: dict[str, str] = {}  # by message: the lease under which it came last
        self._messages: dict[str, str] = {}  # by lease
        self._acknowledged: set[str] = set()
        self._extended: set[str] = set()  # leases, as those given back
        self._given_back: set[str] = set()
        limits = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]
        target = server.endpoint.removeprefix("http://")
        self._channel = grpc.insecure_channel(target, options=limits)
        self._server = grpc.server(futures.ThreadPoolExecutor(16), (self,), options=limits)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.endpoint = f"http://127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        """Stop it."""
        self._server.stop(None).wait()
        self._channel.close()

    @property
    def left(self) -> int:
        """How many messages were handed out, and are not acknowledged by their last lease."""
        with self._lock:
            return len(self._last) - len(self._acknowledged)

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        """Answer a call; requests and answers are bytes."""
        method = details.method
        name = method.rpartition("/")[2]

        def answered(asked: bytes, context: grpc.ServicerContext) -> bytes:
            fault = next(self.faults.calls.get(name, iter(())), None)
            self.injected += fault is not None
            if isinstance(fault, grpc.StatusCode):
                context.abort(fault, "as planned")
            if fault is Fault.IDLE:
                return b""  # a message without content
            try:
                with self._lock:
                    answer = self._passed(method, asked, fault)
            except RefusedError as error:
                context.abort_with_status(rpc_status.to_status(error.status))
            except grpc.RpcError as error:
                told = rpc_status.from_call(error)
                if told is not None:
                    context.abort_with_status(rpc_status.to_status(told))
                context.abort(error.code(), error.details())
            if fault in UNHEARD:
                context.abort(UNHEARD[fault], "the answer is lost")
            return answer

        return grpc.unary_unary_rpc_method_handler(answered)

    def _passed(self, method: str, asked: bytes, fault: Fault | None) -> bytes:
        """Pass a call on, but for the ids that are refused, and note what became of it."""
        if fault is Fault.LAPSE:
            self._hand_out_again([each for each in self._extended if not self._is_over(each)])
        name = method.rpartition("/")[2]
        if name in _TELLING:
            return self._told(method, _TELLING[name].FromString(asked), fault)
        answer = self._asked(method, asked)
        if name == "Pull":
            self._note_delivered(answer)
        return answer

    def _told(self, method: str, request: Any, fault: Fault | None) -> bytes:
        """Pass on what is told of leases."""
        refused = self._refused(request.ack_ids, fault)
        left_out = self._given_back | refused.keys()
        ids = [lease for lease in request.ack_ids if lease not in left_out]
        is_passed_on = len(ids) > 0 or not request.ack_ids
        del request.ack_ids[:]
        request.ack_ids.extend(ids)
        answer = self._asked(method, request.SerializeToString()) if is_passed_on else b""
        last = [lease for lease in ids if not self._is_over(lease)]
        if method == _MODIFY:
            fresh = [lease for lease in last if lease not in self._extended]
            self._extended.update(fresh)
            doubled = [each for each in fresh if self._chance.random() < self.faults.doubled]
            self.injected += len(doubled)
            self._hand_out_again(doubled)
        else:
            self._acknowledged |= {self._messages[lease] for lease in last}
        if refused:
            raise RefusedError(refused)
        return answer

    def _asked(self, method: str, asked: bytes) -> bytes:
        answer: bytes = self._channel.unary_unary(method)(asked, timeout=_SECONDS)
        return answer

    def _refused(self, leases: Sequence[str], fault: Fault | None) -> dict[str, str]:
        """Return the leases that are refused, and why, as of exactly-once delivery."""
        if not self.faults.is_exactly_once:
            return {}
        now = len(leases) // 2 if fault is Fault.REFUSED else 0
        refused = dict.fromkeys(leases[:now], "TRANSIENT_FAILURE_INVALID_ACK_ID")
        over = [lease for lease in leases[now:] if self._is_over(lease)]
        return refused | dict.fromkeys(over, "PERMANENT_FAILURE_INVALID_ACK_ID")

    def _is_over(self, lease: str) -> bool:
        name = self._messages.get(lease, "")
        is_last = self._last.get(name) == lease and lease not in self._given_back
        return not is_last or name in self._acknowledged

    def _note_delivered(self, answer: bytes) -> None:
        """Note the last lease of each message."""
        for each in pubsub.PullResponse.pb().FromString(answer).received_messages:
            name = each.message.message_id
            self._last[name], self._messages[each.ack_id] = each.ack_id, name
            self._acknowledged.discard(name)

    def _hand_out_again(self, leases: Sequence[str]) -> None:
        """Give messages back, of which the client does not know."""
        self._given_back.update(leases)
        for start in range(0, len(leases), _A_REQUEST):
            asked = _TELLING["ModifyAckDeadline"](
                subscription=self.path,
                ack_ids=leases[start : start + _A_REQUEST],
                ack_deadline_seconds=0,
            )
            self._asked(_MODIFY, asked.SerializeToString())
