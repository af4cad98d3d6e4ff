"""An engine's job for one topic, driven by hand: each look, and each run of tasks."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from batch_collection.paths import outcome_path
from batch_collection.storage.local import LocalStorage
from pipeline.commands import collect as collect_command
from pipeline.options.flags import Parser
from pipeline.planning.opening import collect_tasks, open_topic
from pipeline.running.coordinator import Coordinator, Flight, Look
from pipeline.running.local import run_steps
from pipeline.running.plan_cycle import line_of
from tests.builders import at
from tests.collecting import json_of
from transforms.elements.failure import Failure

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.planning.topic import TopicCollection
    from tests.collecting import Stream

__all__ = ["Job", "lines_of"]

BEGIN = at("10:30:02")
TIMEOUT = timedelta(seconds=40)


def lines_of(look: Look) -> list[str]:
    """Return what a job's log says of a look."""
    return [line for line in map(line_of, look.events) if line is not None]


@dataclass
class Job:
    """An engine's job for one topic, driven by hand: each look, and each run of tasks."""

    stream: Stream
    output: Path
    run: str = "job"
    flags: tuple[str, ...] = ()
    now: datetime = BEGIN
    flight: Flight = field(init=False)
    broken: Exception | None = None

    def __post_init__(self) -> None:
        """Read the flags as the command line does."""
        self.flight = Flight(self.run)
        parser = Parser()
        collect_command.configure(parser)
        words = (
            f"--bootstrap_servers={self.stream.broker.bootstrap_servers}",
            f"--topics={self.stream.name}",
            f"--output={self.output}",
            "--interval=10s",
            *self.flags,
        )
        self.options = collect_command.check(parser.parse_args(words))
        self.restart()

    def restart(self) -> None:
        """Let another worker look from now on."""
        options = self.options
        self.coordinator = Coordinator(
            self.stream.name,
            self._open,
            TIMEOUT,
            once=options.once,
            flush=options.flush,
            clock=lambda: self.now,
        )

    def _open(self, run: str) -> TopicCollection:
        if self.broken is not None:
            raise self.broken
        (source,) = self.options.source.connect().sources([self.stream.name])
        topic = open_topic(self.options, source, run)
        topic.clock = lambda: self.now
        return topic

    @property
    def path(self) -> Path:
        """The collection."""
        return self.output / self.stream.name

    def look(self, clock: str = "") -> Look:
        """Look, and remember what the look says."""
        self.now = at(clock) if clock else self.now
        look = self.coordinator.look(self.flight)
        self.flight = look.flight
        return look

    def work(self, look: Look) -> None:
        """Run a look's tasks to their commit."""
        run_steps(look.tasks, collect_tasks(self.options))

    def fail(self, look: Look, kind: str, limit: int | None = None) -> None:
        """Leave the note of a plan that failed."""
        plan = look.tasks[0].plan
        failure = Failure(kind, "it broke", {}, limit)
        storage = LocalStorage(str(self.path))
        storage.replace(outcome_path(plan.cycle, plan.id), json_of(failure._asdict()))
