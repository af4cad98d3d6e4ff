"""What Cloud Storage costs: rows/s against a local disk, and seconds to commit and publish.

    python -m bench.storage [--messages=1000000] [--runs=3]

Needs Java and Maven for a real Kafka. The fake Cloud Storage runs on the same cores, and its work
counts against the figure for gs://.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import random
import statistics
import tempfile
import time
import uuid
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.log.entries import create_entry
from batch_collection.publishing.publish import publish
from batch_collection.storage.opening import open_storage
from bench.kafka import Message, produce, real_kafka
from pipeline.cli import main
from tests.builders import Collector, message
from tests.services.gcs import BUCKET, FakeGcs, bundled_server, newest_server
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka import KafkaBroker

PARTITIONS = 4
FILES = (1, 10, 100)


def fill(broker: KafkaBroker, messages: int) -> str:
    """Produce JSON messages of about 110 bytes, a thousand a second of their stamps."""
    topic = broker.create_topic("bench", PARTITIONS)
    produce(broker, _messages(topic, messages))
    return topic


def _messages(topic: str, count: int) -> Iterator[Message]:
    rng, begin = random.Random(1), 1_790_000_000_000  # noqa: S311 - a fixed one is what is wanted
    for number in range(count):
        value = (
            f'{{"id":{number},"sensor":"sensor-{rng.randrange(1000):04d}","value":'
            f'{rng.random():.6f},"status":"ok","place":"hall-{number % 97}",'
            f'"count":{number % 9973}}}'
        )
        yield Message(topic, value, number % PARTITIONS, begin + number)


def collect(servers: str, topic: str, output: str) -> float:
    """Collect all of a topic into a new place; return the seconds."""
    flags = [f"--bootstrap_servers={servers}", f"--topics={topic}", f"--output={output}"]
    began = time.monotonic()
    with contextlib.redirect_stderr(io.StringIO()) as said:
        code = main([*flags, "--once", "--flush", "--batch_size=100000"])
    if code:
        raise SystemExit(said.getvalue())
    return time.monotonic() - began


def finish(uri: str, files: int) -> tuple[float, float]:
    """Return the seconds that the commit and the publishing of a cycle of some files take."""
    collector = Collector(open_storage(uri), batch_size=1)
    collector.start()
    entry = collector.plan(*(message(n) for n in range(files)), boundary="10:31:00")
    began = time.monotonic()
    create_entry(collector.storage, entry)
    committed = time.monotonic()
    publish(collector.storage, entry)
    return committed - began, time.monotonic() - committed


@contextlib.contextmanager
def places() -> Iterator[dict[str, str]]:
    """Give a place on the disk and one on the newest fake that can be had."""
    try:
        server = FakeGcs(newest_server)
    except UnavailableError:
        server = FakeGcs(bundled_server)
    with server, tempfile.TemporaryDirectory(dir=Path.home()) as folder:
        os.environ["STORAGE_EMULATOR_HOST"] = server.url
        yield {"disk": folder, "gs": f"gs://{BUCKET}"}


def run(messages: int, runs: int) -> None:
    """Measure, in turn, and print."""
    with places() as roots:
        with real_kafka("Cloud Storage is") as broker:
            topic = fill(broker, messages)
            rates: dict[str, list[float]] = {name: [] for name in roots}
            for turn in range(runs + 1):  # the first one warms up
                for name, root in roots.items():
                    seconds = collect(broker.bootstrap_servers, topic, f"{root}/{uuid.uuid4()}")
                    if turn:
                        rates[name].append(messages / seconds)
        median = {name: statistics.median(rate) for name, rate in rates.items()}
        for name, rate in median.items():
            print(f"{name:<5}{rate:>10,.0f} rows/s   of {[round(r) for r in rates[name]]}")
        print(f"gs:// against disk: {median['gs'] / median['disk']:.2f}")
        for files in FILES:
            for name, root in roots.items():
                commit, publishing = finish(f"{root}/{uuid.uuid4()}", files)
                print(
                    f"{name:<5}{files:>4} files: commit {commit:.3f} s, publish {publishing:.3f} s"
                )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    run(given.messages, given.runs)
