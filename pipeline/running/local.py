"""The local drive: plan, run one bounded pipeline a cycle on the DirectRunner, settle, wait."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from batch_collection.errors import CollectionError, SourceError, StoppedError
from batch_collection.parallel import in_parallel, outcomes
from batch_collection.windows import utc_now
from pipeline.planning.planner import Asked
from pipeline.running.policy import POLL, may_pass, pause_after
from transforms.elements.observers import tell
from transforms.elements.plan import Task
from transforms.process.events import (
    Away,
    Back,
    CycleBegan,
    GivenUp,
    Note,
    RowsDecoded,
    Waiting,
)
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime, timedelta

    from pipeline.graph import CollectTasks
    from pipeline.planning.joining import Joining
    from pipeline.planning.planner import Planned
    from pipeline.planning.topic import TopicCollection
    from transforms.process.events import CycleCommitted, Event

    _Run = Callable[[Sequence[Task], CollectTasks], None]

__all__ = ["LocalDrive", "put_together", "run_steps"]


class _Due(NamedTuple):
    """A collection and what is planned for it."""

    topic: TopicCollection
    planned: Planned


class _Settled(NamedTuple):
    """What came of a plan: cycles, and why the source can't be told of them."""

    cycles: list[CycleCommitted]
    trouble: str


def _settled(due: _Due, took: timedelta, *, published: bool) -> _Settled:
    """Take up what came of a plan; several at once do, since their storages are waited for."""
    topic, planned = due
    found = topic.settle(planned, published=published)
    cycles = [topic.committed(entry, planned.left, took) for entry in found]
    return _Settled(cycles, topic.release() if found else "")


class _Pause(NamedTuple):
    """How long a topic is left alone whose source is away, or whose rows can't be written."""

    since: datetime
    tries: int
    is_of_source: bool

    @property
    def end(self) -> datetime:
        """When it is tried again."""
        return self.since + pause_after(self.tries)

    def holds(self, now: datetime) -> bool:
        """Tell whether it is still too early; a clock that was set back ends it, too."""
        return self.since <= now < self.end


def _broken(due: Sequence[_Due], steps: CollectTasks, run: _Run) -> CollectionError | None:
    """Run what is planned for some topics together; return what broke it off."""
    try:
        empty = [each for each in due if each.planned.is_empty]
        tasks = [task for each in due if not each.planned.is_empty for task in each.planned.tasks]
        in_parallel(lambda each: each.topic.commit_empty(each.planned), empty)
        if tasks:
            run(tasks, steps)
    except StoppedError:
        raise
    except CollectionError as error:
        return error
    return None


def run_steps(tasks: Sequence[Task], steps: beam.PTransform) -> None:
    """Run steps once over some tasks, in this process.

    The DirectRunner is three runners, and which one it picks depends on the graph; this is the one
    it uses for batch. The graph is put together once a process, which takes Beam longer than a
    small cycle does; so tasks are no part of it.

    Raises:
        CollectionError: a step can't go on, the disk is full for example.
    """
    graph = put_together(steps)
    current().kept(_given, list[Task])[:] = tasks
    log = logging.getLogger("apache_beam.runners.common")
    log.addFilter(_is_not_said_anyhow)
    try:
        graph.work_off()
    except CollectionError as error:
        # Beam raises the error again with the step's name behind its text
        raise type(error)(str(error).partition(" [while running")[0]) from error
    finally:
        log.removeFilter(_is_not_said_anyhow)


def put_together(steps: beam.PTransform) -> _Graph:
    """Return the graph of some steps; a thread puts it together, the first time in a process."""
    return current().kept((_Graph, id(steps)), lambda: _Graph(steps))


def _given(_: bytes) -> Sequence[Task]:
    """Return the tasks that are to be worked off now."""
    return tuple(current().kept(_given, list[Any]))


class _Graph(FnApiRunner):
    """Some steps behind the tasks that are given, to be run again and again."""

    def __init__(self, steps: beam.PTransform) -> None:
        super().__init__()
        self._steps = steps  # alive, so that nothing else gets its id
        threads = ThreadPoolExecutor(1, "graph")
        self._made = threads.submit(self._put_together)
        threads.shutdown(wait=False)

    def _put_together(self) -> bytes:
        pipeline = beam.Pipeline(runner=self, options=_Options([]))
        tasks = pipeline | beam.Impulse() | "Tasks" >> beam.FlatMap(_given).with_output_types(Task)
        _ = tasks | self._steps
        made: Any = pipeline.run()
        return bytes(made)

    def run_via_runner_api(self, pipeline_proto: Any, options: PipelineOptions) -> Any:  # noqa: ARG002 - Beam's
        """Return what Beam has made of the graph, and run nothing yet."""
        return pipeline_proto.SerializeToString()

    def work_off(self) -> None:
        """Run it once; a run changes what it is given."""
        graph = beam_runner_api_pb2.Pipeline.FromString(self._made.result())
        FnApiRunner().run_via_runner_api(graph, _Options([])).wait_until_finish()
        pa.system_memory_pool().release_unused()  # malloc's, of all threads


class _Options(PipelineOptions):
    """Options of which each view is made once: while a graph is put together, some hundred are."""

    def view_as(self, cls: type[Any]) -> Any:
        """Return the view of a class."""
        views: dict[type, Any] = self.__dict__.setdefault("views", {})
        if cls not in views:
            views[cls] = super().view_as(cls)
        return views[cls]


def _is_not_said_anyhow(record: logging.LogRecord) -> bool:
    """Tell what Beam logs, with a traceback, although it raises it: an error shown as one line."""
    return not (record.exc_info and isinstance(record.exc_info[1], CollectionError))


@dataclass(slots=True)
class LocalDrive:
    """Collects some topics until its process is, with ``once`` until what was there is collected.

    Guarantee: a cycle's rows are in the log, all of them, or not at all, whenever the process ends.
    One topic's trouble keeps no other from being collected: what may pass is waited for, with
    ``once`` only the source; what a user must mend ends that topic alone. ``run_steps`` runs the
    steps, here if nothing else is given.
    """

    topics: Sequence[TopicCollection]
    steps: CollectTasks
    once: bool = False
    flush: bool = False
    clock: Callable[[], datetime] = utc_now
    run_steps: _Run = field(default_factory=lambda: run_steps)
    joining: Joining | None = None
    _pauses: dict[str, _Pause] = field(default_factory=dict)
    _given_up: dict[str, CollectionError] = field(default_factory=dict)
    _undated: int = 0
    _now: datetime | None = None

    def run(self) -> None:
        """Collect; where the process is stopped the running cycle is committed, or nothing of it.

        Raises:
            CollectionError: what a user can mend; of some topics, once the others are collected.
        """
        observers = current().observers
        observers.append(self._count_undated)
        try:
            if self.once:
                self._now = self.clock()
            self._collect()
            if self.once:
                self._tell_acknowledged()
        finally:
            observers.remove(self._count_undated)
        for error in self._given_up.values():
            raise error

    def _collect(self) -> None:
        while not current().stop.is_set():
            try:
                if not self._pass():
                    return
            except StoppedError:
                return

    def _tell_acknowledged(self) -> None:
        """Let each log hear what was acknowledged: by one cycle more, whatever becomes of that.

        Of a collector that runs from cron no other cycle says it, and ids would be kept for days.
        """
        if current().stop.is_set():
            return
        with suppress(StoppedError):
            due = self._due(lambda topic: topic.plan_last())
            if due:
                self._run(due)

    def _pass(self) -> bool:
        """Run what is due, else wait; return whether there is more to do."""
        self._join()
        due = self._due(self._planned)
        if due:
            self._run(due)
            return True
        if self.once:
            is_done = all(topic.survey.is_over for topic in self._live)
        else:
            is_done = all(topic.is_at_end for topic in self._live)
        if is_done and not self._pauses and not self._may_join:
            return False
        self._wait()
        return True

    def _join(self) -> None:
        """Take up topics that match a pattern and have come since."""
        if self.joining is None:
            return
        found = self.joining.look(self.clock())
        self.topics = (*self.topics, *found.topics)
        self._given_up.update(found.failed)
        is_end = len(self._given_up) == 1 and not self._live  # the run ends with it, and says so
        for name, error in found.failed.items():
            tell(GivenUp(name, error, is_last=is_end))

    @property
    def _may_join(self) -> bool:
        """Whether topics may still come; where all that came are given up, somebody must look."""
        is_over = self._given_up and not self._live
        return self.joining is not None and not self.joining.ends and not is_over

    @property
    def _live(self) -> list[TopicCollection]:
        """The topics that are not given up."""
        return [topic for topic in self.topics if topic.name not in self._given_up]

    def _due(self, plan: Callable[[TopicCollection], Planned | None]) -> list[_Due]:
        """Plan what is due; a topic whose source is away keeps no other from being collected.

        Several are planned at once, since their source is waited for.
        """
        due, topics = [], [topic for topic in self._live if not self._rests(topic)]
        for topic, outcome in zip(topics, outcomes(plan, topics), strict=True):
            try:
                planned = outcome.result()
            except StoppedError:
                raise
            except CollectionError as error:
                self._is_in_trouble(topic, error)
                continue
            if planned is None:
                self._is_back(topic)
            else:
                due.append(_Due(topic, planned))
        return due

    def _rests(self, topic: TopicCollection) -> bool:
        pause = self._pauses.get(topic.name)
        return pause is not None and pause.holds(self.clock())

    def _planned(self, topic: TopicCollection) -> Planned | None:
        """Plan a topic's next cycle, if one is due."""
        if self.once and topic.survey.goal is None:
            topic.survey.set_goal(topic.newest)
        asked = Asked(flush=self.flush, force=self.once or topic.is_at_end)
        return topic.plan(asked, self._now)

    def _run(self, due: Sequence[_Due]) -> None:
        began = self.clock()
        self._undated = 0
        names = tuple(topic.name for topic, _ in due)
        messages = sum(item.planned.messages for item in due)
        tell(CycleBegan(names, messages, left=sum(item.planned.left for item in due)))
        again, broken = self._worked_off(due)

        def settled(item: _Due) -> _Settled:
            if error := broken.get(item.topic.name):
                raise error
            return _settled(item, self.clock() - began, published=not again)

        for (topic, _), outcome in zip(due, outcomes(settled, due), strict=True):
            try:
                self._tell_of(topic, outcome.result())
            except StoppedError:
                raise
            except CollectionError as error:
                self._is_in_trouble(topic, error)
        if self._undated:
            tell(
                Note(
                    f"warning: rows without _timestamp: {self._undated:,}; those of their records "
                    "are missing, or not milliseconds within years 1 to 9999; fix the sender"
                )
            )

    def _tell_of(self, topic: TopicCollection, came: _Settled) -> None:
        if topic.news:
            tell(Note(topic.news))
        for cycle in came.cycles:
            tell(cycle)
        if came.cycles:
            self._is_back(topic)
        if came.trouble:
            tell(Note(came.trouble))

    def _count_undated(self, event: Event) -> None:
        if isinstance(event, RowsDecoded):
            self._undated += event.undated

    def _worked_off(self, due: Sequence[_Due]) -> tuple[bool, dict[str, CollectionError]]:
        """Run what is planned; say whether parts of it ran twice, and by topic what broke.

        What breaks where topics run together may be the trouble of any: then each runs by itself.
        """
        error = _broken(due, self.steps, self.run_steps)
        if error is None or len(due) == 1:
            return False, {topic.name: error for topic, _ in due if error is not None}
        errors = {each.topic.name: self._broken_again(each) for each in due}
        return True, {name: error for name, error in errors.items() if error is not None}

    def _broken_again(self, due: _Due) -> CollectionError | None:
        """Run what is planned for a topic once more, unless it was committed."""
        try:
            if due.topic.log.own(due.planned.plan.id):
                return None
        except StoppedError:
            raise
        except CollectionError as error:
            return error
        return _broken([due], self.steps, self.run_steps)

    def _wait(self) -> None:
        soon = self.clock() + POLL
        due = min((self._next_look(topic) for topic in self._live), default=soon)
        tell(Waiting(due, sum(topic.survey.lag for topic in self.topics)))
        seconds = min(due - self.clock(), POLL).total_seconds()
        current().stop.wait(max(seconds, 0.01))

    def _next_look(self, topic: TopicCollection) -> datetime:
        pause = self._pauses.get(topic.name)
        return topic.next_due() if pause is None else pause.end

    def _is_in_trouble(self, topic: TopicCollection, error: CollectionError) -> None:
        """Leave a topic alone, for a while or for good; say why once."""
        if may_pass(type(error), once=self.once, is_attended=True):
            if not current().stop.is_set():
                self._is_away(topic, error)
            return
        self._given_up[topic.name] = error
        self._pauses.pop(topic.name, None)
        tell(GivenUp(topic.name, error, is_last=not self._live))

    def _is_away(self, topic: TopicCollection, error: CollectionError) -> None:
        """Leave a topic alone for a while, longer each time; say why once."""
        is_of_source = isinstance(error, SourceError)
        if is_of_source:
            topic.survey.reset()
        before = self._pauses.get(topic.name)
        if before is None:
            tell(Away(topic.name, str(error), is_of_source, topic.newest.source.stream))
        tries = 0 if before is None else before.tries + 1
        self._pauses[topic.name] = _Pause(self.clock(), tries, is_of_source)

    def _is_back(self, topic: TopicCollection) -> None:
        pause = self._pauses.pop(topic.name, None)
        if pause is not None:
            tell(Back(topic.name, pause.is_of_source, topic.newest.source.stream))
