"""How fast a subscription is collected, what many messages that wait cost, and idling.

    python -m bench.pubsub [--messages=100_000] [--rounds=3] [--waiting=1_000_000] [--idle=60]

Collecting is measured on Google's emulator or on pstest, whichever is there, against bare loops
(``bench/pulled.py``) in turn with them; medians count. No such server carries a million messages:
those wait in a fake of ours, which has them published over two hours and shuffles each minute. The
servers run on the same cores.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import psutil

from batch_collection.inspection.audit import audit
from batch_collection.log.entries import newest_cycle, read_entries
from batch_collection.storage.opening import open_storage
from bench.child import python
from bench.collecting import HERE, message, show_target, target
from bench.measured import Taken
from bench.pulled import WAYS, Pulled
from tests.services.made import UnavailableError
from tests.services.pubsub import PubSubServer, emulator_command, pstest_command
from tests.services.pubsub_fake import PATH

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

HOURS, MINUTES = 2, 1
INTERVAL = 10
_SETTLED_SECONDS = 20


class Backlog(NamedTuple):
    """What came of many messages that waited."""

    taken: Taken
    windows: int
    files: int
    rows: int
    late: int


class Idle(NamedTuple):
    """What a collector did while nothing came: a share of a core, and entries."""

    share: float
    entries: int
    intervals: float


def pulled(way: str, server: PubSubServer, messages: int) -> Pulled:
    """Publish messages, and collect them in one way."""
    with tempfile.TemporaryDirectory() as folder:
        path = server.create(f"{way}-{time.time_ns()}")
        rng = random.Random(messages)  # noqa: S311 - a fixed one is what is wanted
        server.publish(path, [message(number, rng).encode() for number in range(messages)])
        said = python("-m", "bench.pulled", way, server.endpoint, path, folder, str(messages))
        found = Pulled(**json.loads(said.splitlines()[-1]))
        if way == "ours":
            _audit(Path(folder, path.rpartition("/")[2]), found.messages)
    return found


def _audit(collection: Path, messages: int) -> None:
    found = audit(open_storage(str(collection)))
    if found.findings or found.counts.messages != messages:
        sys.exit(f"{messages:,} messages became {found.counts}, {found.findings}: no result")


def collected(server: PubSubServer, messages: int, rounds: int) -> None:
    """Measure all ways in turn, and print."""
    rates = defaultdict(list)
    pulled("telling", server, messages)  # a server that has just started is slow
    for _ in range(rounds):
        for way, name in WAYS.items():
            found = pulled(way, server, messages)
            rates[way].append(found.messages / found.seconds)
            print(f"  {name:<25}{rates[way][-1]:>9,.0f} messages/s", flush=True)
    medians = {way: statistics.median(each) for way, each in rates.items()}
    told, held = (medians["ours"] / medians[way] for way in ("telling", "holding"))
    print(f"  messages/s / those of a {WAYS['telling']}: {told:.2f}")
    show_target(target(f"messages/s / those of a {WAYS['holding']}", held, least=0.7))


@contextmanager
def waiting(messages: int) -> Iterator[str]:
    """Let messages wait in a fake; give its address. All must be acknowledged at the end."""
    words = ("-m", "tests.services.pubsub_fake", str(messages), str(HOURS), str(MINUTES))
    command = [sys.executable, *words]
    with subprocess.Popen(  # noqa: S603 - our own program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as fake:
        assert fake.stdin is not None
        assert fake.stdout is not None
        with fake.stdin as end:  # it ends with it
            yield fake.stdout.readline().strip()
            end.close()
            assert int(fake.stdout.readline()) == messages


def backlog(messages: int, *flags: str) -> Backlog:
    """Collect many messages that wait, by the command line."""
    with tempfile.TemporaryDirectory() as folder, waiting(messages) as endpoint:
        where = (f"--input_subscription={PATH}", f"--pubsub_endpoint={endpoint}")
        command = ("-m", "pipeline", *where, f"--output={folder}", "--once", "--flush", *flags)
        said = python("-m", "bench.measured", sys.executable, *command)
        collection = Path(folder, PATH.rpartition("/")[2])
        _audit(collection, messages)
        storage = open_storage(str(collection))
        entries = read_entries(storage, 0, newest_cycle(storage) or 0)
        panes = [pane for entry in entries for pane in entry.panes]
    return Backlog(
        Taken(**json.loads(said.splitlines()[-1])),
        len({pane.window_start for pane in panes}),
        sum(len(pane.files) for pane in panes),
        sum(pane.rows for pane in panes),
        sum(pane.rows for pane in panes if pane.timing == "late"),
    )


def waited(messages: int) -> None:
    """Measure what waiting messages cost, with less and more of them held at once, and print."""
    for held in (50_000, 200_000):
        found = backlog(messages, f"--max_leased={held}")
        print(
            f"  {messages:,} waiting, --max_leased={held:<8}{found.taken.seconds:>6.0f} s"
            f"{found.taken.cpu_seconds:>6.0f} s of CPU{found.taken.peak_bytes / 1e6:>6.0f} MB"
            f"{found.files / found.windows:>6.2f} files a window"
            f"{found.late / found.rows:>8.2%} late rows",
            flush=True,
        )


def idle(server: PubSubServer, seconds: float) -> Idle:
    """Collect from a subscription that nothing is published to, and look at the collector."""
    with tempfile.TemporaryDirectory() as folder:
        path = server.create(f"idle-{time.time_ns()}")
        where = (f"--input_subscription={path}", f"--pubsub_endpoint={server.endpoint}")
        words = ("-m", "pipeline", *where, f"--output={folder}", f"--interval={INTERVAL}s")
        process = subprocess.Popen(  # noqa: S603 - as above
            [sys.executable, *words],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=HERE.parent,
        )
        try:
            time.sleep(_SETTLED_SECONDS)
            seen = psutil.Process(process.pid)
            storage = open_storage(str(Path(folder, path.rpartition("/")[2])))
            before, cycles = seen.cpu_times(), newest_cycle(storage) or 0
            time.sleep(seconds)
            after, more = seen.cpu_times(), newest_cycle(storage) or 0
        finally:
            process.terminate()
            process.wait()
    spent = after.user + after.system - before.user - before.system
    return Idle(spent / seconds, more - cycles, seconds / INTERVAL)


def _server(folder: Path) -> PubSubServer | None:
    for name, command in (("Google's emulator", emulator_command), ("pstest", pstest_command)):
        try:
            server = PubSubServer(command(), folder)
        except UnavailableError as error:
            print(error)
        else:
            print(f"on {name}")
            return server
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=100_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--waiting", type=int, default=1_000_000, help="messages; 0: leave it out")
    parser.add_argument("--idle", type=float, default=60, help="seconds; 0: leave it out")
    given: Any = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        server = _server(Path(folder))
        if server is None:
            print("neither server is here; how fast a subscription is collected is not measured")
        else:
            try:
                collected(server, given.messages, given.rounds)
                if given.idle:
                    found = idle(server, given.idle)
                    show_target(target("share of a core while idle", found.share, most=0.02))
                    entries = found.entries / found.intervals
                    show_target(target("entries an interval meanwhile", entries, most=1.2))
            finally:
                server.kill()
    if given.waiting:
        waited(given.waiting)
    return 0


if __name__ == "__main__":
    sys.exit(main())
