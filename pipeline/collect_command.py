"""``batch-collection collect``: the main job."""

from __future__ import annotations

import threading
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError, RowTimeError
from batch_collection.names import new_token
from batch_collection.parallel import AT_ONCE, ahead
from pipeline.broker import Broker
from pipeline.display import open_display
from pipeline.engine_options import pass_on
from pipeline.graph import GraphOptions
from pipeline.local import LocalDrive, utc_now
from pipeline.options import CollectOptions, check, configure
from pipeline.planner import PlanRules
from pipeline.signals import stopped_by_signals
from pipeline.streams import forgiven_output
from pipeline.topic import Pins, TopicCollection

if TYPE_CHECKING:
    from pipeline.broker import TopicInfo
    from pipeline.display import Display

__all__ = [
    "check",
    "configure",
    "exit_code",
    "graph_options",
    "open_topic",
    "open_topics",
    "pass_on",
    "run",
]


def run(options: CollectOptions, display: Display | None = None) -> int:
    """Collect until stopped, or what there is; return the exit code.

    Nothing of it depends on whether anybody reads what is printed.

    Raises:
        CollectionError: it can't begin.
    """
    with forgiven_output():
        return _run(options, display)


def _run(options: CollectOptions, display: Display | None) -> int:
    if options.engine is not None:
        from pipeline.engine import run_on_engine  # noqa: PLC0415 - it imports this module

        return run_on_engine(options, options.engine)
    broker = Broker(options.consumer)
    try:
        topics = open_topics(options, broker)
        with display or open_display(utc_now) as shown:
            drive = LocalDrive(
                topics, graph_options(options), shown, once=options.once, flush=options.flush
            )
            return _collect(drive)
    finally:
        broker.close()


def _collect(drive: LocalDrive) -> int:
    for topic in drive.topics:
        drive.display.note(_where(topic))
        if topic.warning:
            drive.display.note(f"warning: {topic.warning}")
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        drive.stop()

    try:
        with stopped_by_signals(stop):
            drive.run()
    except CollectionError as error:
        drive.display.note(f"error: {error}")
        return exit_code(error)
    if stopped.is_set():
        drive.display.note("stopped; the next run goes on from here")
    for topic in drive.topics:
        if topic.is_beyond_until:
            drive.display.note(_beyond_until(topic))
    return 0


def _beyond_until(topic: TopicCollection) -> str:
    return (
        f"{topic.info.name} was read beyond --until before, or begins behind it (--start): nothing "
        "before it is left to collect there"
    )


def exit_code(error: CollectionError) -> int:
    """Return 2 for a mistake in the flags that only messages can show, 1 for all else."""
    return 2 if isinstance(error, RowTimeError) else 1


def _where(topic: TopicCollection) -> str:
    cycle, count = topic.newest.cycle, len(topic.info.partitions)
    where = "begins" if topic.newest.cause == "start" else f"goes on after cycle {cycle} of"
    partitions = f"{count} partition" + "s" * (count > 1)
    return f"{topic.info.name} ({partitions}) {where} {topic.storage.uri}"


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
