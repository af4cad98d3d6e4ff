"""PlanCycle on a runner's terms: put off, never shared, ended by a drain, read again later."""

from __future__ import annotations

import logging
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from apache_beam.runners.sdf_utils import RestrictionTrackerView, ThreadsafeRestrictionTracker

from batch_collection.errors import LogError, OtherCollectorError
from pipeline.running import plan_cycle
from pipeline.running.coordinator import Flight, Look
from tests.builders import first_entry
from transforms.process.events import CycleCommitted, Finished, GivenUp
from transforms.process.process import current, new_process

if TYPE_CHECKING:
    from transforms.process.events import Event

FLIGHT = Flight("run", after=3)
ERROR = LogError("damaged")
TAKEN = OtherCollectorError("another collector")
GIVEN_UP = Look(FLIGHT, events=(GivenUp("topic", ERROR),), error=ERROR)


class Scripted:
    """A coordinator that looks as it is told."""

    def __init__(self, look: Look) -> None:
        """Take what the next look comes to."""
        self.script = look

    def look(self, flight: Flight) -> Look:
        """Look."""
        assert flight == FLIGHT
        return self.script


def heard() -> list[Event]:
    """Wait for the job in this process; give what is told from now on."""
    events: list[Event] = []
    current().is_awaited = True
    current().observers.append(events.append)
    return events


def process(
    look: Look, *, raises: bool = True, shared: bool = False
) -> tuple[list[Any], ThreadsafeRestrictionTracker]:
    """Process one collection once; give what came out, and the tracker as a runner sees it."""
    tracker = ThreadsafeRestrictionTracker(plan_cycle._FlightTracker(FLIGHT))  # noqa: SLF001
    do_fn = plan_cycle._PlanFn(lambda _: Scripted(look), raises, shared)  # type: ignore[arg-type,return-value]  # noqa: SLF001
    do_fn.setup()
    return list(do_fn.process(("topic", "run"), RestrictionTrackerView(tracker))), tracker


def test_a_job_logs_cycles_that_did_nothing_if_asked_for(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """By ``--verbose``; dead letters and rows it always logs."""
    caplog.set_level(logging.INFO)
    entry = first_entry(cycle=3, cause="interval")
    idle = CycleCommitted("/data/orders", entry, left=0, took=timedelta(seconds=1))
    plan_cycle._log(idle)  # noqa: SLF001
    assert caplog.messages == []
    plan_cycle._log(idle, verbose=True)  # noqa: SLF001
    assert caplog.messages == [
        "10:30:00  batch-topic  cycle 3  0 messages  0 rows  0 files  0 waiting  1.0 s"
    ]


def test_a_look_puts_the_rest_off_with_what_it_remembers() -> None:
    """Tasks and what is remembered of them are one checkpoint; it wakes when told to."""
    later = FLIGHT._replace(plan="id", tries=1)
    tasks: Any = ("one", "two")
    out, tracker = process(Look(later, tasks=tasks, wait=timedelta(seconds=3)))
    tracker.check_done()
    status = tracker.deferred_status()
    assert [each.value for each in out] == ["one", "two"]
    assert status is not None
    residual, delay = status
    assert residual == later
    assert 2.5 < delay.micros / 1e6 <= 3


def test_what_is_done_leaves_nothing() -> None:
    """So a job with ``--once`` ends; who waits hears of it, as engines may not end it."""
    events = heard()
    out, tracker = process(Look(FLIGHT, done=True))
    tracker.check_done()
    assert (out, events) == ([], [Finished("topic")])
    assert tracker.deferred_status() is None


def test_an_error_fails_the_job_where_that_ends_it() -> None:
    """The runner shows it to who waits for the job."""
    with pytest.raises(LogError):
        process(GIVEN_UP)


def test_an_error_is_told_to_who_waits_in_the_same_process() -> None:
    """Without a traceback of the runner's."""
    events = heard()
    _, tracker = process(GIVEN_UP)
    assert events == list(GIVEN_UP.events)
    assert tracker.deferred_status() is not None


@pytest.mark.parametrize(
    ("in_process", "once", "ends"),
    [(True, False, True), (True, True, True), (False, True, True), (False, False, False)],
)
def test_an_error_of_one_topic_of_several_ends_its_part_of_the_job_alone(
    caplog: pytest.LogCaptureFixture, *, in_process: bool, once: bool, ends: bool
) -> None:
    """Nothing is raised; where nobody here waits for the job, and it is for ever, it is said."""
    events = heard() if in_process else []
    _, tracker = process(GIVEN_UP._replace(done=once), shared=True)
    assert events == list(GIVEN_UP.events) * in_process
    assert len(caplog.records) == (not in_process)
    assert (tracker.deferred_status() is None) == ends


def test_an_error_is_only_said_where_a_failing_job_is_tried_for_ever(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """On Dataflow; it is said again with each look."""
    out, tracker = process(GIVEN_UP, raises=False)
    assert out == []
    assert tracker.deferred_status() is not None
    assert [record.getMessage() for record in caplog.records] == ["error: damaged"]


@pytest.mark.parametrize("raises", [True, False])
def test_a_job_ends_whose_collection_another_run_has_taken_over(
    caplog: pytest.LogCaptureFixture, *, raises: bool
) -> None:
    """It frees its slots, and is not tried again: nobody may be there to cancel it."""
    look = Look(FLIGHT, events=(GivenUp("topic", TAKEN),), error=TAKEN)
    _, tracker = process(look, raises=raises)
    assert tracker.deferred_status() is None
    assert caplog.messages == ["error: another collector"]


def test_a_backfill_that_another_run_has_taken_over_fails() -> None:
    """Its end would say that all is collected."""
    with pytest.raises(OtherCollectorError):
        process(Look(FLIGHT, error=TAKEN, done=True))


def test_a_look_that_comes_too_early_waits() -> None:
    """Flink wakes what put itself off at once, again and again, where its sources have ended."""
    waits: list[float | None] = []

    class Waiting(threading.Event):
        def wait(self, timeout: float | None = None) -> bool:
            waits.append(timeout)
            return False

    with new_process(Waiting()):
        process(Look(FLIGHT, wait=timedelta(minutes=1)))
        assert waits == []
        process(Look(FLIGHT, wait=timedelta(minutes=1)))

    assert waits == [1.0]


@pytest.mark.parametrize("fraction", [0.1, 0.5, 1.0])
def test_a_collection_is_never_shared(fraction: float) -> None:
    """Whatever a runner asks for."""
    tracker = plan_cycle._FlightTracker(FLIGHT)  # noqa: SLF001
    assert tracker.try_split(fraction) is None
    assert tracker.try_split(0) == (FLIGHT, FLIGHT)
    assert tracker.try_split(0) is None


def test_a_look_that_was_cut_short_is_not_done() -> None:
    """The runner's check would miss it otherwise."""
    with pytest.raises(ValueError, match="cut short"):
        plan_cycle._FlightTracker(FLIGHT).check_done()  # noqa: SLF001


def test_a_drain_plans_no_more() -> None:
    """Nothing of the collection is left to look at."""
    provider = plan_cycle._Flights()  # noqa: SLF001
    assert provider.initial_restriction(("topic", "run-7")) == Flight("run-7")
    assert provider.truncate(("topic", "run-7"), FLIGHT) is None  # type: ignore[func-returns-value]
