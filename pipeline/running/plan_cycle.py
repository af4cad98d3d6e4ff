"""PlanCycle: collections in, the tasks of one cycle after the other out."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io.iobase import RestrictionProgress, RestrictionTracker
from apache_beam.io.watermark_estimators import WalltimeWatermarkEstimator
from apache_beam.transforms.core import RestrictionProvider
from apache_beam.transforms.window import TimestampedValue
from apache_beam.utils.timestamp import Duration, Timestamp

from batch_collection.errors import CollectionError, OtherCollectorError
from batch_collection.windows import microseconds
from pipeline.running.coordinator import Coordinator, Flight
from pipeline.running.policy import POLL
from pipeline.showing.board import said
from pipeline.showing.lines import shown
from pipeline.showing.wording import called
from transforms.elements.coders import RecordCoder
from transforms.elements.observers import tell
from transforms.elements.plan import Task
from transforms.process.events import Away, Back, Finished, GivenUp
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import timedelta

    from apache_beam.pvalue import PCollection

    from transforms.process.events import Event

__all__ = ["FlightCoder", "PlanCycle", "line_of"]


_logger = logging.getLogger(__name__)
_EARLY = 0.02  # seconds; less is how runners wake


def line_of(event: Event, *, verbose: bool = False) -> str | None:
    """Say an event in one line, in the words of a job: whose source is not told apart."""
    match event:
        case Away():
            return f"{event.error}; trying again until it works"
        case Back():
            return f"it works again: {called(event)}"
        case GivenUp():
            return f"error: {event.error}"
    return said(event, verbose=verbose)


def _log(event: Event, *, verbose: bool = False) -> None:
    line = line_of(event, verbose=verbose)
    if line is not None:
        level = logging.ERROR if isinstance(event, GivenUp) else logging.INFO
        _logger.log(level, "%s", shown(line))


@dataclass(eq=False)
class PlanCycle(beam.PTransform):
    """Plan a collection's cycles, one in flight at a time, until nothing is left of ``--once``.

    In: a topic, and the run to commit its entries under. Out: ``Task``, unbounded. A splittable
    DoFn that puts itself off: what it remembers (``Flight``) and the tasks it gives are kept by one
    checkpoint of the runner's, it wakes when a window is due, ticks never pile up, and when it
    ends, the job ends. A drain stops it; what is in flight is still committed.

    Attributes:
        coordinators: makes a topic's ``Coordinator``, on the worker.
        raises: let the job fail where nothing more can be planned, else only say so.
        shared: it collects other topics, too, which go on: this one's part of it ends, or is only
            said to be in trouble.
        verbose: log cycles, too, that had nothing to do.
    """

    coordinators: Callable[[str], Coordinator]
    raises: bool = True
    shared: bool = False
    verbose: bool = False

    def expand(self, starts: PCollection[tuple[str, str]]) -> PCollection[Task]:
        """Wire it."""
        planning = beam.ParDo(_PlanFn(self.coordinators, self.raises, self.shared, self.verbose))
        return starts | planning.with_output_types(Task)


class FlightCoder(RecordCoder):
    """Codes what is remembered between two looks."""

    record = Flight

    def is_deterministic(self) -> bool:
        """Return True: fields stand in their order."""
        return True


class _FlightTracker(RestrictionTracker):
    """Holds what is remembered; claiming a new ``Flight`` replaces it, None ends it."""

    def __init__(self, flight: Flight | None) -> None:
        self._flight = flight
        self._is_split = False

    def current_restriction(self) -> Flight | None:
        return self._flight

    def try_claim(self, position: Flight | None) -> bool:
        self._flight = position
        return True

    def try_split(self, fraction_of_remainder: float) -> tuple[Any, Any] | None:
        """Put the rest off. A collection can't be shared, so no runner may split it otherwise."""
        if fraction_of_remainder or self._flight is None or self._is_split:
            return None
        self._is_split = True
        return self._flight, self._flight

    def check_done(self) -> None:
        if self._flight is not None and not self._is_split:
            message = "the look at a collection was cut short"
            raise ValueError(message)

    def current_progress(self) -> RestrictionProgress:
        return RestrictionProgress(fraction=0.0)

    def is_bounded(self) -> bool:
        return False


_WALL_TIME = WalltimeWatermarkEstimator.default_provider()


class _Flights(RestrictionProvider):
    def initial_restriction(self, element: tuple[str, str]) -> Flight:
        return Flight(element[1])

    def create_tracker(self, restriction: Flight) -> _FlightTracker:
        return _FlightTracker(restriction)

    def restriction_coder(self) -> FlightCoder:
        return FlightCoder()

    def restriction_size(self, element: tuple[str, str], restriction: Flight) -> int:  # noqa: ARG002
        return 1

    def truncate(self, element: tuple[str, str], restriction: Flight) -> None:
        """Plan no more when the job is drained."""


@dataclass
class _Pace:
    """When a topic is looked at again: Flink asks without a pause once its sources have ended."""

    _due: float = 0.0

    def set(self, wait: timedelta) -> None:
        """Be due that much later."""
        self._due = time.monotonic() + wait.total_seconds()

    def keep(self) -> None:
        """Wait where it is too early, not for long: a runner may want to end."""
        early = self._due - time.monotonic()
        if early > _EARLY:
            current().stop.wait(min(early, POLL.total_seconds()))


@dataclass(eq=False)
class _PlanFn(beam.DoFn):
    coordinators: Callable[[str], Coordinator]
    raises: bool
    shared: bool = False
    verbose: bool = False

    def setup(self) -> None:
        """Log what happens, unless whoever waits for the job here shows it."""
        process = current()
        if not process.is_awaited:
            log = partial(_log, verbose=self.verbose)
            process.kept(_log, lambda: process.observers.append(log))

    @beam.DoFn.unbounded_per_element()  # type: ignore[untyped-decorator]
    def process(
        self,
        element: tuple[str, str],
        tracker: Any = beam.DoFn.RestrictionParam(_Flights()),  # noqa: B008 - Beam's way
        _: Any = beam.DoFn.WatermarkEstimatorParam(_WALL_TIME),  # noqa: B008
    ) -> Iterator[TimestampedValue]:
        pace = current().kept((_Pace, *element), _Pace)
        pace.keep()
        look = self._coordinator(element).look(tracker.current_restriction())
        pace.set(look.wait)
        is_taken = isinstance(look.error, OtherCollectorError) and not look.done
        is_told = is_taken or self._is_told(look.error)
        for event in look.events:
            tell(event)
        is_over = look.done or is_taken
        if look.error is None and is_over:
            tell(Finished(element[0]))
        elif look.error is not None and not is_taken:
            is_over = self.raises and self.shared and (is_told or look.done)
        tracker.try_claim(None if is_over else look.flight)
        now = Timestamp.now()
        for task in look.tasks:
            yield TimestampedValue(task, now)
        if not is_over:
            tracker.defer_remainder(Duration(micros=microseconds(look.wait)))

    def _is_told(self, error: CollectionError | None) -> bool:
        """Return whether it ends the job, and whoever waits for that here hears why.

        A runner would bury the line under its own tracebacks.

        Raises:
            CollectionError: nobody waits here, and no other topic is collected.
        """
        if error is None or not self.raises:
            return False
        is_awaited = current().is_awaited
        if not is_awaited and not self.shared:
            raise error
        return is_awaited

    def _coordinator(self, start: tuple[str, str]) -> Coordinator:
        """Return the one of this process: a runner may make many copies of this DoFn."""
        return current().kept((Coordinator, *start), lambda: self.coordinators(start[0]))
