"""The program: from tasks to log entries, one step a line. Every runner runs this graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.commit_cycle import CommitCycle
from transforms.cut_batches import CutBatches
from transforms.decode_messages import DecodeMessages
from transforms.into_windows import IntoWindows
from transforms.read_slices import ReadSlices
from transforms.write_batch_files import Output, WriteBatchFiles
from transforms.write_dead_letters import WriteDeadLetters

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from apache_beam.pvalue import PCollection

    from transforms.decode import RowRules
    from transforms.plan import Task

__all__ = ["CollectTasks", "GraphOptions"]


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What the steps need to know; the same for every cycle and topic."""

    consumer: Mapping[str, object]
    skip_lost: bool
    rules: RowRules
    interval: timedelta
    batch_size: int
    output: Output


@dataclass(eq=False)
class CollectTasks(beam.PTransform):
    """Collect what the tasks of some plans name.

    In: ``Task``. Out: the path of each log entry created. Between reading and the commit stand no
    GroupByKey and no state, so that rows go from the broker to a staged file in one bundle and no
    runner can hold a row back, or call one late and drop it.
    """

    options: GraphOptions

    def expand(self, tasks: PCollection[Task]) -> PCollection[str]:
        """Wire the steps."""
        o = self.options
        read = tasks | "ReadSlices" >> ReadSlices(o.consumer, o.skip_lost)  # chunks of messages
        decoded = read.chunks | "DecodeMessages" >> DecodeMessages(o.rules)  # chunks of rows
        dead_letters = decoded.dead_letters | "WriteDeadLetters" >> WriteDeadLetters()
        windowed = decoded.rows | "IntoWindows" >> IntoWindows(o.interval, o.batch_size)
        cut = windowed | "CutBatches" >> CutBatches(o.interval, o.batch_size)  # batches
        written = cut.batches | "WriteBatchFiles" >> WriteBatchFiles(o.output)  # reports
        accounts = (read.reports, decoded.reports, dead_letters, cut.reports, written)
        everything = [
            reports | f"Global{number}" >> beam.WindowInto(GlobalWindows())
            for number, reports in enumerate(accounts)
        ]
        return everything | "Accounts" >> beam.Flatten() | "CommitCycle" >> CommitCycle()
