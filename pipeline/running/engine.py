"""The engine drive: the graph of ``graph.py`` behind ``PlanCycle``, submitted once."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import sys
import tempfile
import threading
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import apache_beam as beam
import grpc
from apache_beam.options.pipeline_options import GoogleCloudOptions, PipelineOptions
from apache_beam.runners.runner import PipelineState

from batch_collection import errors
from batch_collection.errors import CollectionError
from batch_collection.log.entry import Source
from batch_collection.paths import new_token
from pipeline.planning.opening import collect_tasks, open_topic
from pipeline.running import plan_cycle
from pipeline.running.coordinator import Coordinator
from pipeline.running.outcome import exit_code
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.event_log import EventLog, importance
from pipeline.showing.lines import log_form, say
from transforms.process.events import GivenUp
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta
    from typing import Any

    from apache_beam.pvalue import PCollection

    from pipeline.options.collect import CollectOptions
    from pipeline.options.engine import EngineOptions
    from pipeline.planning.topic import TopicCollection
    from transforms.process.events import Event

__all__ = ["CollectContinuously", "run_on_engine"]


_BUNDLE_SECONDS = 0.5  # what told of an error ends meanwhile; cancelled, it would show a traceback
_ERROR = re.compile(r"batch_collection\.errors\.(\w+): (.*?)(?: \[while running|\\n|\n|$)")


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
    told: queue.SimpleQueue[CollectionError] = queue.SimpleQueue()
    process = current()
    process.is_awaited = not engine.is_dataflow
    process.observers.append(partial(_show, told, verbose=options.verbose))
    try:
        with _packages(options, engine) as flags:
            pipeline = beam.Pipeline(options=PipelineOptions([*engine.flags, *flags]))
            _ = pipeline | "Collect" >> CollectContinuously(options, engine, new_token())
            result = pipeline.run()
    except (CollectionError, KeyboardInterrupt):
        raise
    except Exception as error:
        message = f"--runner={engine.runner} does not take the job: {_last_line(error)}"
        raise CollectionError(message) from error
    if engine.is_dataflow:
        _say(_submitted(result, pipeline.options))
        return 0
    return _waited_for(result, told, len(options.source.names))


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


def _waited_for(result: Any, told: queue.SimpleQueue[CollectionError], topics: int) -> int:
    """Wait until the job ends; a signal cancels it, and so do its workers here.

    They tell an error for each topic for which no more is planned.
    """
    stopped, wrong = threading.Event(), list[CollectionError]()

    def cancel() -> None:
        threading.excepthook = _quiet_thread
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)
        current().stop.set()
        with contextlib.suppress(Exception):  # Ctrl-C reaches a Prism of ours, too
            result.cancel()

    def stop() -> None:
        stopped.set()
        cancel()

    def watch() -> None:
        _hear(told, wrong, topics)
        stopped.wait(_BUNDLE_SECONDS)
        cancel()

    threading.Thread(target=watch, daemon=True).start()
    try:
        with stopped_by_signals(stop):
            state = result.wait_until_finish()
    except Exception as error:  # noqa: BLE001 - Beam raises what the job failed with as RuntimeError
        state, failure = PipelineState.FAILED, str(error)
    else:
        failure = f"the job ended as {state}"
    if stopped.is_set():
        _say("stopped; the next run goes on from here")
        return 0
    if wrong:
        _say(f"error: {wrong[0]}")
        return exit_code(wrong[0])
    if state == PipelineState.DONE:
        return 0
    _say(f"error: {_reason(failure)}")
    return 1


def _hear(
    told: queue.SimpleQueue[CollectionError], wrong: list[CollectionError], topics: int
) -> None:
    """Wait until all topics are in trouble."""
    while len(wrong) < topics:
        wrong.append(told.get())
        if len(wrong) < topics:
            _say(f"error: {wrong[-1]}; the others go on")


def _show(told: queue.SimpleQueue[CollectionError], event: Event, *, verbose: bool = False) -> None:
    """Show a line a cycle where the workers run in this process, as the local drive does.

    Of a topic that is given up, whoever waits for the job hears.
    """
    if isinstance(event, GivenUp):
        told.put(event.error)
    elif log_form.as_json:
        EventLog()(event)
    elif (line := plan_cycle.line_of(event, verbose=verbose)) is not None:
        say(line, to=sys.stderr, level=importance(event))


def _quiet_thread(failed: threading.ExceptHookArgs) -> None:
    """Say nothing of threads of Beam's worker that lose their engine as a job is cancelled."""
    if not isinstance(failed.exc_value, (grpc.RpcError, KeyError)):
        threading.__excepthook__(failed)


def _reason(text: str) -> str:
    """Return the one line for users in what a runner says; all of it where there is none."""
    found = _ERROR.search(text)
    if found is not None and found[1] in errors.BY_NAME:
        return found[2]
    return text.strip() or "the job failed"


def _last_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[-1]


def _submitted(result: Any, options: PipelineOptions) -> str:
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
