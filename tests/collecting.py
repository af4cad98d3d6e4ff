"""The collector as tests run it, in this process or in one of its own, and what must come of it."""

from __future__ import annotations

import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections import defaultdict
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from confluent_kafka import Producer, TopicPartition

from batch_collection.inspection.audit import audit
from batch_collection.log.entries import newest_cycle, read_entries
from batch_collection.log.expiry import first_cycle
from batch_collection.schema.columns import METADATA_COLUMNS
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import parse_compact_instant, utc_now
from pipeline.commands import collect as collect_command
from pipeline.options.flags import Parser
from pipeline.planning.opening import collect_tasks, open_topics
from pipeline.running.local import LocalDrive
from pipeline.running.workers import Workers
from pipeline.showing.board import is_cycle, said
from tests.decoding import substance
from tests.services.guarded import WITH_STACKS
from transforms.process.events import CycleCommitted
from transforms.process.process import new_process
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.client import ClientLog
from transforms.writing.layout import visible_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from confluent_kafka import KafkaError, Message

    from batch_collection.log.entry import Entry
    from pipeline.options.collect import CollectOptions
    from tests.services.kafka import KafkaBroker
    from tests.services.mock_cluster import MockCluster
    from transforms.process.events import Event
    from transforms.sources.kafka.embedded import EmbeddedBroker

    AnyBroker = KafkaBroker | EmbeddedBroker | MockCluster
    Place = tuple[int, int, int | None]

__all__ = [
    "ROOT",
    "Collecting",
    "CollectorProcess",
    "Produced",
    "Producing",
    "Recorder",
    "Sending",
    "Stream",
    "check",
    "dead_letters_of",
    "entries_of",
    "files_by_window",
    "is_worker",
    "json_of",
    "manifests_of",
    "payloads_of",
    "rows_of",
    "run_command",
    "sending",
    "strays_of",
    "tables_of",
]

ROOT = Path(__file__).parent.parent

METADATA = METADATA_COLUMNS["full"]


class Sending(NamedTuple):
    """A message to produce; ``value`` None is a tombstone, ``at`` None the clock's time."""

    value: bytes | None
    at: datetime | None = None
    partition: int = 0
    key: bytes | None = None
    headers: dict[str, str | bytes | None] | None = None


class Produced(NamedTuple):
    """A message as it lies in its topic."""

    partition: int
    offset: int
    value: bytes | None
    at: datetime | None


def sending(at: datetime | None = None, partition: int = 0, **fields: Any) -> Sending:
    """Return a message that is one JSON object."""
    return Sending(json_of(fields), at, partition)


def json_of(value: Any) -> bytes:
    """Write JSON."""
    return json.dumps(value).encode()


@dataclass
class Stream:
    """A topic of its own for a test, and all that was produced to it, in order of delivery."""

    broker: AnyBroker
    partitions: int = 4
    settings: dict[str, object] = field(default_factory=dict)
    name: str = field(default_factory=lambda: f"collect-{uuid.uuid4().hex[:8]}")
    produced: list[Produced] = field(default_factory=list)
    _client: Producer | None = None

    def __post_init__(self) -> None:
        """Create the topic."""
        self.broker.create_topic(self.name, self.partitions, **self.settings)

    def send(self, *messages: Sending) -> list[Produced]:
        """Produce messages, wait until the broker has them, and return them with their places."""
        already = len(self.produced)
        for message in messages:
            self.post(message)
        self.flush()
        return self.produced[already:]

    def post(self, message: Sending) -> None:
        """Hand a message to the producer."""

        def note(error: KafkaError | None, sent: Message) -> None:
            partition, offset = sent.partition(), sent.offset()
            if error is None and partition is not None and offset is not None:
                self.produced.append(Produced(partition, offset, message.value, message.at))

        stamp: dict[str, Any] = {}
        if message.at is not None:
            stamp["timestamp"] = _milliseconds(message.at)
        self._producer.produce(
            self.name,
            message.value,
            message.key,
            message.partition,
            headers=message.headers,
            on_delivery=note,
            **stamp,
        )
        self._producer.poll(0)

    def flush(self, seconds: float = 60) -> None:
        """Wait until all messages are delivered."""
        assert self._producer.flush(seconds) == 0, "not delivered"

    def reconnect(self) -> None:
        """Forget what the producer knows of the topic, as how many partitions it has."""
        self._client = None

    @property
    def _producer(self) -> Producer:
        if self._client is None:
            settings = {
                "bootstrap.servers": self.broker.bootstrap_servers,
                "enable.idempotence": True,  # a retried request must not double a message
                "linger.ms": 1,
                "message.max.bytes": 20_000_000,
            }
            self._client = Producer(settings, logger=ClientLog())
        return self._client

    def committed(self, group: str) -> dict[int, int]:
        """Return the offsets that a group has committed."""
        broker = Broker({"bootstrap.servers": self.broker.bootstrap_servers})
        return broker.committed(self.name, range(self.partitions), group)

    def commit(self, group: str, **offsets: int) -> None:
        """Commit offsets for a group, as ``p0=3``."""
        broker = Broker({"bootstrap.servers": self.broker.bootstrap_servers})
        broker.commit(self.name, group, {int(name[1:]): at for name, at in offsets.items()})

    def delete_before(self, partition: int, offset: int) -> None:
        """Delete as retention does; only the real broker can."""
        admin = self.broker.admin()  # type: ignore[union-attr]
        place = TopicPartition(self.name, partition, offset)
        for answer in admin.delete_records([place]).values():
            answer.result(10)


def _milliseconds(instant: datetime) -> int:
    return round(instant.timestamp() * 1000)


class _VirtualWait(threading.Event):
    """What the local drive waits on, without waiting: ``elapse`` moves the clock, True ends it."""

    def __init__(self, elapse: Callable[[float], bool]) -> None:
        super().__init__()
        self._elapse = elapse

    def wait(self, timeout: float | None = None) -> bool:
        if timeout is not None and self._elapse(timeout):
            self.set()
        return self.is_set()


class Producing:
    """Produces numbered messages in the background, some of them late, until it is stopped."""

    def __init__(self, stream: Stream, a_second: int) -> None:
        """Set it up; ``with`` starts and ends it."""
        self._stream, self._a_second = stream, a_second
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> Producing:  # noqa: PYI034 - Python 3.10 has no Self
        """Start."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop, and wait until all is delivered."""
        self._stop.set()
        self._thread.join()
        self._stream.flush()

    def _run(self) -> None:
        rng, number = random.Random(1), 0
        while not self._stop.wait(0.02):
            for _ in range(self._a_second // 50):
                stamp = utc_now() - timedelta(seconds=rng.choice([0, 0, 0, 0.5, 5]))
                self._stream.post(sending(stamp, number % self._stream.partitions, id=number))
                number += 1


@dataclass
class Recorder:
    """An observer that remembers."""

    entries: list[Entry] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __call__(self, event: Event) -> None:
        """Remember a cycle's entry, and what else is said."""
        if isinstance(event, CycleCommitted) and is_cycle(event):
            self.entries.append(event.entry)
        elif (line := said(event)) is not None:
            self.notes.append(line)


@dataclass
class Collecting:
    """The collector in this process, on a clock that the test sets; each call is a new start.

    ``flags`` are those of the command line, beside the broker's, the topics' and the output's.
    """

    streams: tuple[Stream, ...]
    output: Path | str
    flags: tuple[str, ...]
    recorder: Recorder = field(default_factory=Recorder)
    _now: datetime | None = None

    @classmethod
    def of(cls, stream: Stream, output: Path | str, *flags: str) -> Collecting:
        """Collect one stream."""
        return cls((stream,), output, flags)

    @property
    def path(self) -> Path:
        """The first stream's collection."""
        return Path(self.output) / self.streams[0].name

    def once(self, at: datetime, *flags: str) -> list[Entry]:
        """Collect what there is when the clock stands at ``at``; return the new entries."""
        already = len(self.recorder.entries)
        with self.drive(at, "--once", *flags) as drive:
            drive.run()
        return self.recorder.entries[already:]

    def step(self, by: timedelta) -> None:
        """Set the clock forth or back while the collector runs."""
        self._now = self._clock() + by

    def take_up(self, at: datetime) -> None:
        """Start at ``at``, and collect nothing: repair what a crash left, if one did."""
        with self.drive(at):
            pass

    def run(self, start: datetime, end: datetime, arrive: Callable[[datetime], None]) -> None:
        """Collect continuously while the clock goes from ``start`` to ``end``.

        Whenever the collector waits, the clock goes on as it would, and ``arrive`` is called with
        the new time, to produce what has come by then.
        """

        def wait(seconds: float) -> bool:
            if self._clock() >= end:
                return True
            self._now = self._clock() + timedelta(seconds=seconds)
            arrive(self._now)
            return False

        with self.drive(start, stop=_VirtualWait(wait)) as drive:
            drive.run()

    def options_of(self, topics: str, *flags: str) -> CollectOptions:
        """Return what ``collect`` makes of topics, the collector's flags, and more."""
        words = (
            f"--bootstrap_servers={self.streams[0].broker.bootstrap_servers}",
            f"--topics={topics}",
            f"--output={self.output}",
            *self.flags,
            *flags,
        )
        parser = Parser()
        collect_command.configure(parser)
        return collect_command.check(parser.parse_args(words))

    @contextmanager
    def drive(
        self, at: datetime, *flags: str, stop: threading.Event | None = None
    ) -> Iterator[LocalDrive]:
        """Give a drive in a process of its own, when the clock stands at ``at``."""
        self._now = at
        options = self.options_of(",".join(stream.name for stream in self.streams), *flags)
        with new_process(stop) as process, closing(options.source.connect()) as connection:
            process.observers.append(self.recorder)
            topics = open_topics(options, connection)
            for topic in topics:
                topic.clock = self._clock
            drive = LocalDrive(
                topics,
                collect_tasks(options, is_here=True),
                once=options.once,
                flush=options.flush,
                clock=self._clock,
            )
            with closing(Workers(options.workers)) as workers:
                if options.workers > 1:
                    process.observers.append(workers.heed)
                    drive.run_steps = workers.run_steps
                yield drive

    def _clock(self) -> datetime:
        assert self._now is not None
        return self._now


def entries_of(collection: Path) -> list[Entry]:
    """Return the log, from the first entry that was not expired."""
    storage = LocalStorage(str(collection))
    newest = newest_cycle(storage)
    return [] if newest is None else list(read_entries(storage, first_cycle(storage), newest))


def tables_of(collection: Path) -> list[pa.Table]:
    """Return the rows as batch files show them: those below ``data/``, then the waiting ones."""
    tables = [pq.ParquetFile(path).read() for path in sorted(collection.glob("data/**/*.parquet"))]
    for file in entries_of(collection)[-1].carry:
        with pa.OSFile(str(collection / file.path)) as source, pa.ipc.open_stream(source) as rows:
            tables.append(visible_rows(rows.read_all(), "position", indexed=True))
    return tables


def rows_of(collection: Path) -> pa.Table:
    """Return all rows in one table."""
    tables = tables_of(collection)
    return pa.concat_tables(tables, promote_options="default") if tables else pa.table({})


def payloads_of(*tables: pa.Table) -> dict[Place, dict[str, Any]]:
    """Return what was sent in each row, by partition, offset and index; no place twice."""
    found: dict[Place, dict[str, Any]] = {}
    for row in (row for table in tables for row in table.to_pylist()):
        place = row["_partition"], row["_offset"], row.get("_index")
        assert place not in found, f"{place} is there twice"
        found[place] = _without_nulls({k: v for k, v in row.items() if k not in METADATA})
    return found


def dead_letters_of(collection: Path) -> dict[tuple[int, int], dict[str, Any]]:
    """Return the dead letters by partition and offset; no place twice."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    for path in sorted(collection.glob("dead_letters/**/*.parquet")):
        for row in pq.ParquetFile(path).read().to_pylist():
            place = row["partition"], row["offset"]
            assert place not in found, f"{place} is there twice"
            found[place] = row
    return found


def files_by_window(collection: Path) -> dict[datetime, list[Path]]:
    """Return the batch files by their window's start, as their names have it."""
    found: dict[datetime, list[Path]] = defaultdict(list)
    for path in sorted(collection.glob("data/**/*.parquet")):
        found[parse_compact_instant(path.name.partition("-")[0])].append(path)
    return dict(found)


def manifests_of(collection: Path) -> dict[datetime, list[dict[str, Any]]]:
    """Return each window's manifests, oldest revision first."""
    found: dict[datetime, list[dict[str, Any]]] = defaultdict(list)
    for path in collection.glob("windows/*.json"):
        instant = parse_compact_instant(path.name.partition(".r")[0])
        found[instant].append(json.loads(path.read_text()))
    return {
        start: sorted(manifests, key=lambda manifest: manifest["revision"])
        for start, manifests in found.items()
    }


def strays_of(collection: Path) -> list[str]:
    """Return files below ``staging/`` and ``carry/`` that no published newest entry would leave."""
    named = {file.path for file in entries_of(collection)[-1].carry}
    there = [path for folder in ("staging", "carry") for path in collection.glob(f"{folder}/**/*")]
    files = [path.relative_to(collection).as_posix() for path in there if path.is_file()]
    return [path for path in files if path not in named]


def check(
    collection: Path,
    produced: Iterable[Produced],
    *,
    dead: Iterable[tuple[int, int]] = (),
    empty_is_null: bool = False,
) -> None:
    """See that each message is where it belongs, once, unchanged, and that the audit agrees.

    Args:
        collection: ``OUTPUT/TOPIC``.
        produced: all that lies in the topic and was to be collected.
        dead: partition and offset of those that are dead letters.
        empty_is_null: take ``{}`` and ``[]`` for null, as they read where they came first.
    """
    dead = set(dead)
    rows: dict[Place, dict[str, Any]] = {}
    letters: dict[tuple[int, int], bytes | None] = {}
    for message in produced:
        place = message.partition, message.offset
        if place in dead:
            letters[place] = message.value
        elif message.value is not None:
            for index, row in _rows_of_value(message.value):
                where = message.partition, message.offset, index
                rows[where] = _without_nulls(row)
    assert {place: row["value"] for place, row in dead_letters_of(collection).items()} == letters
    found = payloads_of(*tables_of(collection))
    assert found.keys() - rows.keys() == set(), "rows that nobody sent"
    assert rows.keys() - found.keys() == set(), "rows that are lost"
    same = (lambda row: row) if not empty_is_null else substance
    wrong = {
        place: (found[place], row) for place, row in rows.items() if same(found[place]) != same(row)
    }
    assert wrong == {}, f"found, and sent: {dict(list(wrong.items())[:3])}"
    assert audit(LocalStorage(str(collection))).findings == ()


def _rows_of_value(value: bytes) -> list[tuple[int | None, dict[str, Any]]]:
    content = json.loads(value)
    return list(enumerate(content)) if isinstance(content, list) else [(None, content)]


def _without_nulls(value: Any) -> Any:
    """Leave out null fields: a column that a row lacks reads as null."""
    if isinstance(value, dict):
        return {k: _without_nulls(v) for k, v in value.items() if v is not None}
    return value


class CollectorProcess:
    """``python -m pipeline`` as a process of its own; killed at the end of its ``with`` block."""

    def __init__(
        self,
        streams: Sequence[Stream],
        output: Path | str,
        *flags: str,
        wrapper: Sequence[str] | None = None,
    ) -> None:
        """Start it, or what takes the same flags in its place; it says every cycle."""
        self._process = subprocess.Popen(
            [*(wrapper or _COMMAND), *_flags(streams, output), *flags, "--verbose"],
            cwd=ROOT,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.lines: list[str] = []
        self._queue: queue.Queue[str | None] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self) -> CollectorProcess:  # noqa: PYI034 - Python 3.10 has no Self
        """Return it, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it, if it still runs."""
        self.send(signal.SIGKILL)
        self.end()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def workers(self) -> list[int]:
        """Return the process ids of its workers, those that live."""
        try:
            text = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text(encoding="ascii")
        except FileNotFoundError:  # it has ended
            return []
        return [pid for pid in map(int, text.split()) if is_worker(pid)]

    def send(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self._process.send_signal(number)

    def wait_for(self, text: str, seconds: float = 60) -> str:
        """Wait for a line that holds ``text``, and return it."""
        deadline = time.monotonic() + seconds
        while True:
            try:
                line = self._queue.get(timeout=max(deadline - time.monotonic(), 0))
            except queue.Empty:
                line = None
            assert line is not None, f"no {text!r} among {self.lines}"
            if text in line:
                return line

    def poll(self) -> int | None:
        """Return its exit code, None while it runs."""
        return self._process.poll()

    def end(self, seconds: float = 60) -> int:
        """Wait until it has ended, and return its exit code; one that takes longer says where."""
        try:
            code = self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self.send(signal.SIGABRT)
            self._reader.join(10)
            pytest.fail(_where(seconds, "\n".join(self.lines)))
        self._reader.join(10)
        if self._process.stderr is not None:
            self._process.stderr.close()
        return code

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            self.lines.append(line.rstrip("\n"))
            self._queue.put(line)
        self._queue.put(None)


def is_worker(pid: int) -> bool:
    """Tell whether a process is a collector's worker, which lives."""
    try:
        return b"running.worker" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return False


_COMMAND = (sys.executable, "-m", "pipeline")
_MOST_SECONDS = 120


def run_command(
    streams: Sequence[Stream], output: Path | str, *flags: str
) -> subprocess.CompletedProcess[str]:
    """Run the collector in a process of its own to its end; one that takes too long says where."""
    process = subprocess.Popen(
        [*_COMMAND, *_flags(streams, output), *flags],
        cwd=ROOT,
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            out, err = process.communicate(timeout=_MOST_SECONDS)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGABRT)
            pytest.fail(_where(_MOST_SECONDS, _last_words(process)))
        except BaseException:
            process.kill()
            raise
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def _last_words(process: subprocess.Popen[str]) -> str:
    try:
        return process.communicate(timeout=10)[1]
    except subprocess.TimeoutExpired as error:  # it does not go, or its children can write there
        process.kill()
        return bytes(error.stderr or b"").decode(errors="replace")


def _where(seconds: float, text: str) -> str:
    return f"it takes longer than {seconds} s; what it said, and where its threads are:\n{text}"


def _flags(streams: Sequence[Stream], output: Path | str) -> list[str]:
    """Return the flags of topics; without any the source is the caller's own."""
    if not streams:
        return [f"--output={output}"]
    return [
        f"--bootstrap_servers={streams[0].broker.bootstrap_servers}",
        f"--topics={','.join(stream.name for stream in streams)}",
        f"--output={output}",
    ]


def _environment() -> dict[str, str]:
    # Beam starts worker processes as `python`, which must be this one
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {**os.environ, **WITH_STACKS, "PATH": path, "PYTHONUNBUFFERED": "1"}
