"""Open the topics that flags name, each with its collection."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from batch_collection.parallel import AT_ONCE, ahead
from batch_collection.paths import new_token
from batch_collection.windows import utc_now
from pipeline.graph import GraphOptions
from pipeline.planning.planner import PlanRules
from pipeline.planning.topic import Pins, TopicCollection

if TYPE_CHECKING:
    from pipeline.options.collect import CollectOptions
    from transforms.sources.kafka.broker import Broker, TopicInfo

__all__ = ["graph_options", "open_topic", "open_topics"]


def open_topics(options: CollectOptions, broker: Broker) -> list[TopicCollection]:
    """Begin, or take up, each topic's collection, some at once, as a storage is waited for."""
    infos = broker.topics(options.topics)
    opened = partial(open_topic, options, broker, run_id=new_token())
    return list(ahead(opened, infos, min(AT_ONCE, len(infos) - 1)))


def open_topic(
    options: CollectOptions, broker: Broker, info: TopicInfo, run_id: str
) -> TopicCollection:
    """Begin, or take up, one topic's collection."""
    pins = Pins(
        interval=options.interval,
        row_time=options.rules.row_time,
        start=options.start,
        is_start_given=options.is_start_given,
        group_id=options.group_id,
        schema=options.schema,
        reserved=options.rules.reserved,
    )
    rules = _plan_rules(options, info.name, run_id)
    return TopicCollection(broker, info, pins, rules, utc_now)


def graph_options(options: CollectOptions) -> GraphOptions:
    """Return what the graph's steps need to know."""
    return GraphOptions(
        consumer=options.consumer,
        skip_lost=options.skip_lost,
        rules=options.rules,
        interval=options.interval,
        batch_size=options.batch_size,
        output=options.files,
    )


def _plan_rules(options: CollectOptions, topic: str, run_id: str) -> PlanRules:
    return PlanRules(
        collection=f"{options.output}/{topic}",
        topic=topic,
        run=run_id,
        grace=options.grace,
        batch_size=options.batch_size,
        max_messages=options.max_messages,
        max_ahead=options.max_ahead,
        shards=options.shards,
        skip_lost=options.skip_lost,
        until=options.until,
        max_dead_letters=options.max_dead_letters,
    )
