"""How soon the first message comes, what a small cycle takes, and what waiting costs.

    python -m bench.starting [--rounds=5] [--idle=30]

The embedded broker runs beside. The first message is counted from when Beam is imported, which is
most of the start; a cycle of 1,000 messages is held against an empty pipeline of Beam's in the same
process. Medians count.
"""

from __future__ import annotations

import argparse
import importlib
import json
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import psutil
from confluent_kafka import Producer

from bench.child import python
from bench.collecting import HERE, show_target, target
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transforms.process.events import Event

__all__ = ["main"]

MESSAGES = 1_000
_CYCLES = 5
_SETTLED_SECONDS = 10


class Start(NamedTuple):
    """Seconds to the first message; of a later cycle, and of an empty pipeline."""

    first: float
    cycle: float
    empty: float


def fill(servers: str, topic: str) -> None:
    """Send messages."""
    producer = Producer({"bootstrap.servers": servers})
    for number in range(MESSAGES):
        producer.produce(topic, f'{{"id":{number},"text":"small"}}', partition=number % 4)
    producer.flush()


def started(servers: str, topic: str, output: str) -> Start:
    """Collect as the command line does, from when Beam is imported; then cycle by cycle."""
    importlib.import_module("pipeline.commands.collect")  # as for flags, without Beam
    from pipeline import cli  # noqa: PLC0415 - as above

    beam = importlib.import_module("apache_beam")
    began = time.perf_counter()
    from transforms.elements import observers  # noqa: PLC0415 - behind Beam
    from transforms.process.events import MessagesRead  # noqa: PLC0415 - as above

    seconds: list[float] = []

    def note(event: Event) -> None:
        if isinstance(event, MessagesRead):
            seconds.append(time.perf_counter() - began)

    observers.OBSERVERS = (*observers.OBSERVERS, note)
    flags = [f"--bootstrap_servers={servers}", f"--topics={topic}", f"--output={output}"]
    if cli.main([*flags, "--once"]):
        sys.exit("it can't be collected")
    first = seconds[0]
    cycles = cycles_of(servers, topic, flags)
    empty = []
    for _ in range(_CYCLES):
        began = time.perf_counter()
        with beam.Pipeline(
            "FnApiRunner", beam.options.pipeline_options.PipelineOptions([])
        ) as all_:
            _ = all_ | beam.Impulse()
        empty.append(time.perf_counter() - began)
    return Start(first, statistics.median(cycles), statistics.median(empty))


def cycles_of(servers: str, topic: str, flags: Sequence[str]) -> list[float]:
    """Collect what comes, cycle by cycle; return what each took."""
    from pipeline.options.collect import check, configure  # noqa: PLC0415 - behind Beam
    from pipeline.options.flags import Parser  # noqa: PLC0415 - as above
    from pipeline.planning.opening import collect_tasks, open_topics  # noqa: PLC0415 - as above
    from pipeline.running.local import LocalDrive  # noqa: PLC0415 - as above
    from transforms.process.process import new_process  # noqa: PLC0415 - as above

    parser = Parser()
    configure(parser)
    options = check(parser.parse_args(flags))
    cycles = []
    with new_process(), closing(options.source.connect()) as connection:
        topics, steps = open_topics(options, connection), collect_tasks(options, is_here=True)
        for _ in range(_CYCLES + 1):
            fill(servers, topic)
            began = time.perf_counter()
            LocalDrive(topics, steps, once=True).run()
            cycles.append(time.perf_counter() - began)
            topics[0].survey.goal = None
    return cycles[1:]


def idle(servers: str, topic: str, output: str, seconds: float) -> float:
    """Return which share of a core a collector takes to which nothing comes."""
    flags = [f"--bootstrap_servers={servers}", f"--topics={topic}", f"--output={output}"]
    process = subprocess.Popen(  # noqa: S603 - our own program
        [sys.executable, "-m", "pipeline", *flags, "--interval=10s"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=HERE.parent,
    )
    try:
        time.sleep(_SETTLED_SECONDS)
        before = psutil.Process(process.pid).cpu_times()
        time.sleep(seconds)
        after = psutil.Process(process.pid).cpu_times()
    finally:
        process.terminate()
        process.wait()
    return (after.user + after.system - before.user - before.system) / seconds


def main(arguments: Sequence[str]) -> int:
    """Measure, and print; behind ``--``, be what is measured."""
    if arguments[:1] == ["--"]:
        print(json.dumps(started(*arguments[1:])))
        return 0
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--idle", type=float, default=30, help="seconds; 0: leave it out")
    given = parser.parse_args(arguments)
    starts = []
    with EmbeddedBroker() as broker, tempfile.TemporaryDirectory() as folder:
        servers = broker.bootstrap_servers
        for number in range(given.rounds):
            topic = broker.create_topic(f"starting-{number}")
            fill(servers, topic)
            said = python("-m", "bench.starting", "--", servers, topic, folder)
            starts.append(Start(*json.loads(said.splitlines()[-1])))
            print(f"  {starts[-1]}", flush=True)
        first, cycle, empty = (statistics.median(each) for each in zip(*starts, strict=True))
        show_target(target("seconds from Beam's import to the first message", first, most=0.7))
        above = cycle - empty
        show_target(target("seconds of a small cycle above an empty pipeline", above, most=0.1))
        if given.idle:
            share = idle(servers, broker.create_topic("idle"), folder, given.idle)
            show_target(target("share of a core while idle", share, most=0.01))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
