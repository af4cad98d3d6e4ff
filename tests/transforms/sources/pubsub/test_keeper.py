"""The keeper: what it holds stays held, what is durable is acknowledged, whatever happens."""

from __future__ import annotations

import itertools
import math
import random
import subprocess
import sys
import time
import uuid
from contextlib import suppress
from typing import TYPE_CHECKING

import grpc
import pyarrow as pa
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from batch_collection.errors import SourceError
from tests.leased_stream import LeasedStream, MemorySource
from tests.services.pubsub_fake import PATH, FakePubSub, Fault
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.subscription import Subscription

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.services.pubsub import PubSubServer

ALL = 10**9


class Kept:
    """A keeper of a stream in memory, whose steps a test takes one by one."""

    def __init__(self, *values: bytes, bounds: Bounds = Bounds()) -> None:  # noqa: B008 - a tuple
        self.stream, self.said = LeasedStream(), list[str]()
        self.ids = self.stream.publish(*values)
        self.source = MemorySource(self.stream)
        self.keeper = Keeper(self.source, self.said.append, bounds=bounds, clock=self.stream.clock)

    def later(self, seconds: float) -> None:
        """Let time pass."""
        self.stream.clock.seconds += seconds

    def taken(self, plan: str = "p") -> list[str]:
        """Pull once, and let a plan take what there is."""
        self.keeper.pull(math.inf)
        self.keeper.pull_once()
        return ids(self.keeper.take(plan, ALL, ALL))

    def release(self, *names: str) -> None:
        """Say that messages are durable, and let that be told."""
        self.keeper.release(pa.array(names, pa.string()))
        self.keeper.acknowledge()


def ids(found: pa.Table) -> list[str]:
    """Return the ids of messages."""
    return found["id"].to_pylist()


class KeeperMachine(RuleBasedStateMachine):
    """Processes that pull, confirm, crash and lose answers, one after another, on one stream."""

    def __init__(self) -> None:
        super().__init__()
        self.stream = LeasedStream()
        self.durable: set[str] = set()
        self.published = 0
        self.crash()

    @rule()
    def crash(self) -> None:
        """Another process goes on; the last one's leases lapse in time."""
        self.source = MemorySource(self.stream)
        self.keeper = Keeper(self.source, lambda _: None, clock=self.stream.clock)
        self.keeper.pull(math.inf)
        self.taken: dict[str, list[str]] = {"p": [], "q": []}

    @rule(count=st.integers(1, 5))
    def publish(self, count: int) -> None:
        """Messages come in."""
        self.stream.publish(*[b"x"] * count)
        self.published += count

    @rule(seconds=st.sampled_from([1.0, 11.0, 41.0, 130.0, 400.0]))
    def later(self, seconds: float) -> None:
        """Time passes, perhaps more than a lease: as when the process was frozen."""
        self.stream.clock.seconds += seconds

    @rule(is_away=st.booleans())
    def leave(self, *, is_away: bool) -> None:
        """The source goes away, or is back."""
        self.source.away = is_away

    @rule(number=st.integers(1, 8))
    def redeliver(self, number: int) -> None:
        """A message comes again though it is held."""
        if self.stream.held_until(str(number)) is not None:
            self.stream.hand_out_again(str(number))

    @rule(step=st.sampled_from(["pull_once", "extend_due", "acknowledge"]))
    def take_a_step(self, step: str) -> None:
        """As the threads do."""
        with suppress(SourceError):
            getattr(self.keeper, step)()

    @rule(plan=st.sampled_from("pq"), messages=st.integers(1, 8))
    def take(self, plan: str, messages: int) -> None:
        """A plan takes messages, none of which another has, or it has itself."""
        taken = ids(self.keeper.take(plan, messages, ALL))
        assert len(set(taken)) == len(taken)
        self.taken[plan] += taken

    @rule(plan=st.sampled_from("pq"), keep=st.integers(0, 10))
    def confirm(self, plan: str, keep: int) -> None:
        """A plan's entry names some of what it took; the rest is for the next plan."""
        names = self.taken[plan][:keep]
        self.durable |= set(names)
        self.keeper.release(pa.array(names, pa.string()))
        self.keeper.end_plan(plan)
        self.taken[plan] = []

    @rule()
    def stop(self) -> None:
        """It ends in good order, as far as the source answers."""
        self.keeper.stop()
        self.crash()

    @invariant()
    def nothing_is_acknowledged_that_is_not_durable(self) -> None:
        """Whatever happened."""
        assert self.stream.acknowledged <= self.durable

    def teardown(self) -> None:
        """In the end all of it is durable and acknowledged."""
        self.source.away = False
        for _ in range(4 + self.published):
            self.later(130.0)
            self.keeper.pull(math.inf)
            for step in ("pull_once", "extend_due"):
                self.take_a_step(step)
            for plan in "pq":
                self.take(plan, 1_000)
                self.confirm(plan, 1_000)
            self.keeper.acknowledge()
            if not self.stream.left:
                break
        assert self.stream.left == {}
        assert len(self.stream.acknowledged) == self.published


TestKeeper = KeeperMachine.TestCase
TestKeeper.settings = settings(max_examples=100, stateful_step_count=40)


def test_what_comes_is_held_at_once_and_then_every_forty_seconds() -> None:
    """For 120 seconds each time, though the source gave ten."""
    kept = Kept(b"x")
    kept.keeper.extend_due()
    assert kept.taken() == ["1"]
    assert kept.stream.held_until("1") == 120
    kept.later(39)
    kept.keeper.extend_due()
    assert kept.stream.held_until("1") == 120
    kept.later(1)
    kept.keeper.extend_due()
    assert kept.stream.held_until("1") == 160
    assert kept.source.calls.count("extend") == 2


def test_a_message_that_comes_again_is_there_once_and_ends_by_its_last_lease() -> None:
    """As after a lapse: the process was frozen."""
    kept = Kept(b"x", b"y")
    assert kept.taken() == ["1", "2"]
    kept.later(200)
    assert kept.taken("q") == []
    kept.release("1", "2")
    assert kept.stream.left == {}


def test_what_a_plan_left_is_for_the_next_one() -> None:
    """What it made durable isn't."""
    kept = Kept(b"x", b"y", b"z")
    assert kept.taken("p") == ["1", "2", "3"]
    kept.release("2")
    assert kept.keeper.end_plan("p") == 2
    assert kept.taken("q") == ["1", "3"]
    assert kept.stream.acknowledged == {"2"}


def test_an_acknowledgement_that_fails_is_said_again_until_it_is_answered() -> None:
    """And is known to be open until then."""
    kept = Kept(b"x")
    kept.taken()
    kept.source.away = True
    with pytest.raises(SourceError):
        kept.release("1")
    assert kept.keeper.unacknowledged() == {"1"}
    kept.source.away = False
    kept.keeper.acknowledge()
    assert kept.keeper.unacknowledged() == set()
    assert kept.stream.acknowledged == {"1"}


def leave_after_pull(kept: Kept) -> None:
    """Let the next pull bring what there is, and the source be away then."""
    pull = kept.source.pull

    def pull_and_leave(messages: int) -> pa.Table:
        found = pull(messages)
        kept.source.away = True
        return found

    kept.source.pull = pull_and_leave  # type: ignore[method-assign]


def test_what_could_not_be_extended_is_extended_with_the_next_tick() -> None:
    """Not only when all the others are."""
    kept = Kept(b"x")
    kept.keeper.extend_due()
    leave_after_pull(kept)
    with pytest.raises(SourceError):
        kept.taken()
    kept.source.away = False
    kept.later(1)
    kept.keeper.extend_due()
    assert kept.stream.held_until("1") == 121


def test_also_while_all_the_others_are_extended() -> None:
    """Whose turn is not taken for its own."""
    kept = Kept(b"x")
    kept.taken()
    extend = kept.source.extend

    def extend_while_more_comes(leases: Sequence[str], seconds: int) -> None:
        extend(leases, seconds)
        kept.source.extend = extend  # type: ignore[method-assign]
        kept.stream.publish(b"y")
        leave_after_pull(kept)
        kept.later(1)
        with pytest.raises(SourceError):
            kept.keeper.pull_once()

    kept.later(40)
    kept.source.extend = extend_while_more_comes  # type: ignore[method-assign]
    kept.keeper.extend_due()
    kept.source.away = False
    kept.keeper.extend_due()
    assert kept.stream.held_until("2") == 161


def test_nothing_is_pulled_that_nobody_wants_or_that_has_no_room() -> None:
    """It goes on when it is wanted, and when there is room."""
    kept = Kept(*[b"x"] * 1_500, bounds=Bounds(messages=1_200))
    kept.keeper.pull_once()
    assert kept.source.calls == []
    first, second = kept.taken(), kept.taken()
    assert (len(first), len(second)) == (1_000, 200)
    assert kept.taken() == []
    assert kept.source.calls.count("pull") == 2
    kept.release(*first)
    assert len(kept.taken()) == 300
    kept.later(1)
    bounded = Kept(b"x")
    bounded.keeper.pull(20)
    bounded.later(20)
    bounded.keeper.pull_once()
    assert bounded.source.calls == []


def test_where_nobody_calls_for_five_minutes_all_is_given_back() -> None:
    """And nothing more is pulled: what was released is acknowledged even then."""
    kept = Kept(b"x", b"y")
    assert kept.taken() == ["1", "2"]
    kept.keeper.release(pa.array(["1"]))
    kept.later(299)
    kept.keeper.extend_due()
    assert "give_back" not in kept.source.calls
    kept.later(1)
    kept.keeper.extend_due()
    kept.keeper.acknowledge()
    assert kept.stream.acknowledged == {"1"}
    assert kept.stream.held_until("2") is None
    kept.keeper.pull_once()
    assert kept.source.calls.count("pull") == 1
    assert kept.taken() == ["2"]


def test_who_asks_what_waits_is_there() -> None:
    """A collector whose output is away for long still holds what it has."""
    kept = Kept(b"x")
    kept.taken()
    for _ in range(10):
        kept.later(100)
        assert kept.keeper.waiting().messages == 0
        kept.keeper.extend_due()
    assert kept.stream.held_until("1") == kept.stream.clock() + 120


def test_stopping_acknowledges_what_is_durable_and_gives_back_the_rest() -> None:
    """At once: others need not wait for the leases to end."""
    kept = Kept(b"x", b"y")
    kept.taken()
    kept.keeper.release(pa.array(["1"]))
    kept.keeper.stop()
    assert kept.stream.acknowledged == {"1"}
    assert [each.message.id for each in kept.stream.deliver(10)] == ["2"]
    assert kept.source.calls[-1] == "close"
    told = list(kept.source.calls)
    kept.keeper.stop()
    assert kept.source.calls == told


def test_stopping_without_an_answer_says_what_becomes_of_messages() -> None:
    """It ends all the same."""
    kept = Kept(b"x")
    kept.taken()
    kept.source.away = True
    kept.keeper.stop()
    assert kept.said == [
        "cannot give_back: source=stream is away; what is held comes again when its leases are over"
    ]
    assert kept.source.calls[-1] == "close"


def until(found: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.005)


def test_an_error_is_said_once_and_that_it_is_over_as_well() -> None:
    """Meanwhile it is tried again, and what comes then is held."""
    stream, said = LeasedStream(), list[str]()
    source = MemorySource(stream, wait_seconds=0.01)
    source.away = True
    keeper = Keeper(source, said.append, pulls=1, clock=stream.clock)
    keeper.pull(math.inf)
    keeper.start()
    until(lambda: bool(said))
    stream.publish(b"x")
    time.sleep(1.2)  # it is tried again, and nothing more is said
    assert said == ["cannot pull: source=stream is away; trying again"]
    source.away = False
    until(lambda: keeper.waiting().messages == 1)
    until(lambda: len(said) == 2)
    assert said[1] == "source=stream answers again"
    keeper.stop()


def test_an_error_of_ours_is_raised_where_it_is_called_next() -> None:
    """A thread that is gone is no silence."""
    kept = Kept(b"x")

    def break_down(messages: int) -> pa.Table:
        message = f"ours, messages={messages}"
        raise ValueError(message)

    kept.source.pull = break_down  # type: ignore[method-assign]
    kept.keeper.pull(math.inf)
    kept.keeper.start()

    def is_raised() -> bool:
        try:
            kept.keeper.waiting()
        except ValueError:
            return True
        return False

    until(is_raised)
    kept.keeper.stop()


@pytest.fixture(params=["fake", "emulator", "pstest"])
def place(request: pytest.FixtureRequest) -> Iterator[tuple[str, str, Callable[..., object]]]:
    """Give a subscription's path, its server, and what publishes to it."""
    if request.param == "fake":
        fake = FakePubSub()
        fake.stream.clock.rate = 1  # what was handed out to a pull that is given up comes again
        yield PATH, fake.endpoint, fake.stream.publish
        fake.close()
        return
    server: PubSubServer = request.getfixturevalue(request.param)
    path = server.create(f"keeper-{uuid.uuid4().hex[:8]}")
    yield path, server.endpoint, lambda *values: server.publish(path, values)


def test_two_keepers_of_a_subscription_get_each_message_once(
    place: tuple[str, str, Callable[..., object]],
) -> None:
    """What one gives back the other gets, and in the end nothing is left."""
    path, endpoint, publish = place
    values = [b"%d" % n for n in range(5_000)]
    publish(*values)
    said: list[str] = []
    keepers = [Keeper(Subscription(path, endpoint), said.append) for _ in range(2)]
    for keeper in keepers:
        keeper.pull(math.inf)
        keeper.start()
    until(lambda: sum(keeper.waiting().messages for keeper in keepers) == len(values))
    first, second = keepers
    early = first.take("p", ALL, ALL).slice(0, 1_000)
    first.release(early["id"])
    first.end_plan("p")
    first.stop()
    until(lambda: second.waiting().messages == len(values) - len(early))
    late = second.take("q", ALL, ALL)
    assert sorted(early["value"].to_pylist() + late["value"].to_pylist()) == sorted(values)
    second.release(late["id"])
    until(lambda: not second.unacknowledged())
    second.stop()
    assert said == []


def test_through_lost_answers_lies_and_doubled_deliveries_each_message_counts_once() -> None:
    """To who knows the ids that are durable; in the end the source has heard of all of them."""
    fake, said = FakePubSub(), list[str]()
    published = fake.stream.publish(*[b"x"] * 3_000)
    keeper = Keeper(Subscription(PATH, fake.endpoint), said.append, clock=fake.stream.clock)
    keeper.pull(math.inf)
    keeper.start()
    chance, durable, repeated = random.Random(0), set[str](), 0
    deadline = time.monotonic() + 60
    for number in itertools.count():
        fake.stream.clock.seconds += 1
        is_bad = number < 60
        if is_bad and number % 20 == 10:
            for method in ("Pull", "Acknowledge"):
                fake.faults.calls[method] = iter([Fault.LOST])
            fake.faults.calls["ModifyAckDeadline"] = iter([grpc.StatusCode.UNAVAILABLE])
        elif is_bad and number % 3 == 0:
            fake.faults.calls["Acknowledge"] = iter([Fault.IDLE])
        for name in chance.sample(published, 150) if is_bad else ():
            with fake.stream.changed:
                if fake.stream.held_until(name) is not None:
                    fake.stream.hand_out_again(name)
        found = keeper.take("p", 400, ALL)["id"]
        assert fake.stream.acknowledged <= durable
        repeated += len(durable.intersection(found.to_pylist()))
        durable.update(found.to_pylist())
        keeper.release(found)
        keeper.end_plan("p")
        if not is_bad and not fake.stream.left:
            break
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert durable == fake.stream.acknowledged == set(published)
    assert repeated > 0
    until(lambda: len(said) >= 2 and said[-1].endswith("answers again"))
    keeper.stop()
    fake.close()


_CHILD = """
import math, sys, time
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.subscription import Subscription
keeper = Keeper(Subscription(sys.argv[1], sys.argv[2]), print, lease_seconds=10)
keeper.pull(math.inf)
keeper.start()
while keeper.waiting().messages < int(sys.argv[3]):
    time.sleep(0.01)
found = keeper.take("p", 400, 10**9)["id"]
keeper.release(found.slice(0, 300))
while keeper.unacknowledged():
    time.sleep(0.01)
print("held", flush=True)
time.sleep(60)
"""


@pytest.mark.slow
def test_what_a_killed_process_held_comes_again(emulator: PubSubServer) -> None:
    """When its leases are over, taken or not; what was acknowledged does not."""
    path = emulator.create(f"killed-{uuid.uuid4().hex[:8]}")
    published = emulator.publish(path, [b"x"] * 2_000)
    command = [sys.executable, "-c", _CHILD, path, emulator.endpoint, str(len(published))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        child.kill()
    keeper = Keeper(Subscription(path, emulator.endpoint), print)
    keeper.pull(math.inf)
    keeper.start()
    until(lambda: keeper.waiting().messages == 1_700)
    found = ids(keeper.take("q", ALL, ALL))
    assert len(found) == len(set(found)) == len(set(published).intersection(found))
    keeper.stop()
