"""What a cycle of many small topics takes, on a disk and on Cloud Storage 50 ms away.

    python -m bench.topics [--topics=30] [--messages=100] [--cycles=5]

The embedded broker and the fake Cloud Storage run on the same cores, apart from the collector's
process. A cycle is what ``--once`` does with what has come since: look, read, commit, look again.
The first one makes what the next ones have, as consumers; of those the median counts.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from confluent_kafka import Producer

from bench.collecting import HERE, show_target, target
from pipeline.options.collect import check, configure
from pipeline.options.flags import Parser
from pipeline.planning.opening import collect_tasks, open_topics
from pipeline.running.local import LocalDrive
from tests.services.faults import FaultProxy
from tests.services.gcs import BUCKET, FakeGcs
from transforms.process.process import new_process
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

__all__ = ["main"]

MOST_SECONDS = 1.5


class Taken(NamedTuple):
    """What opening all collections took, and each cycle, in seconds; and the cycles' CPU."""

    opened: float
    cycles: list[float]
    cpu: list[float]


def collected(flags: Sequence[str]) -> None:
    """Collect whenever a line comes in, as the command line does; print what it took."""
    parser = Parser()
    configure(parser)
    options = check(parser.parse_args(flags))
    taken = Taken(0.0, [], [])
    began = time.perf_counter()
    with new_process(), closing(options.source.connect()) as connection:
        topics = open_topics(options, connection)
        taken = taken._replace(opened=time.perf_counter() - began)
        steps = collect_tasks(options, is_here=True)
        print("ready", flush=True)
        for _ in sys.stdin:
            began, worked = time.perf_counter(), time.process_time()
            LocalDrive(topics, steps, once=True).run()
            taken.cycles.append(time.perf_counter() - began)
            taken.cpu.append(time.process_time() - worked)
            for topic in topics:
                assert not topic.survey.lag
                topic.survey.goal = None
            print("done", flush=True)
    print(json.dumps(taken._asdict()))


def measure(broker: EmbeddedBroker, output: str, topics: int, messages: int, cycles: int) -> Taken:
    """Produce to new topics, and collect them in a process of its own, again and again."""
    names = [broker.create_topic(f"small-{uuid.uuid4().hex[:8]}") for _ in range(topics)]
    producer = Producer({"bootstrap.servers": broker.bootstrap_servers, "linger.ms": 5})
    command = [
        sys.executable,
        *("-m", "bench.topics", "--", f"--bootstrap_servers={broker.bootstrap_servers}"),
        *(f"--topics={','.join(names)}", f"--output={output}"),
    ]
    with subprocess.Popen(  # noqa: S603 - this very program
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=HERE.parent
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for _ in range(cycles + 1):
            child.stdout.readline()  # it has done what there was
            for name in names:
                for number in range(messages):
                    producer.produce(
                        name, f'{{"id":{number},"text":"small"}}', partition=number % 4
                    )
            producer.flush()
            child.stdin.write("\n")
            child.stdin.flush()
        child.stdin.close()
        *_, last = child.stdout
    return Taken(**json.loads(last))


@contextmanager
def _places() -> Iterator[dict[str, str]]:
    """Give a place on the disk and one in a bucket that is 50 ms away."""
    with FakeGcs() as server, FaultProxy(server) as proxy, tempfile.TemporaryDirectory() as folder:
        proxy.fail("stall", times=sys.maxsize)
        os.environ["STORAGE_EMULATOR_HOST"] = proxy.url
        yield {"disk": folder, "gs, 50 ms": f"gs://{BUCKET}/{uuid.uuid4().hex}"}


def main(arguments: Sequence[str]) -> int:
    """Measure, and print; behind ``--``, be what is measured."""
    if "--" in arguments:
        collected(arguments[arguments.index("--") + 1 :])
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--topics", type=int, default=30)
    parser.add_argument("--messages", type=int, default=100)
    parser.add_argument("--cycles", type=int, default=5)
    given = parser.parse_args(arguments)
    with EmbeddedBroker() as broker, _places() as places:
        for name, place in places.items():
            taken = measure(broker, place, given.topics, given.messages, given.cycles)
            first, *later = taken.cycles
            print(
                f"{name:<10}{given.topics} topics: open {taken.opened:.2f} s, first cycle "
                f"{first:.2f} s, then {[round(each, 2) for each in later]}, "
                f"{statistics.median(taken.cpu[1:]):.2f} s of CPU"
            )
            seconds = statistics.median(later)
            show_target(target(f"seconds a cycle, {name}", seconds, most=MOST_SECONDS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
