"""Work tasks off for another process, which commits: give what the steps say of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import apache_beam as beam

from pipeline.running.local import run_steps
from transforms.elements.report import Report, add_up
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Sequence

    from apache_beam.pvalue import PCollection

    from pipeline.graph import CollectTasks
    from transforms.elements.plan import Task

__all__ = ["Accounted", "accounts_of"]


@dataclass(eq=False)
class Accounted(beam.PTransform):
    """The steps up to the commit.

    In: ``Task``. Out: nothing; their reports are kept by the process.
    """

    steps: CollectTasks

    def expand(self, tasks: PCollection[Task]) -> PCollection[None]:
        """Wire them."""
        return self.steps.accounts(tasks) | "Keep" >> beam.Map(_keep)


def accounts_of(tasks: Sequence[Task], steps: Accounted) -> list[Report]:
    """Work tasks off; return one report of each attempt.

    Raises:
        CollectionError: a step can't go on.
    """
    kept = current().kept(_keep, list[Report])
    kept.clear()
    run_steps(tasks, steps)
    return add_up(kept)


def _keep(report: Report) -> None:
    current().kept(_keep, list[Report]).append(report)
