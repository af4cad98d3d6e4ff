"""How fast a topic is collected, against a hand-written loop and the naive pattern.

    python -m bench.collecting [--messages=8_000_000] [--rounds=3] [--memory=2_000_000]

Needs Java and Maven for a real Kafka, which runs on the same cores. Each way is a process of its
own, measured from its start to its exit, in turn with the others; the median counts. So are two
workers of ours against the loop in two processes; their memory is that of the largest process. The
naive one gets 200,000 messages at most, or it would take minutes; rows a second are compared. What
a topic of a few messages takes is what each way takes to start: ratios are told with and without
it, and those without are held against what is wanted. Another topic, of ``--memory`` messages, is
for the peak of memory. Files that are not what was sent end the measurement. Results are
``bench/results.json`` and ``results.svg``.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import statistics
import sys
import tempfile
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pyarrow.dataset as ds

from bench.child import python
from bench.kafka import Message, produce, real_kafka
from bench.measured import Taken

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["main", "message", "show_target", "target"]

HERE = Path(__file__).parent
PARTITIONS = 4
BYTES = 112  # a message
WINDOWS = 60
_BEGIN = 1_704_067_200_000  # 2024-01-01, milliseconds
_HOUR = 3_600_000
NAIVE_MESSAGES = 200_000
FEW = 1_000
"""Messages of the topic for which a process starts."""
OURS, LOOP, NAIVE = "batch-collection", "hand-written loop", "naive pattern"
TWO, TWO_LOOPS = "two workers", "two loops"
STARTED = (OURS, LOOP, TWO, TWO_LOOPS)
"""Ways that are measured with a few messages, too."""
PACKAGES = ("apache-beam", "confluent-kafka", "kafka-python", "numpy", "pyarrow")


@dataclass(frozen=True, slots=True)
class Run:
    """What one process took, and what it left."""

    way: str
    messages: int
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    files: int
    file_bytes: int

    def figures(self) -> dict[str, Any]:
        """Return all of it, and rows a second of the whole process."""
        return {"rows_per_second": round(self.messages / self.seconds), **asdict(self)}


def fill(broker: KafkaBroker, messages: int) -> str:
    """Make a topic of so many messages, which span an hour; return its name.

    Each partition is in the order of the stamps.
    """
    topic = broker.create_topic(f"bench-{messages}", PARTITIONS)
    rng = random.Random(messages)  # noqa: S311 - a fixed one is what is wanted
    stamps = (_BEGIN + number * _HOUR // messages for number in range(messages))
    produce(
        broker,
        (
            Message(topic, message(number, rng), number % PARTITIONS, stamp)
            for number, stamp in enumerate(stamps)
        ),
    )
    return topic


def message(number: int, rng: random.Random) -> str:
    """Return a message of ``BYTES`` bytes."""
    text = (
        f'{{"id":{number},"sensor":"sensor-{rng.randrange(1000):04d}","value":{rng.random():.6f},'
        f'"count":{number % 9973},"status":"ok","place":"hall-{number % 97}'
    )
    return f'{text:-<{BYTES - 2}}"}}'


def ways(servers: str, topic: str, directory: Path) -> dict[str, list[str]]:
    """Return the commands that collect a topic into a directory."""
    peers = [servers, topic, str(directory)]
    flags = [f"--bootstrap_servers={servers}", f"--topics={topic}", f"--output={directory}"]
    return {
        OURS: ["-m", "pipeline", *flags, "--once"],
        TWO: ["-m", "pipeline", *flags, "--once", "--direct_num_workers=2"],
        TWO_LOOPS: ["-m", "bench.two_loops", *peers],
        LOOP: ["-m", "bench.hand_written", *peers],
        NAIVE: ["-m", "bench.naive", *peers],
    }


def run(way: str, servers: str, topic: str, messages: int) -> Run:
    """Collect a topic in a new process, and check what came of it."""
    with tempfile.TemporaryDirectory() as folder:
        command = ways(servers, topic, Path(folder))[way]
        said = python("-m", "bench.measured", sys.executable, *command)
        taken = Taken(**json.loads(said.splitlines()[-1]))
        files = list(Path(folder).rglob("*.parquet"))
        check(files, messages)
        if way in {OURS, TWO}:
            python("-m", "pipeline", "audit", f"{folder}/{topic}")
        size = sum(file.stat().st_size for file in files)
    return Run(way, messages, **taken._asdict(), files=len(files), file_bytes=size)


def check(files: Sequence[Path], messages: int) -> None:
    """See that each message is a row once.

    Raises:
        SystemExit: they are not.
    """
    ids = ds.dataset([str(file) for file in files]).to_table(["id"])["id"]
    if len(ids) != messages or pc.count_distinct(ids).as_py() != messages:
        sys.exit(f"{messages:,} messages became {len(ids):,} rows: no result")


def measure(broker: KafkaBroker, messages: int, rounds: int, memory: int) -> list[Run]:
    """Run all ways in turn, ``rounds`` times; then ours once with ``memory`` messages."""
    naive = min(messages, NAIVE_MESSAGES)
    asked = [(way, size) for size in (messages, FEW) for way in STARTED] + [(NAIVE, naive)]
    topics = {size: fill(broker, size) for size in sorted({size for _, size in asked})}
    runs = []
    for _ in range(rounds):
        for way, size in asked:
            runs.append(run(way, broker.bootstrap_servers, topics[size], size))
            _show(runs[-1].way, runs[-1].figures())
    if memory:
        runs.append(run(OURS, broker.bootstrap_servers, fill(broker, memory), memory))
        _show(runs[-1].way, runs[-1].figures())
    return runs


def results(runs: Sequence[Run], messages: int) -> dict[str, Any]:
    """Return what is kept: when and where, medians, ratios, targets, each run.

    Runs of other than ``messages`` messages, the naive ones apart, tell of memory and of starting.
    """
    naive = min(messages, NAIVE_MESSAGES)

    def median(way: str, size: int) -> dict[str, float]:
        return _medians([each for each in runs if (each.way, each.messages) == (way, size)])

    medians = {way: median(way, messages) for way in STARTED} | {NAIVE: median(NAIVE, naive)}
    starting = {way: median(way, FEW) for way in STARTED}

    def ratio(name: str, ours: str, way: str) -> tuple[float, float]:
        """Return how much less ours takes, without and with what both take to start."""
        of_ours, of_others = medians[ours][name], medians[way][name]
        net = (of_others - starting[way][name]) / (of_ours - starting[ours][name])
        return round(net, 3), round(of_others / of_ours, 3)

    to_loop, in_cpu = ratio("seconds", OURS, LOOP), ratio("cpu_seconds", OURS, LOOP)
    of_two, speed = ratio("seconds", TWO, TWO_LOOPS), "rows_per_second"
    to_naive = round(medians[OURS][speed] / medians[NAIVE][speed], 3)
    peak = max(each.peak_bytes for each in runs if each.way == OURS)
    return {
        "measured_at": f"{datetime.now(timezone.utc):%Y-%m-%dT%H:%MZ}",
        "machine": {
            "cpus": os.cpu_count(),
            "system": f"{platform.system()} {platform.machine()}",
            "python": platform.python_version(),
            "packages": {name: version(name) for name in PACKAGES},
        },
        "topic": {"partitions": PARTITIONS, "message_bytes": BYTES, "windows": WINDOWS},
        "medians": medians,
        "starting": starting,
        "with_starting": {LOOP: to_loop[1], f"CPU of the {LOOP}": in_cpu[1], TWO_LOOPS: of_two[1]},
        "targets": [
            target(f"rows/s / those of the {LOOP}", to_loop[0], least=1.4),
            target(f"rows a CPU second / those of the {LOOP}", in_cpu[0], least=1.4),
            target(f"rows/s / those of the {NAIVE}", to_naive, least=20),
            target(f"rows/s of {TWO} / those of {TWO_LOOPS}", of_two[0], least=1.3),
            target("peak memory in MB", peak / 1e6, most=600),
        ],
        "runs": [each.figures() for each in runs],
    }


def _medians(turns: Sequence[Run]) -> dict[str, float]:
    figures = [each.figures() for each in turns]
    names = [name for name in figures[0] if name != "way"]
    return {name: statistics.median(each[name] for each in figures) for name in names}


def target(
    what: str, found: float, *, least: float = -math.inf, most: float = math.inf
) -> dict[str, Any]:
    """Return a figure, held against what is wanted."""
    wanted = f"at least {least:g}" if least > -math.inf else f"less than {most:g}"
    return {"what": what, "wanted": wanted, "found": found, "met": least <= found < most}


def report(found: Mapping[str, Any]) -> None:
    """Print medians, and which targets are met."""
    print("medians")
    for way, figures in found["medians"].items():
        _show(way, figures)
    print(f"of these, to start ({FEW:,} messages)")
    for way, figures in found["starting"].items():
        _show(way, figures)
    with_starting = (f"{way} {ratio:.2f}" for way, ratio in found["with_starting"].items())
    print(f"ratios with what it takes to start: {', '.join(with_starting)}")
    for each in found["targets"]:
        show_target(each)


def show_target(judged: Mapping[str, Any]) -> None:
    """Print a figure, and whether it is what is wanted."""
    verdict = "met" if judged["met"] else "MISSED"
    print(f"{verdict:<7}{judged['what']}: {judged['found']:.3g}, {judged['wanted']} is wanted")


def _show(way: str, figures: Mapping[str, Any]) -> None:
    print(
        f"  {way:<18}{figures['messages']:>10,.0f} messages"
        f"{figures['rows_per_second']:>9,.0f} rows/s{figures['seconds']:>7.2f} s"
        f"{figures['cpu_seconds']:>7.2f} s of CPU"
        f"{figures['peak_bytes'] / 1e6:>6.0f} MB{figures['files']:>6.0f} files",
        flush=True,
    )


def plot(found: Mapping[str, Any], path: Path) -> None:
    """Draw rows a second and peak memory of each way."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load
    from matplotlib import pyplot as plt  # noqa: PLC0415

    medians = found["medians"]
    colours = ["#2a6f97" if way in {OURS, TWO} else "#aaaaaa" for way in medians]
    style: dict[Any, Any] = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 9}
    with mpl.rc_context(style):
        figure, panels = plt.subplots(1, 2, figsize=(8, 2.5), sharey=True, layout="constrained")
        panels[0].invert_yaxis()
        shown = {
            "thousand rows/s": ("rows_per_second", 1e3),
            "peak memory, MB": ("peak_bytes", 1e6),
        }
        for panel, (title, (name, unit)) in zip(panels, shown.items(), strict=True):
            lengths = [figures[name] / unit for figures in medians.values()]
            bars = panel.barh(list(medians), lengths, color=colours)
            panel.bar_label(bars, fmt="%.0f", padding=3)
            panel.set_title(title, loc="left", fontsize=9)
            panel.margins(x=0.15)
            panel.spines[["top", "right"]].set_visible(False)
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=8_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory", type=int, default=2_000_000, help="messages; 0: leave it out")
    parser.add_argument("--directory", type=Path, default=HERE, help="where results go")
    given = parser.parse_args(arguments)
    with real_kafka("collecting is") as broker:
        runs = measure(broker, given.messages, given.rounds, given.memory)
    found = results(runs, given.messages)
    report(found)
    (given.directory / "results.json").write_text(f"{json.dumps(found, indent=2)}\n")
    plot(found, given.directory / "results.svg")
    return 0


if __name__ == "__main__":
    sys.exit(main())
