"""Both drives over a leased source: when they pull, what they close, and when they are done."""

from __future__ import annotations

import time
from dataclasses import replace
from datetime import timedelta
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from batch_collection.errors import LogError, SourceError
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.paths import new_token
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.graph import CollectTasks, GraphOptions
from pipeline.planning.planner import NOTHING_ASKED
from pipeline.planning.pull_survey import PullSurvey
from pipeline.planning.topic import open_collection
from pipeline.running.coordinator import Coordinator, Flight
from pipeline.running.local import LocalDrive, run_steps
from pipeline.running.plan_cycle import line_of
from pipeline.showing.board import said
from tests.builders import at
from tests.collecting import entries_of, json_of, rows_of
from tests.leased_stream import BEGIN, MemorySource
from tests.pulls_in_memory import INTERVAL, PINS, SECOND, Pulls, lost, rules_of
from transforms.committing.settle import settle
from transforms.decoding.rules import RowRules
from transforms.elements.failure import SCHEMA_CHANGE, Failure
from transforms.elements.observers import tell
from transforms.elements.plan import ACKNOWLEDGED
from transforms.process.events import Away, Back
from transforms.process.process import current, new_process
from transforms.read_pulls import ReadPulls
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.held import Bounds
from transforms.sources.pubsub.releasing import releasing_of
from transforms.sources.pubsub.settings import SubscriptionReader
from transforms.sources.pubsub.subscription import Subscription
from transforms.writing.layout import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from pipeline.running.coordinator import Look
    from tests.services.pubsub import PubSubServer
    from transforms.elements.plan import Task
    from transforms.process.events import Event
    from transforms.sources.contract import Terms


@pytest.fixture
def pulls(tmp_path: Path) -> Pulls:
    """Give a collector of an empty stream."""
    return Pulls(tmp_path)


def assert_all(pulls: Pulls, count: int) -> None:
    """See that each message is one row, is acknowledged, and that the audit finds nothing."""
    assert pulls.ids() == list(range(count))
    found = audit(LocalStorage(str(pulls.path)))
    assert found.findings == ()
    assert found.counts.has_ids
    assert found.counts.positions_checked
    assert len(pulls.stream.acknowledged) == count


def test_once_collects_what_waits_and_ends(pulls: Pulls) -> None:
    """In one cycle, whose rows wait if their window is open; a second run goes on.

    Behind it the log hears what was acknowledged, or it would keep ids as long as messages may come
    again.
    """
    pulls.publish(*range(5))
    pulls.once()
    causes = [entry.cause for entry in entries_of(pulls.path)]
    assert causes == ["start", "interval", "acknowledged"]
    assert [file.acknowledged for file in entries_of(pulls.path)[-1].ids] == [True]
    pulls.publish(*range(5, 8))
    pulls.now = at("10:30:11")
    pulls.once(flush=True)
    assert_all(pulls, 8)
    newest = entries_of(pulls.path)[-1]
    assert (newest.ends, newest.boundary, newest.carry) == ({0: 8}, at("10:30:10"), ())
    assert [pane.timing for entry in entries_of(pulls.path) for pane in entry.panes] == ["on_time"]


def test_once_waits_until_nothing_comes_where_all_is_older_than_its_start(pulls: Pulls) -> None:
    """Messages may come at any time; some of them are bounded, and taken by several cycles."""
    pulls.bounds = Bounds(messages=10)
    pulls.__post_init__()
    pulls.publish(*range(25))
    pulls.now = at("10:31:00")
    pulls.once()
    assert_all(pulls, 25)
    causes = [entry.cause for entry in entries_of(pulls.path)]
    assert causes.count("backlog") >= 2
    assert "interval" in causes
    newest = entries_of(pulls.path)[-1]
    assert newest.boundary == at("10:30:50")
    assert all(file.acknowledged for file in newest.ids)


def test_what_was_committed_but_not_acknowledged_is_known_when_it_comes_again(
    pulls: Pulls,
) -> None:
    """A crash between both, or answers that are lost: no row is made twice."""
    collect_unheard(pulls)
    assert not pulls.stream.acknowledged
    (named,) = entries_of(pulls.path)[-1].ids
    assert (named.ids, named.acknowledged) == (5, False)
    pulls.stream.clock.seconds += 500
    pulls.publish(*range(5, 8))
    pulls.now = at("10:30:11")
    pulls.once(flush=True)
    assert_all(pulls, 8)
    assert sum(entry.repeated for entry in entries_of(pulls.path)) == 5


def test_a_cycle_that_brings_only_what_came_before_says_so(pulls: Pulls) -> None:
    """What came again is counted, and acknowledged at last."""
    collect_unheard(pulls)
    pulls.stream.clock.seconds += 500
    pulls.once()
    assert_all(pulls, 5)
    newest = entries_of(pulls.path)[-1]
    assert (newest.repeated, newest.ends) == (5, {0: 5})
    found = status(LocalStorage(str(pulls.path))).ids
    assert found is not None
    assert (found.kept, found.repeated) == (5, 5)


def collect_unheard(pulls: Pulls) -> None:
    """Collect five messages, of which no acknowledgement is answered."""
    pulls.publish(*range(5))
    pulls.once_unheard()


def test_a_cycle_planned_again_takes_the_messages_again(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At once, without another delivery: they are held until their entry is there."""
    pulls.publish(*range(5))
    failures = iter([Failure(SCHEMA_CHANGE, "other types", {"id": "int64"})])

    def refused(*arguments: Any) -> Any:
        return next(failures, None) or settle(*arguments)

    monkeypatch.setattr("transforms.committing.commit.settle", refused)
    pulls.once(flush=True)
    assert next(failures, None) is None
    assert_all(pulls, 5)
    assert pulls.stream.deliveries == 5


def test_what_a_plan_has_left_waits_when_the_next_one_is_made(pulls: Pulls) -> None:
    """Whether or not one is due: nobody works on a plan then."""
    pulls.publish(*range(3))
    with pulls.process():
        topic = pulls.open()
        topic.plan(NOTHING_ASKED)
        pulling = pulls.reader.pulling("stream", print)
        while pulling.keeper.waiting().messages < 3:
            time.sleep(0.01)
        releasing_of(pulling, "stream", topic.storage).takes("broken", 1)
        assert pulling.keeper.take("broken", 10, 10**9).num_rows == 3
        topic.plan(NOTHING_ASKED)
        assert topic.survey.lag == 3


def test_what_it_is_is_asked_once_at_the_start_and_seldom_later(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at a subscription is a request of its own, of which a project has few a minute."""
    asked, ask = [], MemorySource.terms

    def terms(source: MemorySource) -> Terms:
        asked.append(pulls.now)
        return ask(source)

    monkeypatch.setattr(MemorySource, "terms", terms)
    with pulls.process():
        topic = pulls.open()
        for seconds in (0, 1, 301):
            pulls.now += seconds * SECOND
            topic.plan(NOTHING_ASKED)
    assert asked == [BEGIN - INTERVAL, BEGIN - INTERVAL + 302 * SECOND]


def test_once_of_an_empty_subscription_ends(pulls: Pulls) -> None:
    """It closes what is due, of which nothing is."""
    pulls.once()
    assert [entry.cause for entry in entries_of(pulls.path)] == ["start", "interval"]


def test_a_cycle_without_messages_tells_what_was_acknowledged(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which was not known when the last one with messages was committed."""
    monkeypatch.setattr(PullSurvey, "plan_last", lambda *_: None)
    pulls.publish(*range(5))
    pulls.now = at("10:30:11")
    with pulls.process():
        topic = pulls.open()
        for is_acknowledged in (False, True):
            LocalDrive([topic], pulls.steps, once=True, clock=lambda: pulls.now).run()
            assert [file.acknowledged for file in topic.newest.ids] == [is_acknowledged]
            assert releasing_of(
                pulls.reader.pulling("stream", print), "stream", topic.storage
            ).answered()
            pulls.now += INTERVAL
    assert_all(pulls, 5)


def test_nothing_is_closed_while_the_source_is_away(pulls: Pulls) -> None:
    """What was published then would be late; it is said once, and again when it is back."""
    pulls.publish(*range(3))
    with pulls.process():
        topic = pulls.open()
        pulling = pulls.reader.pulling("stream", pulls.recorder.notes.append)
        while not topic.survey.is_over:
            topic.plan(NOTHING_ASKED)
            time.sleep(0.01)
        pulls.reader.source.away = True
        while not pulling.arrivals.is_away():
            time.sleep(0.01)
        pulls.now = at("10:31:00")
        assert topic.plan(NOTHING_ASKED) is None
        assert not topic.survey.is_over
        pulls.reader.source.away = False
        LocalDrive([topic], pulls.steps, once=True, clock=lambda: pulls.now).run()
    assert_all(pulls, 3)
    assert "cannot pull: source=stream is away; trying again" in pulls.recorder.notes
    assert "source=stream answers again" in pulls.recorder.notes


@pytest.mark.parametrize("where", ["here", "engine"])
def test_what_is_in_trouble_is_called_a_subscription(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Where it is said that it is, and where it is over."""
    errors, plan = [SourceError("no answer")], PullSurvey.plan

    def plan_or_fail(survey: PullSurvey, *arguments: Any) -> Any:
        if errors:
            raise errors.pop()
        return plan(survey, *arguments)

    monkeypatch.setattr(PullSurvey, "plan", plan_or_fail)
    told: list[Event] = []
    with pulls.process():
        current().observers.append(told.append)
        if where == "here":
            monkeypatch.setattr("pipeline.running.local.pause_after", lambda _: SECOND / 100)
            LocalDrive([pulls.open()], pulls.steps, once=True).run()
        else:
            job, flight = pulls.job(), Flight("job")
            for _ in range(2):
                _, flight = look(pulls, job, flight)
    troubles = [event for event in told if isinstance(event, Away | Back)]
    assert [type(event) for event in troubles] == [Away, Back]
    assert {event.stream for event in troubles} == {"subscription"}
    assert "subscription=stream" in (said(troubles[1]) or "")
    assert "subscription=stream" in (line_of(troubles[1]) or "")


def test_another_subscription_is_refused(pulls: Pulls, monkeypatch: pytest.MonkeyPatch) -> None:
    """As is what is away when it is to be begun."""
    pulls.publish(1)
    pulls.once()
    monkeypatch.setattr(MemorySource, "name", "other")
    with pytest.raises(
        LogError, match="holds subscription=stream, not other; use another --output"
    ):
        pulls.once()
    pulls.reader.source.away = True
    with pytest.raises(SourceError, match="source=other is away"):
        pulls.once()


def test_a_message_is_durable_within_a_minute_whatever_the_interval(pulls: Pulls) -> None:
    """Its row waits for its window, which is open for long."""
    pulls.interval = timedelta(hours=1)

    def arrive() -> None:
        time.sleep(0.1)  # the keeper's clock goes faster
        if len(entries_of(pulls.path)) == 2 and not pulls.stream.left:
            pulls.publish(0)

    pulls.run(30, arrive)
    assert_all(pulls, 1)
    causes = [entry.cause for entry in entries_of(pulls.path)]
    assert causes == ["start", "interval", "held"]
    assert entries_of(pulls.path)[-1].boundary == at("10:00:00")


def test_windows_close_by_the_clock(pulls: Pulls) -> None:
    """A cycle an interval, whether messages came or none."""
    numbers = iter(range(100))

    def arrive() -> None:
        if pulls.now < at("10:30:40") and pulls.now.second % 20 < 10:
            pulls.publish(next(numbers))

    pulls.run(52, arrive)
    count = next(numbers)
    entries = entries_of(pulls.path)
    boundaries = [entry.boundary for entry in entries if entry.boundary is not None]
    assert boundaries == sorted(set(boundaries))
    assert boundaries[-1] == at("10:30:40")
    assert len(entries) <= 9
    assert_all(pulls, count)


def look(pulls: Pulls, job: Coordinator, flight: Flight) -> tuple[Look, Flight]:
    """Look, and run what is to be run."""
    found = job.look(flight)
    for event in found.events:
        tell(event)
    if found.tasks:
        run_steps(found.tasks, pulls.steps)
    return found, found.flight


def test_an_engine_that_gets_nothing_writes_nothing_between_boundaries(pulls: Pulls) -> None:
    """Its plans end with a note, and the next one comes a minute later, or with a boundary."""
    pulls.interval = timedelta(hours=1)
    with pulls.process():
        job, flight = pulls.job(), Flight("job")
        for _ in range(4):
            found, flight = look(pulls, job, flight)
        closed = len(entries_of(pulls.path))
        planned = 0
        for _ in range(400):
            pulls.now += SECOND
            found, flight = look(pulls, job, flight)
            assert found.error is None
            planned += len(found.tasks)
        assert len(entries_of(pulls.path)) == closed
        assert 6 <= planned <= 7
        assert flight.tries == 0
        pulls.publish(0, 1)
        for _ in range(61):
            pulls.now += SECOND
            found, flight = look(pulls, job, flight)
        assert len(entries_of(pulls.path)) == closed + 1
    assert_all(pulls, 2)


def test_once_on_an_engine_ends_when_a_pull_was_not_cut_short(pulls: Pulls) -> None:
    """With one cycle, or none where nothing is."""
    pulls.publish(*range(7))
    with pulls.process():
        job, flight = pulls.job(once=True), Flight("job")
        looks = 0
        while True:
            found, flight = look(pulls, job, flight)
            looks += 1
            assert looks < 20
            if found.done:
                break
    assert_all(pulls, 7)
    assert [file.acknowledged for file in entries_of(pulls.path)[-1].ids] == [True]


def end_job(pulls: Pulls, work: Callable[[Sequence[Task]], None]) -> None:
    """Let a job of ``--once`` end, whose last tasks come to this; each look takes a second."""
    with pulls.process():
        job, flight = pulls.job(once=True), Flight("job")
        for _ in range(400):
            found = job.look(flight)
            flight = found.flight
            assert found.error is None
            if found.done:
                return
            if found.tasks:
                is_last = found.tasks[0].plan.cause == ACKNOWLEDGED
                (work if is_last else partial(run_steps, steps=pulls.steps))(found.tasks)
            pulls.now += SECOND
    pytest.fail("it goes on")


def elsewhere(tasks: Sequence[Task]) -> Sequence[Task]:
    """Let a worker have tasks that has pulled nothing."""
    pulls = [(task, task.pull) for task in tasks]
    return [replace(task, pull=pull and pull._replace(stream="other")) for task, pull in pulls]


@pytest.mark.parametrize("how", ["well", "twice", "elsewhere", "never"])
def test_a_job_of_once_ends_whoever_works_its_last_plan_off(pulls: Pulls, how: str) -> None:
    """Of ids that nobody knows to be acknowledged the log goes on to know."""
    pulls.publish(*range(7))
    attempts: dict[str, Callable[[Sequence[Task]], list[Sequence[Task]]]] = {
        "well": lambda tasks: [tasks],
        "twice": lambda tasks: [tasks, tasks],
        "elsewhere": lambda tasks: [elsewhere(tasks)],
        "never": lambda _: [],
    }

    def work(tasks: Sequence[Task]) -> None:
        for each in attempts[how](tasks):
            run_steps(each, pulls.steps)

    end_job(pulls, work)
    assert_all(pulls, 7)
    is_heard = how in {"well", "twice"}
    causes = [entry.cause for entry in entries_of(pulls.path)]
    assert causes.count(ACKNOWLEDGED) == int(is_heard)
    assert [file.acknowledged for file in entries_of(pulls.path)[-1].ids] == [is_heard]


heard = MemorySource.acknowledge
ANSWERS: dict[str, Callable[[MemorySource, Sequence[str]], list[str]]] = {
    "heard": heard,
    "lost": lambda source, leases: lost(source, heard(source, leases)),
    "not heard": lambda _, __: [],
    "refused": lambda _, leases: [*leases],
    "away": lost,
}


@given(
    st.lists(st.sampled_from(sorted(ANSWERS)), min_size=1, max_size=3),
    st.sampled_from(["here", "engine"]),
)
@example(["away"], "here").via("none is ever answered")
@example(["away"], "engine").via("none is ever answered")
@settings(deadline=None, max_examples=3)
def test_once_ends_behind_at_most_one_cycle_of_acknowledgements(
    answers: list[str], where: str
) -> None:
    """Whatever they come to; each message stays one row, also if it comes again then."""
    coming = iter(answers)

    def acknowledge(source: MemorySource, leases: Sequence[str]) -> list[str]:
        return ANSWERS[next(coming, answers[-1])](source, leases)

    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        pulls = Pulls(Path(folder), patience=0.2)
        pulls.publish(*range(25))
        patch.setattr(MemorySource, "acknowledge", acknowledge)
        patch.setattr("transforms.sources.pubsub.keeper._TICK_SECONDS", 0.02)
        patch.setattr("transforms.sources.pubsub.keeper._LONGEST_PAUSE", 0.1)
        if where == "here":
            pulls.once()
        else:
            end_job(pulls, lambda tasks: run_steps(tasks, pulls.steps))
        causes = [entry.cause for entry in entries_of(pulls.path)]
        assert ACKNOWLEDGED not in causes[:-1]
        if answers == ["away"]:
            assert ACKNOWLEDGED not in causes
            assert not any(file.acknowledged for file in entries_of(pulls.path)[-1].ids)
        patch.setattr(MemorySource, "acknowledge", heard)
        pulls.stream.clock.seconds += 500
        pulls.once(flush=True)
        assert_all(pulls, 25)


def test_ids_kept_from_cron_are_those_of_the_horizon(
    pulls: Pulls, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of ten runs with messages between them, each an interval long for the log."""
    later = SimpleNamespace(now=lambda _: pulls.now)
    monkeypatch.setattr("transforms.committing.commit.datetime", later)
    pulls.remembering = Remembering(horizon=3 * INTERVAL)
    kept = []
    for run in range(10):
        pulls.publish(*range(5 * run, 5 * run + 5))
        pulls.now = BEGIN + run * 6 * INTERVAL
        pulls.once()
        newest = entries_of(pulls.path)[-1]
        assert all(file.acknowledged for file in newest.ids)
        kept.append(sum(file.ids for file in newest.ids))
    assert kept == [5, 10, *[15] * 8]
    pulls.once(flush=True)
    assert_all(pulls, 50)


@pytest.mark.slow
@pytest.mark.parametrize("server", ["emulator", "pstest"])
def test_a_real_server_is_collected_and_gone_on_with(
    server: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """What was acknowledged does not come again; ``--once`` ends when nothing more comes."""
    pubsub: PubSubServer = request.getfixturevalue(server)
    path = pubsub.create(f"drive-{new_token()}")
    reader = SubscriptionReader(pubsub.endpoint)
    steps = CollectTasks(ReadPulls(reader), GraphOptions(RowRules(), INTERVAL, 1_000, Output()))
    collection = tmp_path / path.rpartition("/")[2]

    def collect() -> None:
        with new_process():
            source = Subscription(path, pubsub.endpoint)
            rules = rules_of(collection, source.name)
            survey = PullSurvey(source, reader, is_here=True)
            topic = open_collection(survey, PINS, rules)
            assert topic.survey.notes(topic.newest, utc_now())[-1].endswith("is gone")
            began = time.monotonic()
            LocalDrive([topic], steps, once=True, flush=True).run()
            assert 10 <= time.monotonic() - began < 30
            source.close()

    pubsub.publish(path, [json_of({"id": number}) for number in range(5_000)])
    collect()
    pubsub.publish(path, [json_of({"id": number}) for number in range(5_000, 5_010)])
    collect()
    assert sorted(rows_of(collection)["id"].to_pylist()) == list(range(5_010))
    assert audit(LocalStorage(str(collection))).findings == ()
    newest = entries_of(collection)[-1]
    assert (newest.source.kind, newest.source.topic) == ("pubsub", path)
    assert newest.ends == {0: 5_010}
