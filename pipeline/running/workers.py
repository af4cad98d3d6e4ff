"""Processes that work tasks off beside each other; the one that has them alone commits.

Each is new, not a fork, and takes a ``Job`` after the other through a pipe; back come the events of
its steps, what libraries log, and an ``Answer``. What they are to do, secrets among it, goes
through the pipe alone. They heed no signal of the system's but SIGKILL: whoever has them decides,
and they end with its end of the pipe.
"""

from __future__ import annotations

import logging
import signal
import subprocess
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Pipe, wait
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import CollectionError, StoppedError
from batch_collection.parallel import outcomes
from pipeline.running.shares import Account, shared_out
from transforms.process.events import Away, Note
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from pipeline.graph import CollectTasks
    from pipeline.running.shares import Closed
    from transforms.elements.failure import Failure
    from transforms.elements.plan import Task
    from transforms.elements.report import Report
    from transforms.process.events import Event

__all__ = ["Broken", "Done", "Failed", "Job", "Logged", "Workers", "workers_of"]


class Job(NamedTuple):
    """Tasks to be worked off by some steps; None: by those of the job before."""

    tasks: Sequence[Task]
    steps: CollectTasks | None


class Done(NamedTuple):
    """What came of the tasks of a job: the sum of what was reported of each attempt."""

    reports: Sequence[Report]


class Failed(NamedTuple):
    """What a user can mend, or what may pass, has kept a job from being done."""

    failure: Failure


class Broken(NamedTuple):
    """A fault of this program, or of a user's function, did: Python's own words for it."""

    traceback: str


class Logged(NamedTuple):
    """What a library has logged."""

    logger: str
    level: int
    text: str


if TYPE_CHECKING:
    Answer = Done | Failed | Broken
    Told = Answer | Logged | Event

_HELD_BACK = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_POLL_SECONDS = 0.1
_MOST_DEATHS = 3
_MORE_MEMORY = (
    "lower --max_messages_per_cycle or --direct_num_workers, or give this machine more memory"
)
_BEGIN = (  # without the working directory, where anything may be called as a module of Python's
    "import sys; sys.path = [each for each in sys.path if each]; "
    "from multiprocessing.connection import Connection; "
    "pipe = Connection(int(sys.argv[1])); sys.path = pipe.recv(); "
    "from pipeline.running.worker import work; work(pipe)"
)


class Workers:
    """Some processes, which are started when they are wanted, and again when they have died."""

    def __init__(self, count: int) -> None:
        """Begin with none of ``count``."""
        self._count = count
        self._workers: list[_Worker] = []

    def start(self) -> None:
        """Start those that aren't there; each takes a second to import Beam, and isn't waited for.

        Guarantee: they end when this process does, whatever ends it, within about that time.
        """
        while len(self._workers) < self._count:
            self._workers.append(_Worker())

    def close(self) -> None:
        """End them, whatever they are at."""
        for worker in self._workers:
            worker.end()
        self._workers.clear()

    def heed(self, event: Event) -> None:
        """Take an event: connections to a source that was away may be dead, and are given up."""
        if isinstance(event, Away) and event.is_of_source:
            for worker in self._workers:
                worker.steps = None

    def run_steps(self, tasks: Sequence[Task], steps: CollectTasks) -> None:
        """Run steps over tasks, and commit what comes of them here: each plan once it is whole.

        Guarantee: the log is as if one process had run them. What a worker is at when it dies is
        worked off again by another, under new attempts, of which one counts.

        Raises:
            CollectionError: the first thing that kept a plan from being committed; others are.
            StoppedError: this process is to stop.
        """
        self.start()
        try:
            errors = _Shift(self._workers, tasks, steps).run(self._count)
        except BaseException:
            self.close()  # some may be at work
            raise
        if errors:
            raise errors[0]


def workers_of(count: int) -> Workers:
    """Return the workers that this process keeps: started once, while Beam is imported here."""
    return current().kept((Workers, count), partial(Workers, count), Workers.close)


class _Worker:
    """A process and its pipe.

    Attributes:
        steps: those that it has.
    """

    def __init__(self) -> None:
        self.pipe, theirs = Pipe()
        self.steps: CollectTasks | None = None
        self.pipe.send(sys.path)  # before it runs: it has that, even if this process dies now
        with theirs, _held_back():
            self._process = subprocess.Popen(  # noqa: S603 - this program
                [sys.executable, "-c", _BEGIN, str(theirs.fileno())],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    @property
    def is_over(self) -> bool:
        return self._process.poll() is not None

    def give(self, tasks: Sequence[Task], steps: CollectTasks) -> None:
        """Give it a job; if it is dead, ``hear`` says so."""
        with suppress(OSError):
            self.pipe.send(Job(tasks, None if steps is self.steps else steps))
        self.steps = steps

    def stop(self) -> None:
        """Tell it that what it is at is to be given up."""
        with suppress(OSError):
            self.pipe.send(None)

    def hear(self) -> Told | None:
        """Return the next that it has told; None: it has ended."""
        try:
            told: Told = self.pipe.recv()
        except (EOFError, OSError):
            return None
        return told

    def end(self) -> None:
        """Kill it, which costs nothing: it holds nothing that is not worked off again."""
        self.pipe.close()
        self._process.kill()
        self._process.wait()

    def buried(self) -> tuple[str, str]:
        """Say how it has ended, once it has, and what to do if others end like it."""
        self.end()
        code, who = self._process.returncode, f"a worker (pid={self._process.pid})"
        if code == -signal.SIGKILL:
            how = "was killed (SIGKILL, as the system does where memory is short)"
            return f"{who} {how}", _MORE_MEMORY
        how = f"ended (exit code {code})" if code >= 0 else f"died ({signal.Signals(-code).name})"
        return f"{who} {how}", "leave --direct_num_workers out to see why"


@contextmanager
def _held_back() -> Iterator[None]:
    """Let who is started meanwhile hear no signals, from its first instruction on.

    Those that come to this process are late by a moment, and not lost.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _HELD_BACK)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@dataclass(eq=False, slots=True)
class _Share:
    """What one worker is to do, and how many have died of it."""

    tasks: Sequence[Task]
    deaths: int = 0


class _Shift:
    """Some tasks on their way through workers into the log."""

    def __init__(self, workers: list[_Worker], tasks: Sequence[Task], steps: CollectTasks) -> None:
        self._workers, self._tasks, self._steps = workers, tasks, steps
        self._account = Account(tasks)
        self._errors: list[CollectionError] = []
        self._busy: dict[_Worker, _Share] = {}
        self._logged: set[Logged] = set()

    def run(self, count: int) -> list[CollectionError]:
        """Work all off, ``count`` shares at once; return what went wrong."""
        for worker, tasks in zip(self._workers, shared_out(self._tasks, count), strict=False):
            self._give(worker, _Share(tasks))
        is_told = False
        while self._busy:
            over = [worker for worker in self._busy if worker.is_over]  # before it is listened to
            ready = wait([worker.pipe for worker in self._busy], _POLL_SECONDS)
            if not is_told and current().stop.is_set():
                is_told = True
                for worker in self._busy:
                    worker.stop()
            for worker in list(self._busy):
                if worker.pipe in ready:
                    self._take(worker, worker.hear())
                elif worker in over:  # a process of its own may hold the other end
                    self._take(worker, None)
        return self._errors

    def _give(self, worker: _Worker, share: _Share) -> None:
        self._busy[worker] = share
        worker.give(share.tasks, self._steps)

    def _take(self, worker: _Worker, told: Told | None) -> None:
        """Act on what a worker has told."""
        match told:
            case None:
                self._replace(worker, self._busy.pop(worker))
            case Done(reports):
                closed = self._account.add(self._busy.pop(worker).tasks, reports)
                self._commit(closed)
            case Failed(failure):
                del self._busy[worker]
                self._errors.append(failure.error())
            case Broken(traceback):
                message = f"a worker broke off:\n{traceback}"
                raise RuntimeError(message)
            case Logged(logger, level, text):
                if told not in self._logged:  # the others have much the same to say
                    self._logged.add(told)
                    logging.getLogger(logger).log(level, "%s", text)
            case _:
                _tell(told)

    def _commit(self, closed: Sequence[Closed]) -> None:
        """Commit plans of several collections at once: their storages are waited for."""
        from transforms.committing.commit import commit  # noqa: PLC0415 - as below

        for outcome in outcomes(lambda each: commit(*each), closed):
            try:
                outcome.result()
            except CollectionError as error:
                self._errors.append(error)

    def _replace(self, worker: _Worker, share: _Share) -> None:
        """Give what a worker was at when it died to a new one, unless others died of it as well.

        Raises:
            StoppedError: this process is to stop.
        """
        how, cure = worker.buried()
        self._workers.remove(worker)
        share.deaths += 1
        if current().stop.is_set():
            message = f"stopped; {how}"
            raise StoppedError(message)
        if share.deaths < _MOST_DEATHS:
            _tell(Note(f"{how}; another one does its part of the cycle again"))
            self._workers.append(_Worker())
            self._give(self._workers[-1], share)
        else:
            others = _MOST_DEATHS - 1
            message = f"{how}, after {others} others at the same part of a cycle; {cure}"
            self._errors.append(CollectionError(message))


def _tell(event: Event) -> None:
    from transforms.elements.observers import tell  # noqa: PLC0415 - imports Beam, before a start

    tell(event)
