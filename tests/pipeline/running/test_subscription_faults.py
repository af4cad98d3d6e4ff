"""Whatever goes wrong between us and Pub/Sub: each message is one row, and none is left."""

from __future__ import annotations

import time
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING

import pytest
from grpc import StatusCode

from tests.services.pubsub_fake import Fault, Faults
from tests.services.pubsub_proxy import PubSubProxy
from tests.subscribed import Workers

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from _pytest.mark import ParameterSet


def every(**calls: Sequence[StatusCode | Fault | None]) -> Callable[[], Faults]:
    """Let the calls of a method come to this, in turn, again and again."""
    return lambda: Faults({method: cycle(each) for method, each in calls.items()})


def exactly_once(**calls: Sequence[StatusCode | Fault | None]) -> Callable[[], Faults]:
    """Let the subscription be one that says which leases are over."""
    return lambda: replace(every(**calls)(), is_exactly_once=True)


_LAPSE = [*[None] * 5, Fault.LAPSE]
_CODES = (StatusCode.UNAVAILABLE, StatusCode.DEADLINE_EXCEEDED, Fault.LOST, Fault.LATE)
FAULTS: dict[str, Callable[[], Faults]] = {
    **{
        f"{method} {code.name.lower()}": every(**{method: [None, code, None]})
        for method in ("Pull", "Acknowledge", "ModifyAckDeadline")
        for code in _CODES
    },
    "leases lapse": every(Pull=_LAPSE),
    "an acknowledgement's OK does nothing": every(Pull=_LAPSE, Acknowledge=[Fault.IDLE, None]),
    "an extension's OK does nothing": every(ModifyAckDeadline=[Fault.IDLE]),
    "empty while messages wait": every(Pull=[*[Fault.IDLE] * 5, None]),
    "doubled": lambda: Faults(doubled=0.05),
    "refused for good": exactly_once(Pull=_LAPSE),
    "refused for now": exactly_once(Acknowledge=[Fault.REFUSED, Fault.REFUSED, None]),
    "all at once": lambda: replace(
        exactly_once(
            Pull=[*_LAPSE, Fault.LOST, None, Fault.IDLE, StatusCode.UNAVAILABLE],
            Acknowledge=[None, Fault.LOST, Fault.IDLE, Fault.REFUSED, Fault.LATE],
            ModifyAckDeadline=[None, Fault.LOST, Fault.IDLE, StatusCode.DEADLINE_EXCEEDED],
        )(),
        doubled=0.05,
    ),
}
# the others are part of the long campaign
SHORT = (
    "Pull lost",
    "Pull deadline_exceeded",
    "Acknowledge lost",
    "ModifyAckDeadline unavailable",
    "an acknowledgement's OK does nothing",
    "empty while messages wait",
    "refused for good",
    "refused for now",
    "all at once",
)
SHARED = ("doubled", "leases lapse")
CI = ("pstest", "an acknowledgement's OK does nothing")


def cases(short: Sequence[str]) -> list[ParameterSet]:
    """Return a case a fault; those that are not short are marked."""
    return [
        pytest.param(each, marks=() if each in short else [pytest.mark.faults]) for each in FAULTS
    ]


@pytest.fixture
def workers(tmp_path: Path) -> Iterator[Workers]:
    """Start a server and what collects from it."""
    with Workers.of(tmp_path) as workers:
        yield workers


@pytest.mark.parametrize("name", cases(SHORT))
def test_each_message_is_one_row_through_any_fault(workers: Workers, name: str) -> None:
    """And is acknowledged in the end; all ack ids have 184 bytes."""
    workers.publish(6_000)
    workers.fake.faults = FAULTS[name]()
    workers.collect_here()
    workers.check()


@pytest.mark.parametrize("name", cases(SHARED))
def test_each_message_is_one_row_of_one_of_two_tasks(workers: Workers, name: str) -> None:
    """Who may both have pulled it, in one cycle or in two."""
    workers.publish(3_000)  # one worker can hold all of them, the other those that come again
    workers.fake.faults = FAULTS[name]()
    workers.collect(shards=2)
    workers.check()


REAL = [
    pytest.param(server, name, marks=() if (server, name) == CI else [pytest.mark.faults])
    for server in ("emulator", "pstest")
    for name in FAULTS
]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(("server", "name"), REAL)
def test_each_message_of_a_real_server_is_one_row_through_any_fault(
    server: str,
    name: str,
    tmp_path: Path,
    tell: Callable[[str], None],
    request: pytest.FixtureRequest,
) -> None:
    """Which a proxy in front of it makes: its leases last as long as the server has them last."""
    with Workers.before(request.getfixturevalue(server), tmp_path) as workers:
        workers.publish(3_000)
        workers.server.faults = FAULTS[name]()
        began = time.monotonic()
        workers.collect_here()
        took = time.monotonic() - began
        assert isinstance(workers.server, PubSubProxy)
        tell(f"{server}, {name}: {workers.server.injected} faults, {took:.1f} s")
        assert workers.server.injected
        workers.check()


@pytest.mark.faults
@pytest.mark.timeout(300)
@pytest.mark.parametrize("server", ["emulator", "pstest"])
@pytest.mark.parametrize("name", SHARED)
def test_each_message_of_a_real_server_is_one_row_of_one_of_two_tasks(
    server: str, name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """Who may both have pulled it, in one cycle or in two."""
    with Workers.before(request.getfixturevalue(server), tmp_path) as workers:
        workers.publish(3_000)
        workers.server.faults = FAULTS[name]()
        workers.collect(shards=2)
        workers.check()
