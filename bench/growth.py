"""What grows with what: rows a second, CPU and memory of ``collect --once`` along single axes.

    python -m bench.growth [--axis=NAME] [--share=1.0] [--directory=bench]

Needs Java and Maven for a real Kafka, which runs on the same cores. Each figure is of one process,
from its start to its exit. Along each axis all else is as in ``bench.collecting``; messages are
fewer where one takes longer. ``--share`` makes all topics smaller. What is found is written to
``growth.json`` and drawn in ``growth.svg``, and printed as a table.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.child import python
from bench.collecting import PARTITIONS
from bench.kafka import Message, produce, real_kafka
from bench.measured import Taken

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["AXES", "Case", "main"]

HERE = Path(__file__).parent
_BEGIN = 1_704_067_200_000  # 2024-01-01, milliseconds
_MINUTE = 60_000
_WINDOWS = 60
_MESSAGES, _BYTES = 500_000, 112
_AUDITED = 3


@dataclass(frozen=True, slots=True)
class Case:
    """What is collected, and how.

    Attributes:
        at: where on its axis it is.
        messages: how many there are in all topics.
        message_bytes: how large each one is.
        partitions: of each topic.
        windows: over how many minutes they are spread.
        in_order: the minutes come one after the other; else each message is of any of them.
        topics: how many there are.
        flags: of ``collect``.
    """

    at: int
    messages: int = _MESSAGES
    message_bytes: int = _BYTES
    partitions: int = PARTITIONS
    windows: int = _WINDOWS
    in_order: bool = True
    topics: int = 1
    flags: tuple[str, ...] = ()


AXES: Mapping[str, Sequence[Case]] = {
    "message size, bytes": [
        Case(size, messages=min(_MESSAGES, 200_000_000 // size), message_bytes=size)
        for size in (50, 112, 1_000, 10_000, 100_000)
    ],
    "partitions": [Case(count, partitions=count) for count in (1, 4, 32, 128, 512)],
    "windows open at once": [
        Case(count, messages=200_000, windows=count, in_order=False)
        for count in (1, 10, 100, 1_000, 10_000)
    ],
    "rows a batch": [
        Case(rows, flags=(f"--batch_size={rows}",)) for rows in (100, 1_000, 10_000, 100_000)
    ],
    "workers": [Case(count, flags=(f"--direct_num_workers={count}",)) for count in (1, 2, 4)],
    "topics": [Case(count, messages=200_000, topics=count) for count in (1, 10, 30, 100)],
    "messages waiting": [
        Case(count, messages=count) for count in (250_000, 500_000, 1_000_000, 4_000_000)
    ],
}


@dataclass(frozen=True, slots=True)
class Grown:
    """What a case took."""

    axis: str
    at: int
    rows_per_second: int
    cpu_microseconds_a_row: float
    peak_mb: int


def fill(broker: KafkaBroker, name: str, case: Case) -> list[str]:
    """Make the topics of a case; return their names."""
    topics = [broker.create_topic(f"{name}-{n}", case.partitions) for n in range(case.topics)]
    for topic in topics:
        produce(broker, _messages(case, topic))
    return topics


def _messages(case: Case, topic: str) -> Iterator[Message]:
    """Yield what a topic is to have."""
    count = case.messages // case.topics
    rng = random.Random(case.at)  # noqa: S311 - a fixed one is what is wanted
    for number in range(count):
        text = f'{{"id":{number},"value":{rng.random():.6f}'
        room = case.message_bytes - len(text) - len(',"text":""}')
        end = f',"text":"{"-" * room}"}}' if room >= 0 else "}"
        window = number * case.windows // count if case.in_order else rng.randrange(case.windows)
        yield Message(topic, text + end, number % case.partitions, _BEGIN + window * _MINUTE)


def measure(broker: KafkaBroker, axis: str, case: Case) -> Grown:
    """Collect what a case has, and see that the audit agrees."""
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{axis}-{case.at}")
    topics = fill(broker, name, case)
    with tempfile.TemporaryDirectory() as folder:
        flags = [
            f"--bootstrap_servers={broker.bootstrap_servers}",
            f"--topics={','.join(topics)}",
            f"--output={folder}",
            *case.flags,
        ]
        command = [sys.executable, "-m", "pipeline", *flags, "--once"]
        said = python("-m", "bench.measured", *command)
        for topic in topics[:_AUDITED]:
            python("-m", "pipeline", "audit", f"{folder}/{topic}")
    admin = broker.admin()
    for deleted in admin.delete_topics(topics).values():
        deleted.result()
    taken = Taken(**json.loads(said.splitlines()[-1]))
    return Grown(
        axis,
        case.at,
        round(case.messages / taken.seconds),
        round(taken.cpu_seconds / case.messages * 1e6, 2),
        round(taken.peak_bytes / 1e6),
    )


def plot(found: Sequence[Grown], path: Path) -> None:
    """Draw rows a second, and memory, along each axis."""
    import matplotlib as mpl  # noqa: PLC0415 - slow to load
    from matplotlib import pyplot as plt  # noqa: PLC0415

    axes = list(dict.fromkeys(each.axis for each in found))
    style: dict[Any, Any] = {"svg.hashsalt": "bench", "svg.fonttype": "none", "font.size": 8}
    with mpl.rc_context(style):
        figure, panels = plt.subplots(
            2, len(axes), figsize=(1.9 * len(axes), 3.2), squeeze=False, layout="constrained"
        )
        for column, axis in enumerate(axes):
            points = [each for each in found if each.axis == axis]
            at = [each.at for each in points]
            speeds = [each.rows_per_second / 1e3 for each in points]
            panels[0][column].plot(at, speeds, "o-", color="#2a6f97")
            panels[1][column].plot(at, [each.peak_mb for each in points], "o-", color="#2a6f97")
            for panel in panels[:, column]:
                panel.set_xscale("log")
                panel.set_ylim(bottom=0)
                panel.spines[["top", "right"]].set_visible(False)
            panels[1][column].set_xlabel(axis)
        panels[0][0].set_ylabel("thousand rows/s")
        panels[1][0].set_ylabel("peak memory, MB")
        figure.savefig(path, metadata={"Date": None})
        plt.close(figure)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and keep what was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--axis", choices=[*AXES])
    parser.add_argument("--share", type=float, default=1.0)
    parser.add_argument("--directory", type=Path, default=HERE, help="where results go")
    given = parser.parse_args(arguments)
    found = []
    with real_kafka("growth is") as broker:
        print("| axis | at | rows/s | CPU microseconds a row | peak MB |")
        print("|---|---|---|---|---|")
        for axis in [given.axis] if given.axis else AXES:
            for case in AXES[axis]:
                found.append(measure(broker, axis, _smaller(case, given.share)))
                print(_row(found[-1]), flush=True)
    (given.directory / "growth.json").write_text(
        f"{json.dumps([asdict(each) for each in found], indent=2)}\n"
    )
    plot(found, given.directory / "growth.svg")
    return 0


def _smaller(case: Case, share: float) -> Case:
    messages = max(round(case.messages * share), case.topics * case.partitions)
    return Case(**{**asdict(case), "messages": messages})


def _row(found: Grown) -> str:
    return (
        f"| {found.axis} | {found.at:,} | {found.rows_per_second:,} "
        f"| {found.cpu_microseconds_a_row} | {found.peak_mb} |"
    )


if __name__ == "__main__":
    sys.exit(main())
