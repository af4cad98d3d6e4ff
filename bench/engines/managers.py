"""A cluster of Flink's with one TaskManager or two, each with a Python worker of its own."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import python
from bench.collecting import HERE, check
from tests.engines import log_of
from tests.services.flink import FlinkCluster, flink_jars

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.entry import Entry
    from tests.services.kafka import KafkaBroker

__all__ = ["bare", "rows_per_second", "speed"]

_CYCLES = 6


def rows_per_second(broker: KafkaBroker, topic: str, messages: int, managers: int) -> float:
    """Collect a topic by a decoder that keeps cores busy; each message is a row once.

    Raises:
        UnavailableError: there can be no Flink here; the text says why.
    """
    jars = flink_jars(print)
    with (
        tempfile.TemporaryDirectory() as folder,
        closing(FlinkCluster(jars, Path(folder), managers)) as cluster,
    ):
        python(
            *("-m", "pipeline", f"--bootstrap_servers={broker.bootstrap_servers}"),
            *(f"--topics={topic}", f"--output={folder}/collected", "--once", "--shards=2"),
            *("--runner=PortableRunner", f"--job_endpoint={cluster.endpoint}"),
            *cluster.environment,
            "--input_format=bench.engines.decoder:decode",
            f"--max_messages_per_cycle={messages // _CYCLES}",
        )
        path = Path(folder, "collected", topic)
        check(list(path.glob("data/**/*.parquet")), messages)
        return speed(log_of(path))


def speed(entries: Sequence[Entry]) -> float:
    """Return messages a second from the first cycle's end to the last's: without start-up."""
    counts = [sum(read.messages for read in entry.reads) for entry in entries]
    first, *later = [number for number, count in enumerate(counts) if count]
    took = entries[later[-1]].committed_at - entries[first].committed_at
    return sum(counts[number] for number in later) / took.total_seconds()


def bare(processes: int, messages: int) -> float:
    """Return messages a second of the decoder alone, in so many processes at once."""
    command = [sys.executable, "-m", "bench.engines.decoder", str(messages)]
    running = [
        subprocess.Popen(command, cwd=HERE.parent, stdout=subprocess.PIPE, text=True)  # noqa: S603
        for _ in range(processes)
    ]
    seconds = [float(process.communicate()[0]) for process in running]
    return processes * messages / max(seconds)
