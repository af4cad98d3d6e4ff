"""Open the collections of the sources that flags name, and wire the graph for them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, cast

from batch_collection.parallel import AT_ONCE, ahead
from batch_collection.paths import new_token
from pipeline.graph import CollectTasks, GraphOptions
from pipeline.planning.pins import Pins
from pipeline.planning.planner import PlanRules
from pipeline.planning.pull_survey import PullSurvey
from pipeline.planning.survey import Survey
from pipeline.planning.topic import TopicCollection, open_collection
from transforms.read_pulls import ReadPulls
from transforms.read_slices import ReadSlices
from transforms.sources.pubsub.settings import SubscriptionSettings

if TYPE_CHECKING:
    from pipeline.options.collect import CollectOptions
    from transforms.sources.contract import AddressedSource, Connection, LeasedSource
    from transforms.sources.pubsub.settings import Subscriptions

__all__ = [
    "collect_tasks",
    "open_topic",
    "open_topics",
    "pins_of",
    "plan_rules",
    "survey_of",
]


def open_topics(
    options: CollectOptions, connection: Connection | Subscriptions
) -> list[TopicCollection]:
    """Begin, or take up, each source's collection, some at once, as a storage is waited for."""
    sources = connection.sources(options.source.names)
    opened = partial(open_topic, options, run_id=new_token(), is_here=True)
    return list(ahead(opened, sources, min(AT_ONCE, max(len(sources) - 1, 0))))


def open_topic(
    options: CollectOptions,
    source: AddressedSource | LeasedSource,
    run_id: str,
    *,
    is_here: bool = False,
) -> TopicCollection:
    """Begin, or take up, one source's collection; ``is_here``: this process runs its tasks, too."""
    survey = survey_of(options, source, is_here=is_here)
    return open_collection(survey, pins_of(options), plan_rules(options, source.name, run_id))


def pins_of(options: CollectOptions) -> Pins:
    """Return what a collection is begun with and keeps."""
    return Pins(
        interval=options.interval,
        row_time=options.rules.row_time,
        start=options.start,
        is_start_given=options.is_start_given,
        schema=options.schema,
        reserved=options.rules.reserved,
    )


def survey_of(
    options: CollectOptions, source: AddressedSource | LeasedSource, *, is_here: bool
) -> Survey | PullSurvey:
    """Return what a source is asked by; nothing is asked yet."""
    if isinstance(options.source, SubscriptionSettings):
        return PullSurvey(cast("LeasedSource", source), options.source.reader(), is_here)
    return Survey(cast("AddressedSource", source), options.until)


def _reading(options: CollectOptions, *, is_here: bool) -> ReadPulls | ReadSlices:
    if isinstance(options.source, SubscriptionSettings):
        return ReadPulls(options.source.reader())
    return ReadSlices(options.source.reader(), options.skip_lost, fresh=is_here)


def collect_tasks(options: CollectOptions, *, is_here: bool = False) -> CollectTasks:
    """Return the graph, with what its steps need to know; ``is_here``: as ``open_topic``."""
    steps = GraphOptions(
        rules=options.rules,
        interval=options.interval,
        batch_size=options.batch_size,
        output=options.files,
    )
    return CollectTasks(_reading(options, is_here=is_here), steps)


def plan_rules(options: CollectOptions, name: str, run_id: str) -> PlanRules:
    """Return what a user has said about when and how much to collect of a source."""
    return PlanRules(
        collection=f"{options.output}/{name}",
        topic=name,
        run=run_id,
        grace=options.grace,
        batch_size=options.batch_size,
        max_messages=options.max_messages,
        max_ahead=options.max_ahead,
        shards=options.shards,
        skip_lost=options.skip_lost,
        until=options.until,
        max_dead_letters=options.max_dead_letters,
        remembering=options.source.remembering,
        target_bytes=options.target_bytes,
        max_bytes=options.max_bytes,
    )
