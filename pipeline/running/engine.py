"""The engine drive: the graph of ``graph.py`` behind ``PlanCycle``, submitted once."""

from __future__ import annotations

import contextlib
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions

from batch_collection.errors import CollectionError
from batch_collection.log.entry import Source
from batch_collection.paths import new_token
from pipeline.options.job_server import flags_of
from pipeline.planning.opening import collect_tasks, open_topic
from pipeline.running import plan_cycle
from pipeline.running.coordinator import Coordinator
from pipeline.running.signals import stopped_by_signals
from pipeline.running.waiting import Heard, Submitted, hide_lost_engine
from pipeline.showing.lines import say
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from typing import Any

    from apache_beam.pvalue import PCollection

    from pipeline.options.collect import CollectOptions
    from pipeline.options.engine import EngineOptions
    from pipeline.planning.topic import TopicCollection

__all__ = ["CollectContinuously", "run_on_engine"]


_RETRIES, _CHECKPOINTS = "--number_of_execution_retries", "--checkpointing_interval"  # of Flink
_MOST_RETRIES = 100  # in a job's life, so that one whose workers are gone ends some day
_RETRY_MILLISECONDS = 10_000


@dataclass(frozen=True, slots=True)
class _Coordinators:
    """Makes the coordinator of a topic, on the worker, from options alone."""

    options: CollectOptions
    cycle_timeout: timedelta

    def __call__(self, topic: str) -> Coordinator:
        options = self.options

        def opened(run_id: str) -> TopicCollection:
            connection = options.source.connect()
            try:
                (source,) = connection.sources([topic])
                return open_topic(options, source, run_id)
            except CollectionError:
                connection.close()
                raise

        stream = Source(options.source.kind, topic).stream
        return Coordinator(
            topic, opened, self.cycle_timeout, stream, once=options.once, flush=options.flush
        )


@dataclass(eq=False)
class CollectContinuously(beam.PTransform):
    """Collect topics for ever, or until nothing is left of ``--once``.

    In: the pipeline's begin. Out: the path of each log entry that tasks came to. Names of steps are
    part of the interface: a running job can be updated.
    """

    options: CollectOptions
    engine: EngineOptions
    run_id: str

    def expand(self, begin: Any) -> PCollection[str]:
        """Wire the steps."""
        starts = [(topic, self.run_id) for topic in self.options.source.names]
        on_workers = replace(self.options, engine=None)
        coordinators = _Coordinators(on_workers, self.engine.cycle_timeout)
        raises = not self.engine.is_dataflow  # there a streaming job is tried again for ever
        shared = len(starts) > 1
        return (
            begin
            | "Collections" >> beam.Create(starts, reshuffle=False)  # topic, run
            | "PlanCycle"
            >> plan_cycle.PlanCycle(
                coordinators, raises, shared, self.options.verbose
            )  # tasks, of one cycle at a time
            | "Reshuffle" >> beam.Reshuffle()  # a task a worker
            | "CollectTasks" >> collect_tasks(self.options)  # entries' paths
        )


def run_on_engine(options: CollectOptions, engine: EngineOptions) -> int:
    """Submit the job, and wait for its end unless it goes on without us; return the exit code.

    Raises:
        CollectionError: the engine doesn't take it.
    """
    engine = _for_flink(engine, once=options.once)
    heard = Heard(len(options.source.names), verbose=options.verbose)
    process = current()
    process.is_awaited = not (engine.is_dataflow or engine.is_detached)
    process.observers.append(heard)
    hide_lost_engine()
    stoppable = stopped_by_signals(heard.stop) if process.is_awaited else contextlib.nullcontext()
    with stoppable:
        result, given = _submit(options, engine)
        if engine.is_dataflow:
            _say(_on_dataflow(result, given))
            return 0
        name = given.view_as(GoogleCloudOptions).job_name
        job = Submitted(result, name, engine.job_endpoint, options.once)
        if engine.is_detached:
            _say(f"job {name} runs on {engine.job_endpoint}; {job.how}; nothing is lost")
            return 0
        return job.wait(heard)


@contextlib.contextmanager
def _packages(options: CollectOptions, engine: EngineOptions) -> Iterator[list[str]]:
    """Give the flags that let Dataflow's workers install what the source needs beside our package.

    Beam's own images have it, but not all that users make; where it is there nothing is installed.
    """
    wanted = options.source.packages
    is_theirs = any(flag.startswith("--requirements_file") for flag in engine.flags)
    if not wanted or is_theirs or not engine.is_dataflow:
        yield []
        return
    with tempfile.TemporaryDirectory() as folder:
        listed = Path(folder, "requirements.txt")
        listed.write_text("".join(f"{each}\n" for each in wanted), encoding="utf-8")
        yield [f"--requirements_file={listed}", "--requirements_cache=skip"]


def _for_flink(engine: EngineOptions, *, once: bool) -> EngineOptions:
    """Let Flink start a failed job again, and say so; and let no task wait for another.

    Checkpoints would let it, too, but with them its sources never end, and a job with nothing left
    to do goes on. Nothing rests on them: a job that begins anew goes on where the log ends.

    Raises:
        CollectionError: with ``--once`` nobody would end the job.
    """
    offered = flags_of(engine.job_endpoint) if engine.has_server else {}
    given = {word.partition("=")[0] for word in engine.flags}
    if engine.runner != "FlinkRunner" and _RETRIES not in offered:
        return engine
    if _CHECKPOINTS in given and once and not engine.has_workers_here:
        message = (
            f"with {_CHECKPOINTS} a job with --once does not end whose workers are elsewhere; "
            "leave it out: a job that fails is started again without it, from where the log ends"
        )
        raise CollectionError(message)
    more: tuple[str, ...] = ("--max_bundle_size=1",)  # else a bundle ends after a second
    if _CHECKPOINTS in given:
        # what a bundle gives while a checkpoint ends it waits for the next one, and may be the last
        more += ("--finish_bundle_before_checkpointing",)
    elif _RETRIES not in given:
        retrying = (f"{_RETRIES}={_MOST_RETRIES}", f"--execution_retry_delay={_RETRY_MILLISECONDS}")
        _say(f"Flink starts a job that fails again, from where the log ends: {' '.join(retrying)}")
        more += retrying
    lacking = (each for each in more if each.partition("=")[0] not in given)
    return replace(engine, flags=(*engine.flags, *lacking))


def _submit(options: CollectOptions, engine: EngineOptions) -> tuple[Any, PipelineOptions]:
    """Hand the job in.

    Raises:
        CollectionError: the engine doesn't take it.
    """
    try:
        with _packages(options, engine) as flags:
            pipeline = beam.Pipeline(options=PipelineOptions([*engine.flags, *flags]))
            _ = pipeline | "Collect" >> CollectContinuously(options, engine, new_token())
            return pipeline.run(), pipeline.options
    except CollectionError:
        raise
    except Exception as error:
        message = f"--runner={engine.runner} does not take the job: {_last_line(error)}"
        raise CollectionError(message) from error


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _on_dataflow(result: Any, options: PipelineOptions) -> str:
    """Say where a job can be seen and how it ends."""
    cloud = options.view_as(GoogleCloudOptions)
    if cloud.template_location:
        return f"template written to {cloud.template_location}"
    job, region, project = result.job_id(), cloud.region, cloud.project
    where = f"https://console.cloud.google.com/dataflow/jobs/{region}/{job}?project={project}"
    end = f"gcloud dataflow jobs cancel {job} --region={region} --project={project}"
    return f"job {job} runs on Dataflow: {where}\nend it with: {end}; nothing is lost"


def _say(text: str) -> None:
    say(*text.split("\n"), to=sys.stderr)
