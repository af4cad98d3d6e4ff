"""A worker's process: it works off what comes through its pipe, and ends when the pipe does.

It is started by ``Workers``, which says what goes through the pipe. It imports nothing heavy before
it has said what is to be quiet.
"""

from __future__ import annotations

import logging
import os
import queue
import sys
import threading
import traceback
from contextlib import ExitStack
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from batch_collection.loading import load_for_good
from pipeline.running.workers import Broken, Done, Failed, Job, Logged
from pipeline.showing.quiet import keep_quiet
from pipeline.showing.streams import forgiven_output, hold_streams

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from pipeline.running.accounting import Accounted
    from pipeline.running.workers import Answer, Told

__all__ = ["work"]


def work(pipe: Connection) -> None:
    """Do jobs one after the other until the pipe ends, which ends the process, whatever it is at.

    Guarantee: nothing outlives the process at the other end, however that ends. Nothing is lost by
    that: what is staged and in no entry is nobody's.
    """
    os.set_inheritable(pipe.fileno(), False)  # noqa: FBT003 - it takes no keywords
    hold_streams()
    parent = _Parent(pipe)
    keep_quiet(_Handler(parent))
    load_for_good("pipeline.running.accounting")
    jobs, stop = queue.SimpleQueue["Job"](), threading.Event()
    listener = threading.Thread(target=_listen, args=(pipe, parent, jobs, stop), daemon=True)
    listener.start()
    with forgiven_output():
        _do(jobs, parent, stop)


def _do(jobs: queue.SimpleQueue[Job], parent: _Parent, stop: threading.Event) -> None:
    from pipeline.running.accounting import Accounted  # noqa: PLC0415 - imports Beam
    from transforms.process.process import new_process  # noqa: PLC0415 - as above

    kept = ExitStack()
    while True:
        job = jobs.get()
        if job.steps is not None:  # all that belongs to the last ones goes, connections too
            kept.close()
            kept.enter_context(new_process(stop)).observers.append(parent.tell)
            steps = Accounted(job.steps)
        parent.tell(_answer(job, steps))


def _answer(job: Job, steps: Accounted) -> Answer:
    from pipeline.running.accounting import accounts_of  # noqa: PLC0415 - imports Beam
    from transforms.elements.failure import Failure  # noqa: PLC0415 - as above

    try:
        return Done(accounts_of(job.tasks, steps))
    except CollectionError as error:
        return Failed(Failure.of(error))
    except Exception:  # noqa: BLE001 - whatever it is, it is the parent's to end with it
        return Broken(traceback.format_exc())
    finally:
        sys.stdout.flush()  # a user's function may print


class _Parent:
    """The process at the other end of the pipe; any thread may tell it something."""

    def __init__(self, pipe: Connection) -> None:
        self._pipe, self._lock = pipe, threading.Lock()

    def tell(self, told: Told) -> None:
        """Tell it, and wait until it has taken that; where it is no more, end."""
        try:
            with self._lock:
                self._pipe.send(told)
        except OSError:
            os._exit(0)


class _Handler(logging.Handler):
    """Hands on what libraries log."""

    def __init__(self, parent: _Parent) -> None:
        super().__init__()
        self.setFormatter(logging.Formatter())  # else root's default, with the level in it
        self._parent = parent

    def emit(self, record: logging.LogRecord) -> None:
        self._parent.tell(Logged(record.name, record.levelno, self.format(record)))


def _listen(
    pipe: Connection, parent: _Parent, jobs: queue.SimpleQueue[Job], stop: threading.Event
) -> None:
    """Take jobs, and the word to stop, as they come; when nothing comes any more, end."""
    try:
        while True:
            job = pipe.recv()
            if job is None:
                stop.set()
            else:
                jobs.put(job)
    except (EOFError, OSError):
        os._exit(0)
    except BaseException:  # noqa: BLE001 - what can't be read is told, and the process ends
        parent.tell(Broken(traceback.format_exc()))
        os._exit(1)
