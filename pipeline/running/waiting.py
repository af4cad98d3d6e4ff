"""Waiting for a job where it was submitted, until the engine itself says that it is over."""

from __future__ import annotations

import contextlib
import logging
import queue
import re
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import grpc
from apache_beam.portability.api import beam_job_api_pb2
from apache_beam.runners.runner import PipelineState

from batch_collection import errors
from pipeline.running import plan_cycle
from pipeline.running.outcome import OTHER_COLLECTOR, exit_code
from pipeline.running.signals import stopped_by_signals
from pipeline.showing.event_log import EventLog, importance
from pipeline.showing.lines import log_form, say
from transforms.process.events import Finished, GivenUp
from transforms.process.process import current

if TYPE_CHECKING:
    from batch_collection.errors import CollectionError
    from transforms.process.events import Event

__all__ = ["Heard", "Submitted", "hide_lost_engine"]


_OWN_END_SECONDS = 5  # what ends by itself is not cancelled
_CANCEL_SECONDS = 60
_ERROR = re.compile(r"batch_collection\.errors\.(\w+): (.*?)(?: \[while running|\\n|\n|$)")


def hide_lost_engine() -> None:
    """Let Beam's worker say nothing of having lost its engine: who waits says it, in a line."""
    threading.excepthook = _quiet_thread
    for handler in logging.getLogger().handlers:
        handler.addFilter(_is_not_of_lost_engine)


def _quiet_thread(failed: threading.ExceptHookArgs) -> None:
    if not isinstance(failed.exc_value, (grpc.RpcError, KeyError)):
        threading.__excepthook__(failed)


def _is_not_of_lost_engine(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], grpc.RpcError))


class _Word(NamedTuple):
    """The engine's own: the state that the job ended in, empty if the engine went away; and why."""

    state: str
    text: str = ""


@dataclass(eq=False)
class Heard:
    """An observer: what workers in this process tell, what the engine says, and signals.

    Attributes:
        topics: how many the job collects.
        verbose: show cycles, too, that had nothing to do.
        ends: why a topic is over, None where all of it is collected.
        is_stopped: a signal has come.
    """

    topics: int
    verbose: bool = False
    ends: dict[str, CollectionError | None] = field(default_factory=dict)
    is_stopped: bool = False
    _news: queue.SimpleQueue[_Word | None] = field(default_factory=queue.SimpleQueue)

    def __call__(self, event: Event) -> None:
        """Show a line a cycle, as the local drive does; how a topic ends is noted."""
        if isinstance(event, (Finished, GivenUp)):
            self._end(event.topic, event.error if isinstance(event, GivenUp) else None)
        elif log_form.as_json:
            EventLog()(event)
        elif (line := plan_cycle.line_of(event, verbose=self.verbose)) is not None:
            say(line, to=sys.stderr, level=importance(event))

    def _end(self, topic: str, error: CollectionError | None) -> None:
        if topic in self.ends:
            return
        self.ends[topic] = error
        if len(self.ends) == self.topics:
            self._news.put(None)
        elif error is not None:
            say(f"error: {error}; the others go on", to=sys.stderr)

    def stop(self) -> None:
        """Let the job be ended; safe in a signal handler."""
        self.is_stopped = True
        self._news.put(None)

    def listen(self, result: Any) -> None:
        """Wait for the end of the job."""
        try:
            word = _Word(result.wait_until_finish())
        except grpc.RpcError as error:
            word = _Word("", str(error.details()))
        except Exception as error:  # noqa: BLE001 - Beam raises what a job ends with as RuntimeError
            found = re.search(r"failed in state (\w+)", str(error))
            word = _Word(found[1] if found else PipelineState.FAILED, str(error))
        self._news.put(word)

    def word(self, seconds: float | None = None) -> _Word | None:
        """Wait for the engine's word; None if it takes longer, or if something else was heard."""
        with contextlib.suppress(queue.Empty):
            return self._news.get(timeout=seconds)
        return None

    @property
    def wrong(self) -> CollectionError | None:
        """The last error of those for which topics are given up."""
        return next((error for error in reversed(self.ends.values()) if error is not None), None)

    @property
    def has_all(self) -> bool:
        """Whether all of ``--once`` is collected."""
        return len(self.ends) == self.topics and self.wrong is None


@dataclass(frozen=True)
class Submitted:
    """A job that an engine has taken.

    Attributes:
        result: Beam's.
        name: the job's.
        where: the engine, as flags name it; empty for one that ends with this process.
        once: whether its end is no surprise.
    """

    result: Any
    name: str
    where: str
    once: bool

    def wait(self, heard: Heard) -> int:
        """Wait until the engine says that it is over; say why, and return the exit code.

        A signal cancels it, and so do workers in this process once all topics are over.
        """
        threading.Thread(target=heard.listen, args=(self.result,), daemon=True).start()
        with stopped_by_signals(
            heard.stop
        ):  # again: Beam has a handler for a Prism that it started
            word = heard.word()
            if word is None and not heard.is_stopped:
                word = heard.word(_OWN_END_SECONDS)
            if word is None:
                word = self._cancelled(heard)
        code, text = self._ended(heard, word)
        if text:
            say(text, to=sys.stderr)
        return code

    def _cancelled(self, heard: Heard) -> _Word | None:
        """Ask the engine to end it, and wait for its word."""
        current().stop.set()
        logging.getLogger("apache_beam").setLevel(logging.CRITICAL)  # of what is cut short
        asked = beam_job_api_pb2.CancelJobRequest(job_id=self.result._job_id)  # noqa: SLF001
        with contextlib.suppress(grpc.RpcError):
            # result.cancel() would end workers here before the engine lets go of them
            self.result._job_service.Cancel(asked, timeout=_CANCEL_SECONDS)  # noqa: SLF001
        deadline = time.monotonic() + _CANCEL_SECONDS
        word = None
        while word is None and (left := deadline - time.monotonic()) > 0:
            word = heard.word(left)
        return word

    def _ended(self, heard: Heard, word: _Word | None) -> tuple[int, str]:
        if heard.wrong is not None:
            return exit_code(heard.wrong), f"error: {heard.wrong}"
        is_over = word is not None and bool(word.state or not self.where)
        if (heard.has_all or heard.is_stopped) and not is_over:
            engine = self.where or "the engine"
            return 1, f"error: {engine} does not say that job {self.name} ended; {self.how}"
        if heard.has_all:
            return 0, ""
        if heard.is_stopped:
            return 0, "stopped; the next run goes on from here"
        return self._unasked(word or _Word(""))

    def _unasked(self, word: _Word) -> tuple[int, str]:
        """Say why a job has ended that nobody here has ended."""
        if not word.state:
            reason = f"the engine went away: {word.text}"
            return 1, f"error: {reason}; nothing is lost, the next run goes on from here"
        if word.state != PipelineState.DONE:
            return _reason(word.text)
        if self.once:
            return 0, ""
        return OTHER_COLLECTOR, (
            f"error: another collector works on what job {self.name} collected, so it has ended; "
            "its workers' log says which one"
        )

    @property
    def how(self) -> str:
        """How it is ended from somewhere else."""
        return f"end it there, as with flink list and flink cancel {self.name}'s id"


def _reason(text: str) -> tuple[int, str]:
    """Return the one line for users in what a runner says, its first where there is none."""
    found = _ERROR.search(text)
    if found is not None and found[1] in errors.BY_NAME:
        return exit_code(errors.BY_NAME[found[1]](found[2])), f"error: {found[2]}"
    return 1, f"error: {(text.strip() or 'the job failed').splitlines()[0]}"
