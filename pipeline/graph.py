"""The program: from tasks to log entries, one step a line. Every runner runs this graph."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.transforms.window import GlobalWindows

from transforms.commit_cycle import CommitCycle
from transforms.committing.redrive import commit_redrive
from transforms.cut_batches import CutBatches
from transforms.decode_messages import DecodeMessages
from transforms.into_windows import IntoWindows
from transforms.read_dead_letters import ReadDeadLetters
from transforms.write_batch_files import WriteBatchFiles
from transforms.write_dead_letters import WriteDeadLetters

if TYPE_CHECKING:
    from datetime import timedelta

    from apache_beam.pvalue import DoOutputsTuple, PCollection

    from transforms.decoding.rules import RowRules
    from transforms.elements.plan import Task
    from transforms.elements.report import Report
    from transforms.writing.layout import Output

__all__ = ["CollectTasks", "GraphOptions", "RedriveTasks"]


@dataclass(frozen=True, slots=True)
class GraphOptions:
    """What the steps need to know; the same for every cycle and topic.

    ``interval`` and ``batch_size`` are what Beam's windows and trigger are made of before there is
    a plan; all behind them takes those of the plan, which are the same.
    """

    rules: RowRules
    interval: timedelta
    batch_size: int
    output: Output


@dataclass(eq=False)
class CollectTasks(beam.PTransform):
    """Collect what the tasks of some plans name.

    In: ``Task``. Out: the path of each log entry created. Between reading and the commit stand no
    GroupByKey and no state, so that rows go from the broker to a staged file in one bundle and no
    runner can hold a row back, or call one late and drop it. The first step is ``ReadSlices``, or
    one that gives the same; it goes by its class's name.
    """

    reading: beam.PTransform
    options: GraphOptions

    def expand(self, tasks: PCollection[Task]) -> PCollection[str]:
        """Wire the steps."""
        return self.accounts(tasks) | "CommitCycle" >> CommitCycle()

    def accounts(self, tasks: PCollection[Task]) -> PCollection[Report]:
        """Wire what lies before the commit, for whoever commits elsewhere."""
        read = tasks | type(self.reading).__name__ >> self.reading  # chunks of messages
        return _reports(read, self.options)


@dataclass(eq=False)
class RedriveTasks(beam.PTransform):
    """Make batches of dead letters, by the same steps.

    In: ``Task`` of a ``RedrivePlan``. Out: the path of each log entry created.
    """

    options: GraphOptions

    def expand(self, tasks: PCollection[Task]) -> PCollection[str]:
        """Wire the steps."""
        read = tasks | "ReadDeadLetters" >> ReadDeadLetters()  # chunks of messages
        return _reports(read, self.options) | "CommitCycle" >> CommitCycle(commit_redrive)


def _reports(read: DoOutputsTuple, o: GraphOptions) -> PCollection[Report]:
    """Wire what lies between reading and the commit."""
    decoded = read.chunks | "DecodeMessages" >> DecodeMessages(o.rules)  # chunks of rows
    dead_letters = decoded.dead_letters | "WriteDeadLetters" >> WriteDeadLetters()
    windowed = decoded.rows | "IntoWindows" >> IntoWindows(o.interval, o.batch_size)
    cut = windowed | "CutBatches" >> CutBatches()  # batches
    written = cut.batches | "WriteBatchFiles" >> WriteBatchFiles(o.output)  # reports
    accounts = (read.reports, decoded.reports, dead_letters, cut.reports, written)
    everything = [
        reports | f"Global{number}" >> beam.WindowInto(GlobalWindows())
        for number, reports in enumerate(accounts)
    ]
    return everything | "Accounts" >> beam.Flatten()
