"""``batch-collection collect``: the main job."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from batch_collection.windows import utc_now
from pipeline.options.collect import CollectOptions, check, configure
from pipeline.options.engine import pass_on
from pipeline.running.outcome import exit_code
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.display import open_display
from pipeline.showing.streams import forgiven_output

if TYPE_CHECKING:
    from pipeline.planning.topic import TopicCollection
    from pipeline.running.local import LocalDrive
    from pipeline.showing.display import Display

__all__ = ["NEEDS", "check", "configure", "pass_on", "run"]


NEEDS = "pipeline.running.local"


def run(options: CollectOptions, display: Display | None = None) -> int:
    """Collect until stopped, or what there is; return the exit code.

    Nothing of it depends on whether anybody reads what is printed.

    Raises:
        CollectionError: it can't begin.
    """
    with forgiven_output():
        return _run(options, display)


def _run(options: CollectOptions, display: Display | None) -> int:
    # flags and their mistakes need none of these: Beam, and Kafka's client
    if options.engine is not None:
        from pipeline.running.engine import run_on_engine  # noqa: PLC0415

        return run_on_engine(options, options.engine)
    from pipeline.planning.opening import collect_tasks, open_topics  # noqa: PLC0415
    from pipeline.running.local import LocalDrive  # noqa: PLC0415

    connection = options.source.connect()
    try:
        topics = open_topics(options, connection)
        with display or open_display(utc_now) as shown:
            drive = LocalDrive(
                topics, collect_tasks(options), shown, once=options.once, flush=options.flush
            )
            return _collect(drive)
    finally:
        connection.close()


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
        if topic.survey.is_beyond_until:
            drive.display.note(_beyond_until(topic))
    return 0


def _beyond_until(topic: TopicCollection) -> str:
    return (
        f"{topic.name} was read beyond --until before, or begins behind it (--start): nothing "
        "before it is left to collect there"
    )


def _where(topic: TopicCollection) -> str:
    cycle, count = topic.newest.cycle, len(topic.survey.source.partitions)
    where = "begins" if topic.newest.cause == "start" else f"goes on after cycle {cycle} of"
    partitions = f"{count} partition" + "s" * (count > 1)
    return f"{topic.name} ({partitions}) {where} {topic.storage.uri}"
