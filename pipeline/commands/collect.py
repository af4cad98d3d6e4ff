"""``batch-collection collect``: the main job."""

from __future__ import annotations

import sys
from contextlib import ExitStack, closing, contextmanager
from typing import TYPE_CHECKING, cast

from batch_collection.errors import CollectionError
from batch_collection.storage.opening import open_storage
from batch_collection.windows import utc_now
from pipeline.options.collect import CollectOptions, check, configure
from pipeline.options.engine import pass_on
from pipeline.running.announcer import announced_beside
from pipeline.running.outcome import OTHER_COLLECTOR, exit_code
from pipeline.running.overlap import held
from pipeline.running.signals import stopped_by_signals
from pipeline.running.workers import workers_of
from pipeline.showing.display import open_display
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
from pipeline.showing.streams import forgiven_output
from pipeline.showing.wording import stream_name
from transforms.process.events import Note
from transforms.process.process import new_process
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from pipeline.planning.topic import TopicCollection
    from pipeline.running.local import LocalDrive
    from transforms.process.events import Observer
    from transforms.process.process import Process
    from transforms.sources.contract import Connection
    from transforms.sources.kafka.topic import KafkaCluster
    from transforms.sources.pubsub.settings import Subscriptions

__all__ = ["NEEDS", "check", "configure", "pass_on", "run", "starting"]


NEEDS = "pipeline.running.local"


def starting(options: CollectOptions) -> str:
    """Say what begins to be collected, before Beam is imported, here and by workers at once."""
    if options.workers > 1 and options.engine is None:
        workers_of(options.workers).start()
    names = options.source.collections
    what = names[0] if len(names) == 1 else f"{len(names)} collections"
    if isinstance(options.source, KafkaSettings) and options.source.pattern is not None:
        what = f"topics that match {options.source.pattern}"
    return f"starting: {what} of {options.source.where}, into {options.output}"


def run(options: CollectOptions) -> int:
    """Collect until stopped, or what there is; return the exit code.

    Nothing of it depends on whether anybody reads what is printed.

    Raises:
        CollectionError: it can't begin.
    """
    with forgiven_output():
        return _run(options)


def _run(options: CollectOptions) -> int:
    for note in options.source.prepare():
        say(note, to=sys.stderr)
    # flags and their mistakes need none of these: Beam, and Kafka's client
    if options.engine is not None:
        from pipeline.running.engine import run_on_engine  # noqa: PLC0415

        return run_on_engine(options, options.engine)
    from pipeline.planning.opening import collect_tasks, open_topics  # noqa: PLC0415
    from pipeline.running.local import LocalDrive, put_together  # noqa: PLC0415
    from transforms.elements.observers import tell  # noqa: PLC0415

    places = _places(options)
    workers = workers_of(options.workers)
    with ExitStack() as run:
        run.callback(workers.close)
        busy = run.enter_context(held(places))
        if busy and options.skips_if_running:
            say(f"skipped: another collector holds {busy[0]}", to=sys.stderr)
            return OTHER_COLLECTOR
        process = run.enter_context(new_process())
        watched = run.enter_context(_watched(options, process.observers))
        steps = collect_tasks(options, is_here=True)
        if options.workers == 1:
            put_together(steps)  # meanwhile source and storage are waited for
        connection = run.enter_context(closing(options.source.connect()))
        with said_meanwhile(f"waiting for {options.source.where} ..."):
            topics = open_topics(options, connection)
        watched(topics)
        run.enter_context(held(places))  # those that are there only now
        names = [stream_name(topic.newest.source) for topic in topics]
        try:
            with open_display(utc_now, names, verbose=options.verbose) as display:
                process.observers.append(display)
                drive = LocalDrive(topics, steps, once=options.once, flush=options.flush)
                if options.workers > 1:
                    process.observers.append(workers.heed)
                    drive.run_steps = workers.run_steps
                return _collect(drive, process, options, connection, watched)
        except CollectionError as error:  # told last, below what the display sums up
            tell(Note(f"error: {error}"))
            return exit_code(error)


@contextmanager
def _watched(
    options: CollectOptions, observers: list[Observer]
) -> Iterator[Callable[[Sequence[TopicCollection]], None]]:
    """Serve how it goes, if that is asked for; yield what is to be told of the topics once."""
    if options.http is None:
        yield lambda _: None
        return
    from pipeline.serving.run import Watched  # noqa: PLC0415 - imports what exposes metrics
    from pipeline.serving.server import serving  # noqa: PLC0415 - as above

    watched = Watched(options.interval)
    observers.append(watched)
    with serving(*options.http, watched.served) as url:
        say(f"serving how it goes at {url}", to=sys.stderr)
        yield watched.begin


def _places(options: CollectOptions) -> list[Path]:
    """Return the directories of this machine that collections lie in; of a pattern all of them."""
    storage = open_storage(options.output)
    found = [storage.local_path(name) for name in options.source.collections or ("",)]
    return [path for path in found if path is not None]


def _collect(
    drive: LocalDrive,
    process: Process,
    options: CollectOptions,
    connection: Connection | Subscriptions,
    watched: Callable[[Sequence[TopicCollection]], None],
) -> int:
    from pipeline.planning.joining import Joining, pattern_of  # noqa: PLC0415 - imports Beam
    from transforms.elements.observers import tell  # noqa: PLC0415 - imports Beam

    for topic in drive.topics:
        _said_of(topic)
    ends = options.once or options.until is not None
    announced = announced_beside(
        options.announce,
        [topic.storage for topic in drive.topics],
        lambda line: tell(Note(line)),
        process.stop,
        ends=ends,
    )
    with stopped_by_signals(process.stop.set), announced as announcing, ExitStack() as holds:
        joined: list[TopicCollection] = []

        def began(topic: TopicCollection) -> None:
            _said_of(topic)
            path = topic.storage.local_path("")
            holds.enter_context(held([] if path is None else [path]))
            announcing.add(topic.storage)
            joined.append(topic)
            watched(joined)

        pattern = pattern_of(options)
        if pattern is not None:
            cluster = cast("KafkaCluster", connection)
            drive.joining = Joining(options, cluster, pattern, began, ends)
        drive.run()
    if process.stop.is_set():
        tell(Note("stopped; the next run goes on from here"))
    for topic in drive.topics:
        if topic.survey.is_beyond_until:
            tell(Note(_beyond_until(topic)))
    return 1 if announcing.failures else 0


def _said_of(topic: TopicCollection) -> None:
    """Say where a topic is taken up, and what should be known of it."""
    from transforms.elements.observers import tell  # noqa: PLC0415 - imports Beam

    tell(Note(_where(topic)))
    if topic.warning:
        tell(Note(f"warning: {topic.warning}"))
    for note in topic.survey.notes(topic.newest, utc_now()):
        tell(Note(note))


def _beyond_until(topic: TopicCollection) -> str:
    return (
        f"{topic.name} was read beyond --until before, or begins behind it (--start): nothing "
        "before it is left to collect there"
    )


def _where(topic: TopicCollection) -> str:
    cycle = topic.newest.cycle
    where = "begins" if topic.newest.cause == "start" else f"goes on after cycle {cycle} of"
    return f"{topic.name} ({topic.survey.size}) {where} {topic.storage.uri}"
