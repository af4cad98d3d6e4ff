"""ReadPulls: each message in one batch, whatever is handed out again, breaks or races."""

from __future__ import annotations

import math
import tempfile
import threading
import time
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest
from apache_beam.pvalue import TaggedOutput
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import append_entry, create_entry, read_link
from batch_collection.log.entry import Entry, IdFile, Source
from batch_collection.publishing.publish import publish
from batch_collection.storage.local import LocalStorage
from tests.builders import at, first_entry
from tests.leased_stream import Clock, LeasedStream, MemorySource
from tests.tasks import MINUTE, plan
from transforms.committing.commit import leave_note
from transforms.committing.settle import settle
from transforms.elements.failure import Failure
from transforms.elements.plan import Plan, Task
from transforms.elements.report import Report
from transforms.process.process import new_process
from transforms.read_pulls import _PullFn
from transforms.sources.contract import Pull, Remembering, Slice
from transforms.sources.pubsub.arrivals import Arrivals
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.id_lists import IdLists, alike
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.releasing import Releasing, releasing_of
from transforms.sources.pubsub.settings import Pulling, SubscriptionReader

if TYPE_CHECKING:
    from collections.abc import Callable

RULES = Remembering(horizon=6 * MINUTE, retention=60 * MINUTE)
TASKS = 2
TIMEOUT = 300.0  # seconds, the default of --cycle_timeout


@dataclass(frozen=True)
class _Reader(SubscriptionReader):
    """Pulls by keepers whose steps a test takes; a stream's name names a process."""

    world: Any = None

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        pullings: dict[str, Pulling] = self.world.pullings
        if stream not in pullings:
            clock = self.world.stream.clock
            arrivals = Arrivals(MemorySource(self.world.stream), clock)
            keeper = Keeper(arrivals, say, bounds=Bounds(), clock=clock)
            pullings[stream] = Pulling(keeper, arrivals, clock)
        return pullings[stream]


class _Passing(threading.Event):
    """What is never set: who waits for it sees the clock go on, and waits no time."""

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def wait(self, timeout: float | None = None) -> bool:
        """Let the time pass."""
        self._clock.seconds += timeout or 0.0
        return False


@dataclass
class _Attempt:
    """What an attempt at a task came to."""

    ids: list[str]
    report: Report


@dataclass
class World:
    """A subscription, the processes that pull from it, and the collection that they fill."""

    folder: str
    stream: LeasedStream = field(default_factory=LeasedStream)
    pullings: dict[str, Pulling] = field(default_factory=dict)
    committed: list[str] = field(default_factory=list)
    published: list[str] = field(default_factory=list)
    crashes: list[int] = field(default_factory=lambda: [0, 0])
    most: int = 100
    rules: Remembering = RULES
    stopped: timedelta = timedelta(0)

    def __post_init__(self) -> None:
        self.storage = LocalStorage(self.folder)
        self.reader = _Reader(world=self)
        self.newest, self.plans = cast("Entry", None), list[Plan]()
        self.attempts: dict[tuple[str, int], list[_Attempt]] = {}

    def begin(self) -> None:
        """Commit entry 0 and plan the first cycle."""
        entry = first_entry(source=Source("pubsub", "s"), boundary=None)
        self.newest = create_entry(self.storage, entry)
        self.replan()

    def replan(self) -> None:
        """Plan the next cycle, perhaps once more."""
        name = f"plan-{self.newest.cycle + 1}-{len(self.plans)}"
        changes: dict[str, Any] = {"tasks": TASKS, "boundary": None, "previous_boundary": None}
        self.plans.append(
            plan(
                self.folder, cycle=self.newest.cycle + 1, id=name, remembering=self.rules, **changes
            )
        )

    def process(self, number: int) -> str:
        """Name a process as it is since its last crash."""
        return f"{number}-{self.crashes[number]}"

    def pulling(self, number: int) -> Pulling:
        """Return what a process pulls with."""
        return self.reader.pulling(self.process(number), print)

    def releasing(self, number: int) -> Releasing:
        """Return what a process releases by."""
        return releasing_of(self.pulling(number), self.process(number), self.storage)

    def run(
        self,
        number: int,
        which: int,
        plan_index: int = -1,
        *,
        is_lost: bool = False,
        seconds: float = 0.0,
    ) -> None:
        """Let a process work off a task of a plan, which may be an old one; its report be lost."""
        asked = self.plans[plan_index % len(self.plans)]
        ends = {0: 0, 1: 0, **self.newest.ends}
        slices = (Slice("s", which, ends[which], ends[which]),)
        pull = Pull(self.process(number), which, ends[which], self.most, 10**9, seconds)
        ids, reports = list[str](), list[Report]()
        for each in _PullFn(self.reader).process(Task(asked, which, slices, (), pull)):
            if isinstance(each, TaggedOutput):
                reports.append(each.value)
            else:
                ids += each.table["id"].to_pylist()
        for report in reports:
            if report.failure is None and not is_lost:
                decoded = tuple(read for read in report.reads if read.messages)
                report = replace(report, cut=True, decoded=decoded)  # noqa: PLW2901
                self.attempts.setdefault((asked.id, which), []).append(_Attempt(ids, report))

    def commit(self, plan_index: int = -1) -> None:
        """Commit a plan of the cycle if all its tasks are done, with one attempt of each."""
        asked = self.plans[plan_index % len(self.plans)]
        if asked.cycle != self.newest.cycle + 1:
            return
        tried = [self.attempts.get((asked.id, which), []) for which in range(TASKS)]
        previous, digest = read_link(self.storage, asked.cycle - 1)
        reports = [attempt.report for each in tried for attempt in each]
        clock = at("10:31:00") + asked.cycle * MINUTE + self.stopped
        settled = settle(asked, previous, digest, reports, clock)
        if isinstance(settled, Failure):
            leave_note(self.storage, asked, settled)
            self.replan()
        elif settled is not None:
            entry, *_ = append_entry(self.storage, settled)
            publish(self.storage, entry)
            # the first whole attempt is the one that counts
            self.committed += [each for attempts in tried for each in attempts[0].ids]
            self.newest = entry
            self.replan()

    def step(self, step: tuple[Any, ...]) -> None:  # noqa: C901, PLR0912 - a line a kind
        """Take a step, and see that nothing is twice, or acknowledged and not durable."""
        kind, *args = step
        if kind == "publish":
            self.published += self.stream.publish(*[b"{}"] * args[0])
        elif kind == "pull":
            self.pulling(args[0]).keeper.pull(math.inf)
            self.pulling(args[0]).keeper.pull_once()
        elif kind == "acknowledge":
            self.releasing(args[0]).look(args[1])
            self.pulling(args[0]).keeper.acknowledge()
        elif kind == "stop":
            self.steps(("crash", 0), ("crash", 1), ("lapse",))
            self.stopped += timedelta(hours=10)
        elif kind == "lapse":
            self.stream.clock.seconds += 500
        elif kind == "give_up":
            self.stream.clock.seconds += 301
            self.pulling(args[0]).keeper.extend_due()
        elif kind == "crash":
            self.crashes[args[0]] += 1
        elif kind == "again":
            self.stream.lapse()
        elif kind == "run":
            self.run(*args)
        elif kind == "race":
            first, second, is_lost = args
            self.step(("pull", first))
            self.run(first, 0, is_lost=is_lost)
            self.step(("again",))
            self.step(("pull", second))
            self.run(second, 1)
        elif kind == "cycle":
            for number in (0, 1):
                self.step(("pull", args[number]))
                self.run(args[number], number)
            self.commit()
        elif kind == "note":
            leave_note(self.storage, self.plans[-1], Failure.of(CollectionError("again")))
            self.replan()
        else:
            self.commit(*args)
        assert len(self.committed) == len(set(self.committed)), "twice"
        assert self.stream.acknowledged <= set(self.committed), "acknowledged, not durable"

    def steps(self, *steps: tuple[Any, ...]) -> None:
        """Take some steps."""
        for step in steps:
            self.step(step)

    def finish(self) -> None:
        """Go on without trouble until nothing is left."""
        for _ in range(20):
            if not self.stream.left:
                break
            self.steps(
                *[("lapse",), ("pull", 0), ("run", 0, 0), ("run", 0, 1), ("commit",)],
                ("acknowledge", 0, 0.0),
            )
        assert not self.stream.left
        assert sorted(self.committed, key=int) == self.published
        assert self.stream.acknowledged == set(self.published)


PROCESS = st.integers(0, 1)
BACK = st.sampled_from([-1, -1, -1, -2])
STEPS = st.one_of(
    st.tuples(st.just("publish"), st.integers(1, 5)),
    st.tuples(st.just("pull"), PROCESS),
    st.tuples(st.just("acknowledge"), PROCESS, st.sampled_from([0.0, 600.0])),
    st.just(("lapse",)),
    st.just(("stop",)),
    st.tuples(st.just("give_up"), PROCESS),
    st.tuples(st.just("crash"), PROCESS),
    st.tuples(st.just("run"), PROCESS, st.integers(0, 1), BACK),
    st.tuples(st.just("run"), PROCESS, st.integers(0, 1), st.just(-1)),
    st.tuples(st.just("race"), PROCESS, PROCESS, st.booleans()),
    st.tuples(st.just("cycle"), PROCESS, PROCESS),
    st.just(("again",)),
    st.just(("note",)),
    st.tuples(st.just("commit"), BACK),
)


LOST: list[tuple[Any, ...]] = [
    *[("race", 0, 1, True), ("crash", 0), ("publish", 1), ("pull", 0)],
    *[("run", 0, 0, -1), ("commit", -1), ("acknowledge", 1, 0.0)],
]
"""A task's report is lost, and what another one has left for it is in no batch."""
UNHEARD: list[tuple[Any, ...]] = [
    *[("pull", 0), ("run", 0, 0), ("run", 0, 1), ("commit",), ("again",), ("pull", 1)],
    *[("acknowledge", 0, 0.0), ("publish", 1), ("cycle", 0, 0), ("stop",), ("publish", 1)],
    *[("pull", 0), ("run", 0, 0), ("run", 0, 1), ("commit",)],
]
"""What was acknowledged by leases that were over comes again after ten hours, and not at once."""


@example(LOST, 100)
@example(UNHEARD, 1)
@given(st.lists(STEPS, max_size=40), st.sampled_from([3, 100]))
@settings(deadline=None, max_examples=100)
def test_each_message_is_in_one_batch_and_acknowledged_once_it_is(
    steps: list[tuple[Any, ...]], most: int
) -> None:
    """Over deliveries, lapses, crashes, races, notes, and attempts that outlive their plan."""
    with tempfile.TemporaryDirectory() as folder, new_process():
        world = World(folder, most=most)
        world.begin()
        world.steps(("publish", 2), *steps)
        world.finish()
        for file in world.newest.ids:
            assert world.storage.size(file.path) == file.bytes


def test_what_is_repeated_left_and_answered_is_told(tmp_path: Any) -> None:
    """Each pulled message is in one of them, or a row's."""
    with new_process():
        world = World(str(tmp_path))
        world.begin()
        world.steps(("publish", 3), ("pull", 0), ("run", 0, 0), ("lapse",), ("pull", 1))
        world.run(1, 1)
        first, second = (world.attempts["plan-1-0", which][0] for which in (0, 1))
        assert (first.ids, second.ids, second.report.left) == (["1", "2", "3"], [], 3)
        assert [file.ids for file in first.report.claims] == [3]
        assert second.report.claims == ()
        world.commit()
        (listed,) = world.newest.ids
        assert not listed.acknowledged
        world.stream.clock.seconds += 500
        world.steps(("acknowledge", 0, 0.0), ("lapse",), ("publish", 1), ("pull", 0))
        world.run(0, 0)
        world.run(0, 1)
        report = world.attempts[world.plans[-1].id, 0][0].report
        assert (report.repeated, world.attempts[world.plans[-1].id, 0][0].ids) == (3, ["4"])
        world.finish()
        assert audit(world.storage).counts.messages == 4


def test_a_list_is_acknowledged_once_the_source_has_answered_for_all_of_it(tmp_path: Any) -> None:
    """The next entry says so; a horizon later it is gone."""
    with new_process():
        world = World(str(tmp_path))
        world.begin()
        round_: list[tuple[Any, ...]] = [
            ("publish", 2),
            ("pull", 0),
            ("run", 0, 0),
            ("run", 0, 1),
            ("commit",),
        ]
        world.steps(*round_, ("acknowledge", 0, 0.0), *round_)
        assert [file.acknowledged for file in world.newest.ids] == [True, False]
        first = world.newest.ids[0].path
        for _ in range(6):
            world.steps(("acknowledge", 0, 0.0), *round_)
        assert first in world.newest.ids_released
        assert world.storage.size(first) is None


def test_merged_lists_hold_the_ids_of_their_parts(tmp_path: Any) -> None:
    """Of many cycles an entry names few lists, and each id that it did."""
    with new_process():
        world = World(str(tmp_path), rules=RULES._replace(horizon=60 * MINUTE))
        world.begin()
        for _ in range(14):
            world.steps(("publish", 2), ("cycle", 0, 0), ("acknowledge", 0, 0.0))
        assert len(world.newest.ids) < 10
        lists = IdLists(world.storage)
        named = [each for file in world.newest.ids for each in lists.of(file).strings().to_pylist()]
        assert sorted(named, key=int) == world.published
        assert {*world.storage.list("ids")} == {file.path for file in world.newest.ids}


def test_more_ids_than_may_be_remembered_are_told(tmp_path: Any) -> None:
    """With the flags that mend it; what was pulled stays held."""
    with new_process():
        world = World(str(tmp_path), rules=RULES._replace(bytes=20))
        world.begin()
        for _ in range(2):
            world.steps(("publish", 2), ("cycle", 0, 0))
        assert len(world.committed) == 4
        pull = Pull(world.process(0), 0, 4, 100, 10**9, 0.0)
        task = Task(world.plans[-1], 0, (Slice("s", 0, 4, 4),), (), pull)
        (told,) = _PullFn(world.reader).process(task)
        assert cast("TaggedOutput", told).value.failure.text == (
            f"the ids of 4 messages that may come again take 32 bytes of {tmp_path}, more than "
            "--dedupe_bytes=20: allow more, or shorten --dedupe_horizon"
        )


def test_where_tasks_run_what_is_durable_is_seen_without_another_task(
    tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that gets none looks by itself, until its process ends."""
    monkeypatch.setattr("transforms.sources.pubsub.releasing._EVERY_SECONDS", 0.01)
    with new_process():
        world = World(str(tmp_path))
        world.begin()
        world.steps(("publish", 2), ("pull", 0), ("run", 0, 0), ("run", 0, 1))
        releasing, keeper = world.releasing(0), world.pulling(0).keeper
        for _ in range(2):
            releasing.watch()
        names = [thread.name for thread in threading.enumerate()]
        assert names.count("pubsub-releasing") == 1
        assert not keeper.unacknowledged()
        world.commit()
        deadline = time.monotonic() + 10
        while keeper.unacknowledged() != {"1", "2"}:
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert "pubsub-releasing" not in [thread.name for thread in threading.enumerate()]


def test_tasks_of_a_plan_pull_at_the_same_time(tmp_path: Any) -> None:
    """A runner may have them work one after the other: a cycle takes no longer."""
    world = World(str(tmp_path))
    clock = world.stream.clock
    with new_process(_Passing(clock)):
        world.begin()
        begun = clock()
        for took in (20, 40):
            for which in range(TASKS):
                world.run(0, which, seconds=20.0)
                assert clock() - begun == pytest.approx(took, abs=1)
            world.replan()


def test_what_a_plan_has_that_nobody_works_on_waits_again(tmp_path: Any) -> None:
    """After twice the time in which a cycle is to have an entry, or at once where none is."""
    with new_process():
        world = World(str(tmp_path))
        world.begin()
        world.steps(("publish", 2), ("pull", 0), ("run", 0, 0))
        releasing, keeper = world.releasing(0), world.pulling(0).keeper
        for seconds, waiting in ((0.0, 0), (2 * TIMEOUT - 1, 0), (1.0, 2)):
            world.stream.clock.seconds += seconds
            releasing.look()
            assert keeper.waiting().messages == waiting
        world.steps(("run", 0, 0))
        releasing.look(patience=0.0)
        assert keeper.waiting().messages == 2


def test_a_server_that_counts_anew_is_told(tmp_path: Any) -> None:
    """A message that was published after its id was in the log is another one."""
    with new_process():
        world = World(str(tmp_path))
        world.begin()
        world.steps(("publish", 2), ("pull", 0), ("run", 0, 0), ("run", 0, 1), ("commit",))
        world.stream = LeasedStream()
        world.crashes[0] += 1
        world.stream.publish(b"{}")
        late = world.newest.committed_at + 2 * MINUTE
        world.stream.left["1"] = world.stream.left["1"]._replace(published=late)
        world.step(("pull", 0))
        pull = Pull(world.process(0), 0, 2, 100, 10**9, 0.0)
        task = Task(world.plans[-1], 0, (Slice("s", 0, 2, 2),), (), pull)
        (told,) = _PullFn(world.reader).process(task)
        failure = cast("TaggedOutput", told).value.failure
        assert failure.kind == "LogError"
        assert "message id=1 of subscription=0-1 was published at" in failure.text
        world.pulling(0).keeper.acknowledge()
        assert not world.stream.acknowledged


@pytest.mark.parametrize(
    ("acknowledged", "age", "merged"), [(True, 0, 1), (False, 0, 0), (False, 400, 1)]
)
def test_lists_of_like_size_and_age_are_merged(acknowledged: bool, age: float, merged: int) -> None:  # noqa: FBT001
    """Never those that are about to be acknowledged, nor a large one with small ones."""
    files = [
        IdFile(f"ids/{n}", "", size, 1, "0", acknowledged=acknowledged, age=age)
        for n, size in enumerate([5, 5_000, 6, 7, 5])
    ]
    groups = alike(files, RULES)
    assert [len(group) for group in groups] == [4] * merged
    assert all(file.ids < 100 for group in groups for file in group)
