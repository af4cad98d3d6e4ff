"""``batch-collection demo``: the whole path, on a broker of its own or an emulator."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import threading
import time
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import CollectionError
from batch_collection.paths import new_token
from pipeline.options.flags import Flags, Parser
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.board import is_cycle, said
from pipeline.showing.columns import wrapped
from pipeline.showing.lines import shown
from pipeline.showing.patience import said_at_once
from pipeline.showing.streams import OutputError
from transforms.process.events import CycleCommitted, Waiting
from transforms.process.process import current, new_process
from transforms.sources.samples import sample_message

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    from rich.console import Console
    from rich.status import Status

    from batch_collection.log.entry import BatchFile, Entry
    from pipeline.options.collect import CollectOptions
    from transforms.process.events import Event
    from transforms.sources.kafka.producer import Delivered

__all__ = ["DemoOptions", "check", "configure", "run"]


TOPIC = "batch-topic"
RECORDS = 10
BATCH_SIZE = 2000
_WIDTH = 96  # of prose, for a terminal of 100
_EVERY_SECONDS = 0.01  # 100 messages a second
_LONGEST = timedelta(minutes=1)  # the embedded broker keeps little, and drops what is older


@dataclass(frozen=True, slots=True)
class DemoOptions:
    """``output`` None: a new temporary directory; ``is_pubsub``: an emulator, not Kafka."""

    interval: timedelta
    windows: int
    output: Path | None
    is_pubsub: bool = False


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags; values stay text until ``check``."""
    parser.add_argument(
        "--interval",
        metavar="DURATION",
        default="5s",
        help="length of a window, 1s to 1m (default: 5s)",
    )
    parser.add_argument(
        "--windows", metavar="N", default="3", help="windows to see close (default: 3)"
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        help=f"where the collection lies: DIR/{TOPIC} (default: a new temporary directory)",
    )
    parser.add_argument(
        "--pubsub",
        action="store_true",
        help="collect from the Pub/Sub emulator of PUBSUB_EMULATOR_HOST, instead of a Kafka of its "
        "own",
    )


def check(args: argparse.Namespace) -> DemoOptions:
    """Turn flags into options.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    flags = Flags(args)
    interval = flags.duration("interval", timedelta(seconds=1))
    flags.check(
        interval <= _LONGEST and not interval % timedelta(seconds=1),
        f"--interval must be whole seconds, 1m at most, got {args.interval!r}",
    )
    flags.check(
        not args.pubsub or os.environ.get("PUBSUB_EMULATOR_HOST"),
        "--pubsub needs an emulator; start one, as with `gcloud beta emulators pubsub start`, and "
        "name it in PUBSUB_EMULATOR_HOST=HOST:PORT",
    )
    options = DemoOptions(interval, flags.number("windows"), _output(flags), is_pubsub=args.pubsub)
    flags.done()
    return options


def _output(flags: Flags) -> Path | None:
    """Return the directory, which can be written and has no collection of another demo in it."""
    output = flags.folder("output", TOPIC)
    flags.check(
        output is None or not os.path.lexists(output / TOPIC / "log"),
        f"--output={flags.args.output} holds {TOPIC} of another broker; name another directory",
    )
    return output


def run(options: DemoOptions) -> int:
    """Produce, collect, and show what came of it; return 0, or 1 if the audit finds something.

    Raises:
        CollectionError: the directory can't be used, say.
    """
    said_at_once("starting: a broker, or an emulator's subscription, and a collector of it")
    from rich.console import Console  # noqa: PLC0415 - not needed for --help

    console = Console(highlight=False, soft_wrap=True, markup=False)
    output = options.output or _temporary_folder()
    try:
        if _collect(options, output, console):
            return _show(options, output / TOPIC, console)
    except KeyboardInterrupt:
        pass
    console.print(shown("", f"stopped; what was collected is in {output / TOPIC}"))
    return 0


def _temporary_folder() -> Path:
    try:
        return Path(tempfile.mkdtemp(prefix="batch-collection-"))
    except OSError as error:
        message = f"cannot make a temporary directory: {error.strerror}; name one with --output"
        raise CollectionError(message) from error


def _collect(options: DemoOptions, output: Path, console: Console) -> bool:
    """Let windows close, then take what is left; return False if a signal came before."""
    stopped = threading.Event()

    def stop() -> None:
        stopped.set()
        current().stop.set()

    stage = _pubsub() if options.is_pubsub else _kafka()
    with stopped_by_signals(stop), stage as (words, feed, where):
        flags = [
            *words,
            f"--interval={options.interval.seconds}s",
            f"--batch_size={BATCH_SIZE}",
            f"--output={output}",
        ]
        with feed:
            _begin(where, flags, console)
            lines = _WindowLines(console, options.windows)
            _drive(flags, lines, stopped)
        if stopped.is_set():
            return False
        lines.enough = lambda: None
        sent = f"{feed.messages:,} messages, {feed.messages * RECORDS:,} rows"
        end = f"stopped producing after {sent}; the same with --once --flush takes the rest"
        console.print(shown("", end))
        _drive([*flags, "--once", "--flush"], lines, stopped)
        lines.print_open()
    return not stopped.is_set()


class _Stage(NamedTuple):
    """Where the demo plays: flags that lead there, what sends to it, and what it is."""

    flags: list[str]
    feed: _Feed
    where: str


@contextmanager
def _kafka() -> Iterator[_Stage]:
    """Run a broker of our own."""
    from transforms.sources.kafka.embedded import EmbeddedBroker  # noqa: PLC0415 - not needed for --help
    from transforms.sources.kafka.producer import SendingClient  # noqa: PLC0415 - as above

    with EmbeddedBroker() as broker:
        broker.create_topic(TOPIC)
        servers = broker.bootstrap_servers
        feed = _Feed()
        client = SendingClient(servers, {}, feed.count)
        feed.send, feed.flush = partial(client.send, TOPIC), client.flush
        flags = [f"--bootstrap_servers={servers}", f"--topics={TOPIC}"]
        yield _Stage(flags, feed, "an embedded broker runs")


@contextmanager
def _pubsub() -> Iterator[_Stage]:
    """Create a subscription in a project of its own, of an emulator."""
    from transforms.sources.pubsub.settings import (  # noqa: PLC0415 - not needed for --help
        SubscriptionSettings,
        require_client,
    )

    require_client()
    from transforms.sources.pubsub.publisher import Publisher  # noqa: PLC0415 - as above

    project = f"projects/demo-{new_token()}"
    topic, path = f"{project}/topics/{TOPIC}", f"{project}/subscriptions/{TOPIC}"
    with closing(Publisher()) as publisher:
        publisher.create(topic)
        SubscriptionSettings((path,), topic=topic).prepare()
        feed = _Feed()

        def send(value: bytes) -> None:
            publisher.publish(topic, [value])
            feed.count()

        feed.send = send
        where = f"the emulator at {os.environ['PUBSUB_EMULATOR_HOST']} is used"
        yield _Stage([f"--input_subscription={path}"], feed, where)


def _begin(where: str, flags: Sequence[str], console: Console) -> None:
    rate = f"{1 / _EVERY_SECONDS:.0f} messages a second"
    sent = f"a JSON array of {RECORDS} {{timestamp, value}}"
    head = (
        f"{where}; a thread sends {rate} to {TOPIC},",
        f"each {sent}. Now collecting, as this would (Ctrl-C ends it):",
        "",
    )
    command = [f"  {_program()} {flags[0]}", *(f"    {flag}" for flag in flags[1:])]
    console.print(shown(*head))
    console.print(shown(*(f"{line} \\" for line in command[:-1]), command[-1]), style="bold")
    console.print(shown("", "time UTC  window                 rows  files  seconds after its end"))


def _drive(flags: Sequence[str], lines: _WindowLines, stopped: threading.Event) -> None:
    """Run the collector, as ``collect`` does, with a display of our own.

    Its windows may be enough before a signal comes, and one may come before it begins.

    Raises:
        OutputError: what the display wrote can't be delivered.
    """
    from pipeline.options.collect import check, configure  # noqa: PLC0415
    from pipeline.planning.opening import collect_tasks, open_topics  # noqa: PLC0415
    from pipeline.running.local import LocalDrive  # noqa: PLC0415 - imports Beam

    parser = Parser()
    configure(parser)
    options: CollectOptions = check(parser.parse_args(list(flags)))
    with new_process() as process, closing(options.source.connect()) as connection:
        if stopped.is_set():
            process.stop.set()
        drive = LocalDrive(
            open_topics(options, connection),
            collect_tasks(options, is_here=True),
            once=options.once,
            flush=options.flush,
        )
        if not options.once:
            lines.enough = process.stop.set
        process.observers.append(lines)
        with lines:
            drive.run()
    if lines.failure is not None:
        raise lines.failure


class _Feed:
    """A thread that sends messages until the end of its ``with`` block; then all are delivered."""

    def __init__(self) -> None:
        self.messages = 0
        self.send: Callable[[bytes], object] = lambda _: None
        self.flush: Callable[[float], object] = lambda _: None
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._send, name="demo-producer", daemon=True)

    def __enter__(self) -> _Feed:  # noqa: PYI034 - Python 3.10 has no Self
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self.flush(_LONGEST.total_seconds())

    def _send(self) -> None:
        random, due = Random(), time.monotonic()  # noqa: S311 - sample values
        while not self._stop.wait(max(due - time.monotonic(), 0)):
            self.send(sample_message(RECORDS, time.time, random))
            due = max(due + _EVERY_SECONDS, time.monotonic() - 1)

    def count(self, _: Delivered | None = None) -> None:
        """Count a message that has arrived."""
        self.messages += 1


@dataclass
class _WindowLines:
    """A collector's display: one line a closed window; ``enough`` is called when all are.

    It is called, too, where a line can't be delivered; ``failure`` says why.
    """

    console: Console
    windows: int
    closed: int = 0
    enough: Callable[[], object] = field(default=lambda: None)
    failure: OutputError | None = None
    _files: dict[datetime, list[BatchFile]] = field(default_factory=dict)
    _interval: timedelta = timedelta(0)
    _moving: Status | None = None

    def __call__(self, event: Event) -> None:
        """Write what comes of a cycle, and notes; show the time to the next one on a terminal."""
        try:
            self._show(event)
        except OutputError as failed:  # observers do not raise
            self.failure = failed
            self.enough()

    def _show(self, event: Event) -> None:
        match event:
            case CycleCommitted() if is_cycle(event):
                self._end(event.entry)
            case Waiting() if self._moving is not None:
                left = max((event.due - datetime.now(timezone.utc)).total_seconds(), 0)
                self._moving.update(f"the next window is collected in {left:.0f} s")
            case _ if (line := said(event)) is not None:
                self.console.print(shown(line))

    def _end(self, entry: Entry) -> None:
        """Write a line for each window that the cycle closed."""
        self._interval = entry.interval
        for pane in entry.panes:
            self._files.setdefault(pane.window_start, []).extend(pane.files)
        for start in sorted(self._files):
            if entry.boundary is not None and start + entry.interval <= entry.boundary:
                late = datetime.now(timezone.utc) - start - entry.interval
                self._line(start, f"{late.total_seconds():.1f}")
                self.closed += 1
        if self.closed >= self.windows:
            self.enough()

    def print_open(self) -> None:
        """Write a line for each window that was written before its end."""
        for start in sorted(self._files):
            self._line(start, "still open")

    def __enter__(self) -> _WindowLines:  # noqa: PYI034 - Python 3.10 has no Self
        """Start the moving line."""
        if self.console.is_terminal:
            self._moving = self.console.status("starting")
            self._moving.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take it away."""
        if self._moving is not None:
            self._moving.stop()
            self._moving = None

    def _line(self, start: datetime, after: str) -> None:
        files = self._files.pop(start)
        now, end = datetime.now(timezone.utc), start + self._interval
        rows = sum(file.rows for file in files)
        window = f"{start:%H:%M:%S}-{end:%H:%M:%S}"
        line = f"{now:%H:%M:%S}  {window}  {rows:>8,}  {len(files):>5}  {after}"
        self.console.print(shown(line))


def _show(options: DemoOptions, root: Path, console: Console) -> int:
    """Show the tree, a query, the reading library, the audit's verdict, and what to do next."""
    from batch_collection.inspection.audit import audit  # noqa: PLC0415 - not needed for --help
    from batch_collection.storage.opening import open_storage  # noqa: PLC0415
    from pipeline.showing.first_look import query, reading, tree  # noqa: PLC0415
    from pipeline.showing.verdict import verdict  # noqa: PLC0415

    _titled(console, "the files", *tree(root))
    for each in (query(root / "data"), reading(root)):
        _titled(console, f"read with {each.tool}", *each.text, "", *each.result)
    found = audit(open_storage(str(root)))
    lines = [each for line in verdict(found) for each in wrapped(line, _WIDTH, _WIDTH)]
    _titled(console, "the audit: every message in one place, every file unchanged", *lines)
    own = "Pub/Sub" if options.is_pubsub else "Kafka"
    _titled(console, f"with your own {own}", *_next_commands(is_pubsub=options.is_pubsub))
    console.print(shown("", f"the files stay in {root.parent}"))
    return 1 if found.findings else 0


def _titled(console: Console, title: str, *lines: str) -> None:
    console.print(shown("", title), style="bold green")
    console.print(shown(*(f"  {line}".rstrip() for line in lines)))


def _next_commands(*, is_pubsub: bool) -> list[str]:
    program = _program()
    where, name = "--bootstrap_servers=HOST:9092 --topics=TOPIC", "TOPIC"
    if is_pubsub:
        where, name = "--input_subscription=projects/PROJECT/subscriptions/NAME", "NAME"
    return [
        *(["unset PUBSUB_EMULATOR_HOST"] if is_pubsub else []),
        f"{program} {where} --output=collected",
        f"{program} status collected/{name}",
        f"{program} audit collected/{name}",
        f"{program} follow collected/{name} --cursor=my-group --process=MODULE:FUNCTION",
    ]


def _program() -> str:
    """Return how this program was started, as it can be typed again."""
    called = Path(sys.argv[0])
    if called.name == "__main__.py":
        return "python -m pipeline"
    on_path = shutil.which("batch-collection")
    is_it = on_path is not None and called.exists() and Path(on_path).samefile(called)
    return "batch-collection" if is_it else os.path.relpath(called)
