"""What an engine does next for a collection: look at its log, then plan, wait or stop.

One cycle is in flight at a time. What is remembered between two looks (``Flight``) only saves
work: the log decides. A flight that is lost, old or there twice leads to a second plan of a cycle,
and the log takes one.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import CollectionError, SourceError
from batch_collection.log.entries import read_since
from batch_collection.windows import format_duration, utc_now
from pipeline.planning.planner import Asked
from pipeline.planning.topic import TopicCollection, dead_letters_of
from pipeline.running.policy import POLL, may_pass, pause_after
from pipeline.showing.wording import stream_name
from transforms.committing.commit import read_note
from transforms.elements.failure import NOTHING, text_of
from transforms.process.events import Away, Back, CycleBegan, GivenUp, Note

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from batch_collection.log.entry import Entry
    from transforms.elements.failure import Failure
    from transforms.elements.plan import Task
    from transforms.process.events import Event

__all__ = ["Coordinator", "Flight", "Look"]


IN_FLIGHT = timedelta(milliseconds=500)
"""How often the log is asked whether the cycle in flight is committed."""

STOPPED = timedelta(minutes=1)
_AT_ONCE = timedelta(milliseconds=10)


class Flight(NamedTuple):
    """What is remembered of a collection: JSON's types only, so that jobs can be updated.

    ``run`` is drawn when the job is first submitted. ``after`` is the newest cycle taken up (-1:
    none yet); the plan of the cycle after it is in flight if ``plan``, its id, isn't empty.
    ``goal`` and ``asked_at`` (seconds since the epoch) are what ``--once`` collects up to.
    ``stopped`` says why no more is planned. ``dead_letters`` are those that the run has had, as far
    as it is remembered. With ``is_last`` no plan follows the one that was made last: it tells what
    was acknowledged, at the end of ``--once``.
    """

    run: str
    after: int = -1
    plan: str = ""
    planned_at: float = 0.0
    tries: int = 0
    left: int = 0
    goal: dict[str, int] | None = None
    asked_at: float | None = None
    stopped: str = ""
    dead_letters: int = 0
    is_last: bool = False


class Look(NamedTuple):
    """What a look came to: tasks to run now, when to look again, and what is to be told.

    With ``done`` nothing is left of ``--once``, or nothing can be done; ``error`` is why nothing
    more is planned.
    """

    flight: Flight
    tasks: tuple[Task, ...] = ()
    wait: timedelta = POLL
    events: tuple[Event, ...] = ()
    done: bool = False
    error: CollectionError | None = None


@dataclass
class Coordinator:
    """Looks after one collection, from one look to the next.

    Attributes:
        name: the topic's.
        open: begins or takes up the collection for a run; called when first needed.
        cycle_timeout: how long a cycle may take before it is planned again, doubled each time.
        stream: what people call it: ``topic`` or ``subscription``.
    """

    name: str
    open: Callable[[str], TopicCollection]
    cycle_timeout: timedelta
    stream: str = "topic"
    once: bool = False
    flush: bool = False
    clock: Callable[[], datetime] = utc_now
    _topic: TopicCollection | None = None
    _trouble: str = ""
    _is_of_source: bool = False
    _reason: str = ""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def look(self, flight: Flight) -> Look:
        """Look once; nothing is raised that a user can mend."""
        if flight.stopped:
            return self._stopped(flight, CollectionError(flight.stopped))
        with self._lock:
            try:
                look = self._look(flight)
            except CollectionError as error:
                if self._may_pass(type(error)):
                    return self._in_trouble(flight, error)
                return self._stopped(flight._replace(stopped=text_of(error)), error)
            if self._trouble:
                self._trouble = ""
                look = look._replace(
                    events=(Back(self.name, self._is_of_source, self.stream), *look.events)
                )
            return look

    def _stopped(self, flight: Flight, error: CollectionError) -> Look:
        events = (GivenUp(self.name, error),)
        return Look(flight, wait=STOPPED, events=events, error=error, done=self.once)

    def _in_trouble(self, flight: Flight, error: CollectionError) -> Look:
        """Try again soon; say why once."""
        is_new, self._trouble = str(error) != self._trouble, str(error)
        self._is_of_source = isinstance(error, SourceError)
        events = (Away(self.name, str(error), self._is_of_source, self.stream),) if is_new else ()
        return Look(flight, wait=pause_after(flight.tries), events=events)

    def _look(self, flight: Flight) -> Look:
        topic = self._opened(flight)
        flight, events = self._taken_up(topic, flight)
        if flight.plan:
            failure = read_note(topic.storage, flight.after + 1, flight.plan)
            if failure is not None and failure.kind == NOTHING:
                topic.heed(failure, flight.tries)
                return self._planned(topic, flight._replace(plan=""), events)
            if flight.is_last:
                return self._last(flight, failure, events)
            verdict = self._verdict(topic, flight, failure)
            if verdict is None:
                return Look(flight, wait=IN_FLIGHT, events=events)
            flight = flight._replace(plan="", tries=flight.tries + 1)
            events += (Note(verdict),) if verdict else ()
        return self._planned(topic, flight, events)

    def _last(self, flight: Flight, failure: Failure | None, events: tuple[Event, ...]) -> Look:
        """Wait for the plan behind which none is made, unless nothing will come of it."""
        if failure is None:
            is_late = self._age(flight) >= self._patience(flight)
            return Look(flight, wait=IN_FLIGHT, events=events, done=is_late)
        text = f"the log does not hear what was acknowledged at the end: {failure.text}"
        return Look(flight, events=(*events, Note(text)), done=True)

    def _opened(self, flight: Flight) -> TopicCollection:
        """Open the collection once a process, for the run that the job began with."""
        if self._topic is None:
            self._topic = self.open(flight.run)
        return self._topic

    def _taken_up(self, topic: TopicCollection, flight: Flight) -> tuple[Flight, tuple[Event, ...]]:
        """Take up what was committed since the last look.

        Raises:
            OtherCollectorError: by another run.
        """
        found = topic.take_up()
        newest = topic.newest
        if newest.cycle == flight.after:
            return flight, ()
        if flight.after < 0:
            events: tuple[Event, ...] = (Note(_where(newest)),)
        else:
            if not found or found[0].cycle != flight.after + 1:  # an old flight, or a new worker
                found = read_since(topic.storage, flight.after, newest.cycle)
            topic.check_rivals(found)
            events = self._committed(topic, found, flight)
        letters = flight.dead_letters + dead_letters_of(found, flight.run)
        taken = flight._replace(after=newest.cycle, plan="", tries=0, left=0, dead_letters=letters)
        self._reason = ""
        trouble = topic.release()
        return taken, (*events, Note(trouble)) if trouble else events

    def _committed(
        self, topic: TopicCollection, found: Sequence[Entry], flight: Flight
    ) -> tuple[Event, ...]:
        """Tell of the newest cycle, and of what commands did."""
        planned_at = datetime.fromtimestamp(flight.planned_at, timezone.utc)
        commands = [entry for entry in found if entry.is_maintenance]
        cycles = [entry for entry in found if not entry.is_maintenance][-1:]
        return tuple(
            topic.committed(entry, flight.left, entry.committed_at - planned_at)
            for entry in (*cycles, *commands)
        )

    def _verdict(
        self, topic: TopicCollection, flight: Flight, failure: Failure | None
    ) -> str | None:
        """Say why the cycle in flight is to be planned again; None: it still has time.

        Raises:
            CollectionError: it failed for good.
        """
        cycle, age = flight.after + 1, self._age(flight)
        if failure is None:
            patience = self._patience(flight)
            if age < patience:
                return None
            return f"cycle {cycle} took longer than {format_duration(patience)}; planned again"
        if topic.heed(failure, flight.tries):
            return f"cycle {cycle} is planned again: {failure.text}"
        if self._may_pass(failure.error_class):
            is_soon = age < pause_after(flight.tries)
            return None if is_soon else self._said_once(cycle, failure.text)
        raise failure.error()

    def _age(self, flight: Flight) -> timedelta:
        return timedelta(seconds=self.clock().timestamp() - flight.planned_at)

    def _patience(self, flight: Flight) -> timedelta:
        return self.cycle_timeout * 2**flight.tries

    def _may_pass(self, kind: type[Exception] | None) -> bool:
        return may_pass(kind, once=self.once, is_attended=False)

    def _said_once(self, cycle: int, text: str) -> str:
        """Say why a cycle is planned again, unless that was the reason the last time, too."""
        is_new, self._reason = text != self._reason, text
        return f"cycle {cycle} is planned again: {text}" if is_new else ""

    def _planned(self, topic: TopicCollection, flight: Flight, events: tuple[Event, ...]) -> Look:
        """Plan the next cycle if one is due; one without rows is committed at once.

        Behind all of ``--once`` comes one more, if anything was acknowledged, and no other.
        """
        if flight.is_last:
            return Look(flight, events=events, done=True)
        flight = self._with_goal(topic, flight)
        asked = Asked(flush=self.flush, force=self.once)
        now = self.clock()
        topic.dead_letters = flight.dead_letters
        asked_at = flight.asked_at
        asked_now = now if asked_at is None else datetime.fromtimestamp(asked_at, timezone.utc)
        planned = topic.plan(asked, asked_now)
        if planned is None and self.once:
            flight, planned = flight._replace(is_last=True), topic.plan_last()
        if planned is None:
            wait = max(min(topic.next_due() - now, POLL), _AT_ONCE)
            return Look(flight, wait=wait, events=events, done=self.once)
        events += (CycleBegan((self.name,), planned.messages, planned.left),)
        flight = flight._replace(
            plan=planned.plan.id, planned_at=now.timestamp(), left=planned.left
        )
        if planned.is_empty and not flight.is_last:  # only who has pulled knows what it said
            topic.commit_empty(planned)
            return Look(flight, wait=_AT_ONCE, events=events)
        return Look(flight, tasks=planned.tasks, wait=IN_FLIGHT, events=events)

    def _with_goal(self, topic: TopicCollection, flight: Flight) -> Flight:
        """Let ``--once`` collect what was there, and close what was due, at its first look."""
        if not self.once:
            return flight
        if flight.goal is None:
            goal = {str(p): end for p, end in topic.survey.set_goal(topic.newest).items()}
            return flight._replace(goal=goal, asked_at=self.clock().timestamp())
        topic.survey.set_goal(topic.newest, {int(p): end for p, end in flight.goal.items()})
        return flight


def _where(newest: Entry) -> str:
    if newest.cause == "start":
        return f"begins to collect {stream_name(newest.source)}"
    return f"goes on after cycle {newest.cycle} of {stream_name(newest.source)}"
