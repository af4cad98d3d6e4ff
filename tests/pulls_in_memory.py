"""A stream in memory as processes pull from it, and what is collected of it."""

from __future__ import annotations

import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.errors import SourceError
from batch_collection.paths import new_token
from pipeline.graph import CollectTasks, GraphOptions
from pipeline.planning.pins import Pins
from pipeline.planning.planner import PlanRules
from pipeline.planning.pull_survey import PullSurvey
from pipeline.planning.topic import TopicCollection, open_collection
from pipeline.running.coordinator import Coordinator
from pipeline.running.local import LocalDrive
from tests.collecting import Recorder, json_of, rows_of
from tests.leased_stream import BEGIN, LeasedStream, MemorySource
from transforms.decoding.rules import RowRules
from transforms.process.process import current, new_process
from transforms.read_pulls import ReadPulls
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.keeper import Keeper
from transforms.sources.pubsub.settings import Pulling, SubscriptionReader
from transforms.writing.layout import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = [
    "INTERVAL",
    "PINS",
    "SECOND",
    "MemoryReader",
    "Pulls",
    "lost",
    "memory_reader",
    "rules_of",
]

SECOND = timedelta(seconds=1)
INTERVAL = 10 * SECOND
PINS = Pins(INTERVAL, "record", "earliest", is_start_given=False, schema={}, reserved=frozenset())

_SOURCES: dict[str, MemorySource] = {}
_FAST = 40
_WAIT_SECONDS = 0.02


@dataclass(frozen=True)
class MemoryReader(SubscriptionReader):
    """Pulls from a stream of this process, by a clock that goes ``_FAST`` times as fast."""

    name: str = field(default_factory=new_token)

    @property
    def source(self) -> MemorySource:
        """The source that is pulled from; each process has its own."""
        return _SOURCES[self.name]

    def pulling(self, stream: str, say: Callable[[str], None]) -> Pulling:
        """Return what this process has of it."""

        def begun() -> Pulling:
            source = _SOURCES[self.name] = MemorySource(self.source.stream, _WAIT_SECONDS)
            return Pulling.begun(source, say, self.bounds, lambda: time.monotonic() * _FAST)

        return current().kept((Keeper, stream), begun, lambda pulling: pulling.keeper.stop())


def memory_reader(stream: LeasedStream, **fields: Any) -> MemoryReader:
    """Return a reader of a stream."""
    reader = MemoryReader(**fields)
    _SOURCES[reader.name] = MemorySource(stream, _WAIT_SECONDS)
    return reader


def rules_of(collection: Path, name: str) -> PlanRules:
    """Return planning rules."""
    return PlanRules(
        str(collection),
        name,
        "run",
        grace=SECOND,
        batch_size=1_000,
        max_messages=10_000,
        max_ahead=timedelta(hours=1),
        remembering=Remembering(),
    )


def lost(source: MemorySource, leases: Sequence[str]) -> list[str]:
    """Answer no acknowledgement."""
    message = f"cannot acknowledge {len(leases)} messages: source={source.name} is away"
    raise SourceError(message)


@dataclass
class Pulls:
    """A collector of one stream, whose clock stands where a test sets it."""

    output: Path
    stream: LeasedStream = field(default_factory=LeasedStream)
    bounds: Bounds = field(default_factory=Bounds)
    batch_size: int = 1_000
    interval: timedelta = INTERVAL
    now: datetime = BEGIN - INTERVAL  # before messages were published
    remembering: Remembering = Remembering()  # noqa: RUF009 - it is a tuple
    patience: float = 30  # seconds in which acknowledgements are answered, however busy we are
    recorder: Recorder = field(default_factory=Recorder)

    def __post_init__(self) -> None:
        """Make what pulls."""
        self.reader: MemoryReader = memory_reader(self.stream, bounds=self.bounds)

    @property
    def path(self) -> Path:
        """The collection."""
        return self.output / "stream"

    def publish(self, *numbers: int) -> None:
        """Publish messages, of the window from 10:30:00 on."""
        self.stream.publish(*(json_of({"id": number}) for number in numbers))

    def open(self, *, is_here: bool = True, run: str = "run") -> TopicCollection:
        """Begin the collection, or take it up."""
        survey = PullSurvey(self.reader.source, self.reader, is_here)
        pins = replace(PINS, interval=self.interval)
        rules = replace(
            rules_of(self.path, "stream"),
            run=run,
            batch_size=self.batch_size,
            remembering=self.remembering,
        )
        return open_collection(survey, pins, rules, lambda: self.now)

    @property
    def steps(self) -> CollectTasks:
        """The graph."""
        return CollectTasks(
            ReadPulls(self.reader),
            GraphOptions(RowRules(), self.interval, self.batch_size, Output()),
        )

    @contextmanager
    def process(self, stop: threading.Event | None = None) -> Iterator[None]:
        """Be a process that acknowledges what it has committed, and looks often."""
        with new_process(stop) as process, pytest.MonkeyPatch.context() as patch:
            patch.setattr("pipeline.running.local.POLL", SECOND / 50)
            patch.setattr(
                "transforms.sources.pubsub.releasing._ANSWER_SECONDS", _FAST * self.patience
            )
            process.observers.append(self.recorder)
            yield

    def once(self, *, flush: bool = False) -> None:
        """Collect what there is."""
        with self.process():
            drive = LocalDrive(
                [self.open()], self.steps, once=True, flush=flush, clock=lambda: self.now
            )
            drive.run()

    def once_unheard(self) -> None:
        """Collect what there is; no acknowledgement is answered."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(MemorySource, "acknowledge", lost)
            patch.setattr(self, "patience", 0)
            self.once()

    def run(self, seconds: int, arrive: Callable[[], None]) -> None:
        """Collect for so many seconds of the clock, each of which ``arrive`` is told of."""
        end = self.now + seconds * SECOND

        def elapse() -> bool:
            self.now += SECOND
            arrive()
            keeper = self.reader.pulling("stream", print).keeper
            deadline = time.monotonic() + 5
            while self.stream.is_waiting and time.monotonic() < deadline:
                keeper.waiting()
                time.sleep(0.005)
            return self.now >= end

        with self.process(_Elapsing(elapse)):
            LocalDrive([self.open()], self.steps, clock=lambda: self.now).run()

    def job(self, *, once: bool = False) -> Coordinator:
        """Return what plans it on an engine."""
        return Coordinator(
            "stream",
            lambda run: self.open(is_here=False, run=run),
            timedelta(minutes=5),
            "subscription",
            once=once,
            clock=lambda: self.now,
        )

    def ids(self) -> list[int]:
        """Return the ids of all rows, waiting ones too."""
        return sorted(rows_of(self.path)["id"].to_pylist())


class _Elapsing(threading.Event):
    """What the drive waits on: a second of its clock passes, True ends it."""

    def __init__(self, elapse: Callable[[], bool]) -> None:
        super().__init__()
        self._elapse = elapse

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and self._elapse():
            self.set()
        return self.is_set()
