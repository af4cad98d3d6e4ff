"""Subscriptions of each server that there is, and what must come of collecting from them."""

from __future__ import annotations

import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

import pytest

from batch_collection.inspection.audit import audit
from batch_collection.paths import new_token, staged_cycle
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.graph import CollectTasks, GraphOptions
from pipeline.planning.pins import Pins
from pipeline.planning.planner import PlanRules
from pipeline.planning.pull_survey import PullSurvey
from pipeline.planning.topic import TopicCollection, open_collection
from pipeline.running.coordinator import Coordinator, Flight
from pipeline.running.local import LocalDrive, run_steps
from tests.collecting import CollectorProcess, entries_of, json_of, rows_of, strays_of
from tests.leased_stream import Clock
from tests.services.pubsub_fake import PATH, FakePubSub, Faults
from tests.services.pubsub_proxy import PubSubProxy
from transforms.decoding.rules import RowRules
from transforms.process.process import current, new_process
from transforms.read_pulls import ReadPulls
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.settings import Pulling, SubscriptionReader
from transforms.sources.pubsub.subscription import Subscription
from transforms.writing.layout import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime
    from pathlib import Path

    from tests.services.pubsub import PubSubServer
    from transforms.elements.plan import Task

__all__ = [
    "Faked",
    "Publishing",
    "Served",
    "Subscribed",
    "Workers",
    "check_collected",
    "collected",
    "collection_of",
    "collector",
]

_REQUEST = 500
_INTERVAL = timedelta(seconds=1)
_CLOCKS: dict[str, Clock] = {}


class Subscribed(Protocol):
    """A subscription of its own for a test, on whichever server."""

    path: str
    endpoint: str
    visible_seconds: float
    """Within which what nobody may hold any more is handed out again."""

    def publish(self, numbers: range) -> None:
        """Publish numbered messages."""


class Served:
    """One on a real server, where leases take their time.

    Google's emulator hands messages to pulls that are over, too, for one lease of ten seconds.
    """

    visible_seconds = 12.0

    def __init__(self, server: PubSubServer) -> None:
        """Create it."""
        self._server, self.endpoint = server, server.endpoint
        self.path = server.create(f"s-{new_token()}")

    def publish(self, numbers: range) -> None:
        """Publish numbered messages."""
        self._server.publish(self.path, [json_of({"id": number}) for number in numbers])


class Faked:
    """That of our own server, where leases lapse when a test says so."""

    path, visible_seconds = PATH, 0.5

    def __init__(self, server: FakePubSub) -> None:
        """Take a server that nobody else uses."""
        self.server, self.endpoint = server, server.endpoint
        server.stream.stamp = lambda _: utc_now()

    def publish(self, numbers: range) -> None:
        """Publish numbered messages."""
        self.server.stream.publish(*(json_of({"id": number}) for number in numbers))

    def lapse(self) -> None:
        """Let all leases be over, once no pull of a dead process can take the messages again."""
        time.sleep(self.visible_seconds)
        self.server.stream.lapse()


class Faulty(Protocol):
    """A server, or a proxy in front of one, at which calls may go wrong."""

    path: str
    endpoint: str
    faults: Faults

    @property
    def left(self) -> int:
        """How many messages are not acknowledged."""

    def close(self) -> None:
        """Stop it."""


def collector(
    subscribed: Subscribed, output: Path, *flags: str, wrapper: tuple[str, ...] | None = None
) -> CollectorProcess:
    """Start a collector, or what takes its flags, in a process of its own."""
    source = (f"--input_subscription={subscribed.path}", f"--pubsub_endpoint={subscribed.endpoint}")
    return CollectorProcess((), output, *source, *flags, wrapper=wrapper)


def collection_of(subscribed: Subscribed, output: Path) -> Path:
    """Return where a subscription's collection lies."""
    return output / subscribed.path.rpartition("/")[2]


def collected(collection: Path) -> int:
    """Return how many messages are durable."""
    entries = entries_of(collection) if collection.exists() else []
    return sum(entries[-1].ends.values()) if entries else 0


def check_collected(subscribed: Subscribed, output: Path, count: int) -> None:
    """See that each number is in one row, that the audit agrees, and that no message is left."""
    collection = collection_of(subscribed, output)
    found = Counter(rows_of(collection)["id"].to_pylist())
    assert [n for n in range(count) if not found[n]] == [], "lost"
    assert [n for n, times in found.items() if times > 1] == [], "twice"
    assert len(found) == count
    assert audit(LocalStorage(str(collection))).findings == ()
    newest = entries_of(collection)[-1].cycle
    assert [each for each in strays_of(collection) if (staged_cycle(each) or 0) <= newest] == []
    assert left(subscribed) == 0


def left(subscribed: Subscribed) -> int:
    """Return how many messages come to somebody else."""
    source = Subscription(subscribed.path, subscribed.endpoint)
    timer = threading.Timer(subscribed.visible_seconds, source.interrupt)
    timer.start()
    found = 0
    while timer.is_alive():
        found += source.pull(1_000).num_rows
    timer.join()
    source.close()
    return found


class Publishing:
    """Publishes numbered messages in the background, as long as not too many wait."""

    def __init__(
        self, subscribed: Subscribed, output: Path, count: int, a_second: int, most: int
    ) -> None:
        """Set it up; ``with`` starts it, and ends when all are published."""
        self._subscribed, self._collection = subscribed, collection_of(subscribed, output)
        self._count, self._pause, self._most = count, _REQUEST / a_second, most
        self._is_failed = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Publishing:  # noqa: PYI034 - Python 3.10 has no Self
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        """Wait until all is published, unless something failed."""
        if kind is not None:
            self._is_failed.set()
        self._thread.join()

    def _run(self) -> None:
        for start in range(0, self._count, _REQUEST):
            while not self._is_failed.wait(self._pause):
                if start - collected(self._collection) <= self._most - _REQUEST:
                    break
            self._subscribed.publish(range(start, min(start + _REQUEST, self._count)))


@dataclass(frozen=True)
class _WorkersReader(SubscriptionReader):
    """Pulls as workers do, a stream for each, by a clock that goes faster."""

    path: str = PATH

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        """Return what a worker has."""

        def begun() -> Pulling:
            source = Subscription(self.path, self.endpoint)
            return Pulling.begun(source, say, self.bounds, _CLOCKS[self.endpoint or ""])

        return current().kept((Keeper, stream), begun, lambda pulling: pulling.keeper.stop())


@contextmanager
def _impatient() -> Iterator[pytest.MonkeyPatch]:
    """Let who tries again, or looks again, hardly wait."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.sources.pubsub.keeper._TICK_SECONDS", 0.02)
        patch.setattr("transforms.sources.pubsub.keeper._LONGEST_PAUSE", 0.1)
        patch.setattr("transforms.sources.pubsub.releasing._EVERY_SECONDS", 0.1)
        patch.setattr("transforms.sources.pubsub.subscription._PAUSES", (0.01, 0.02))
        yield patch


@dataclass
class Workers:
    """Who collects from a server, in this process, by a clock that goes faster.

    Attributes:
        server: what is asked.
        subscribed: the subscription, as it is published to.
        output: where it is collected to.
        now: the collector's clock; the log's is the machine's.
    """

    server: Faulty
    subscribed: Subscribed
    output: Path
    published: int = 0
    now: datetime = field(default_factory=utc_now)

    @classmethod
    @contextmanager
    def of(cls, output: Path, rate: float = 40) -> Iterator[Workers]:
        """Start a server whose clock goes so much faster; who tries again hardly waits."""
        with _impatient():
            fake = FakePubSub()
            fake.stream.clock.rate = rate
            _CLOCKS[fake.endpoint] = fake.stream.clock
            yield cls(fake, Faked(fake), output)
            fake.close()

    @classmethod
    @contextmanager
    def before(cls, server: PubSubServer, output: Path) -> Iterator[Workers]:
        """Put a proxy in front of a real server; who tries again, or holds, hardly waits."""
        with _impatient() as patch:
            patch.setattr("pipeline.planning.pull_survey._TASK_SECONDS", 2.0)
            served = Served(server)
            served.visible_seconds = 1.0  # the proxy has seen what is left
            proxy = PubSubProxy(server, served.path)
            _CLOCKS[proxy.endpoint] = Clock(rate=20)
            yield cls(proxy, served, output)
            proxy.close()

    @property
    def fake(self) -> FakePubSub:
        """The server of our own."""
        assert isinstance(self.server, FakePubSub)
        return self.server

    def publish(self, count: int) -> None:
        """Publish so many numbered messages more."""
        self.subscribed.publish(range(self.published, self.published + count))
        self.published += count

    @property
    def reader(self) -> SubscriptionReader:
        """What they pull with: as many that a request could not name all."""
        return _WorkersReader(self.server.endpoint, Bounds(messages=3_000), self.server.path)

    @property
    def steps(self) -> CollectTasks:
        """The graph."""
        options = GraphOptions(RowRules(), _INTERVAL, 1_000, Output())
        return CollectTasks(ReadPulls(self.reader), options)

    def open(self, *, is_here: bool, shards: int = 1, run: str = "run") -> TopicCollection:
        """Begin the collection, or take it up."""
        rules = PlanRules(
            str(collection_of(self.subscribed, self.output)),
            "stream",
            run,
            grace=_INTERVAL,
            batch_size=1_000,
            shards=shards,
            max_messages=10_000,
            max_ahead=timedelta(hours=1),
            remembering=Remembering(),
        )
        source = Subscription(self.server.path, self.server.endpoint)
        pins = Pins(
            _INTERVAL, "record", "earliest", is_start_given=False, schema={}, reserved=frozenset()
        )
        return open_collection(PullSurvey(source, self.reader, is_here), pins, rules)

    def collect_here(self) -> None:
        """Collect as the DirectRunner does, until the server has heard that all is durable."""
        with self._ending() as stop, new_process(stop):
            LocalDrive([self.open(is_here=True)], self.steps).run()

    def collect(self, shards: int = 1, job: Callable[[], tuple[Task, ...]] | None = None) -> None:
        """Collect as an engine whose tasks run in processes of their own does, or go on with it."""
        with self._ending() as stop, new_process(stop):
            job = job or self.job(shards)
            while not stop.is_set():
                tasks = [self.by(f"worker-{task.number}", task) for task in job()]
                for task in tasks:  # all of them pull before one of them takes anything
                    self.pulling(task).keeper.pull(20)
                if tasks:
                    run_steps(tasks, self.steps)

    def job(self, shards: int = 1) -> Callable[[], tuple[Task, ...]]:
        """Return what gives the tasks that are due, a minute later each time."""
        coordinator = Coordinator(
            "stream",
            lambda run: self.open(is_here=False, shards=shards, run=run),
            timedelta(minutes=5),
            clock=lambda: self.now,
        )
        flight = Flight("job")

        def look() -> tuple[Task, ...]:
            nonlocal flight
            self.now += timedelta(minutes=1)
            found = coordinator.look(flight)
            assert found.error is None
            flight = found.flight
            return found.tasks

        return look

    def by(self, worker: str, task: Task) -> Task:
        """Let a task be worked off by a worker."""
        assert task.pull is not None
        return replace(task, pull=task.pull._replace(stream=worker))

    def pulling(self, task: Task) -> Pulling:
        """Return what the worker of a task has."""
        assert task.pull is not None
        return self.reader.pulling(task.pull.stream, print)

    def check(self) -> None:
        """See that each message is one row, and that none is left."""
        assert not self.server.left
        self.server.faults = Faults()
        check_collected(self.subscribed, self.output, self.published)

    @contextmanager
    def _ending(self) -> Iterator[threading.Event]:
        """Set what is given once all is durable and no message is left, or after four minutes."""
        stop, deadline = threading.Event(), time.monotonic() + 240

        def wait() -> None:
            collection = collection_of(self.subscribed, self.output)
            while time.monotonic() < deadline:
                if not self.server.left and collected(collection) >= self.published:
                    break
                time.sleep(0.05)
            stop.set()

        thread = threading.Thread(target=wait, daemon=True)
        thread.start()
        yield stop
        thread.join()
