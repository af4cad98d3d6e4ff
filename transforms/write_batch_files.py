"""WriteBatchFiles: batches in, staged files and the reports on them out."""

from __future__ import annotations

import os
from collections import deque
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
from apache_beam.utils.windowed_value import WindowedValue

from batch_collection.storage.contract import TOGETHER, BundlingStorage
from batch_collection.storage.opening import open_storage
from transforms.cutting.cut import CARRY
from transforms.cutting.waiting import Carried, Spilled
from transforms.elements.observers import timed
from transforms.elements.report import Report, add_up
from transforms.process.process import current
from transforms.writing.rows import BatchRows
from transforms.writing.staging import (
    Together,
    bad_column,
    description,
    is_small,
    opening,
    stage,
    tell_staged,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from concurrent.futures import ThreadPoolExecutor

    from apache_beam.pvalue import PCollection

    from batch_collection.storage.contract import Storage
    from transforms.cutting.batch import Batch
    from transforms.elements.order import FileReport, Order
    from transforms.writing.layout import Output

    _Finish = Callable[[], dict[str, Any]]  # makes the file durable, gives its place
    _Encode = Callable[[], _Finish]  # writes the last rows

__all__ = ["ENCODERS", "MOST_CLOSING", "MOST_SMALL", "WriteBatchFiles"]

MOST_CLOSING = 8
"""Files of a process that are becoming durable at once, or groups of small ones."""
MOST_SMALL = 4 * MOST_CLOSING
"""As many where the small ones are far away: each of these takes little, and waits long."""
ENCODERS = min(os.cpu_count() or 1, 4)
"""Files of a process whose last block of rows is being encoded at once."""


@dataclass(eq=False)
class WriteBatchFiles(beam.PTransform):
    """Stage each batch as one file, under a name nobody else has; carry as an Arrow stream.

    In: ``Batch`` in its window. Out: one report an attempt, as its ``Order`` makes it, when the
    bundle ends, in the window of its last batch. A file's window is the Beam window of its batch.
    It is durable when its report is given; nobody reads it before the commit. Threads encode the
    last block of each file (``BatchRows``), which most have no other than, as many at once as there
    are CPUs, and let the storage make it durable; meanwhile the next file is written, and chunks
    are read and decoded. A small file of which rows wait far away is made by a thread from the
    beginning. Memory: ``ENCODERS`` blocks and one, of ``MOST_CLOSING`` files what their storage has
    not taken yet (``gcs_upload.PART``), and ``MOST_SMALL`` small files.

    Attributes:
        reports: the class of the orders' reports.
    """

    output: Output
    reports: type[FileReport] = Report

    def expand(self, batches: PCollection[Batch]) -> PCollection[FileReport]:
        """Wire it."""
        return batches | beam.ParDo(_WriteFn(self.output)).with_output_types(self.reports)


class _Closing(NamedTuple):
    """A report on ``what``, given once the file is encoded, then durable, or several are."""

    report: FileReport
    collection: str
    what: str
    file: Future[Future[dict[str, Any]]]
    bad: Callable[[], str | None] = lambda: None  # the column that is at fault, if one is
    is_light: bool = False  # a small file that is far away

    @property
    def is_done(self) -> bool:
        """Whether nothing has to be waited for."""
        done = self.file.done()
        return done and (self.file.exception() is not None or self.file.result().done())

    def given(self) -> FileReport:
        """Wait for the file; give the report, or why there is none."""
        try:
            report = self.report.wrote(**self.file.result().result())
            tell_staged(self.collection, report.batches)
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            return self.report.unwritten(error, self.what, self.bad())
        return report


@dataclass(slots=True)
class _Group:
    """Small files of one order, which become durable together; what is reported of them then."""

    order: Order
    what: str
    together: Together
    made: list[dict[str, Any]] = field(default_factory=list)

    def durable(self) -> dict[str, Any]:
        self.together.close()
        return _summed(self.made)


@dataclass(eq=False)
class _WriteFn(beam.DoFn):
    output: Output
    _group: _Group | None = None
    _closing: deque[_Closing] = field(default_factory=deque)
    _given: list[FileReport] = field(default_factory=list)
    _window: Any = None

    def start_bundle(self) -> None:
        self._closing = deque()
        self._given = []
        self._group = None

    def process(self, batch: Batch, window: Any = beam.DoFn.WindowParam) -> None:
        self._window = window
        report = batch.order.report()
        storage = open_storage(batch.order.collection)
        what = description(batch, self.output)
        if _is_far(storage, batch):
            file = _apart(storage, batch, self.output)
            fault = partial(bad_column, batch, self.output)
            self._take(_Closing(report, batch.order.collection, what, file, fault, is_light=True))
            return
        group = self._group_of(batch, storage, what)
        try:
            rows = BatchRows.of(batch)
            opens = opening(storage, rows.count, None if group is None else group.together)
            encodes = stage(opens, batch, rows, self.output)
            if batch.cut.timing != CARRY and not is_small(batch.cut.rows):
                with timed("write"):
                    self._wait_for_encoder()
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            bad = bad_column(batch, self.output)
            self._given.append(report.unwritten(error, what, bad))
            return
        if group is not None:
            self._put(group, encodes, report, what)
            return
        encoded = _encoded if is_small(batch.cut.rows) else _submitted
        is_light = storage.is_far and is_small(batch.cut.rows)
        for file in [encoded(encode, _closers(is_light=is_light)) for encode in encodes]:
            self._take(_Closing(report, batch.order.collection, what, file, is_light=is_light))

    def _group_of(self, batch: Batch, storage: Storage, what: str) -> _Group | None:
        """Return what a small file becomes durable with, where that is cheaper; None: alone."""
        if self._group is not None and self._group.order is not batch.order:
            self._close_group()
        if not is_small(batch.cut.rows) or not isinstance(storage, BundlingStorage):
            return None
        if self._group is None:
            self._group = _Group(batch.order, what, Together(storage))
        return self._group

    def _put(
        self, group: _Group, encodes: Iterable[_Encode], report: FileReport, what: str
    ) -> None:
        """Encode a small file, and put it with others."""
        try:
            group.made += [encode()() for encode in encodes]
        except Exception as error:  # noqa: BLE001 - whatever it is, other topics go on
            self._given.append(report.unwritten(error, what))
        if len(group.made) >= TOGETHER:
            self._close_group()

    def _close_group(self) -> None:
        group, self._group = self._group, None
        if group is not None and group.made:
            file = _begun(group.durable, _closers(is_light=False))
            self._take(_Closing(group.order.report(), group.order.collection, group.what, file))

    def _take(self, closing: _Closing) -> None:
        self._closing.append(closing)
        while self._closing and (self._is_full or self._closing[0].is_done):
            self._given.append(self._closing.popleft().given())

    @property
    def _is_full(self) -> bool:
        heavy = sum(not closing.is_light for closing in self._closing)
        return heavy > MOST_CLOSING or len(self._closing) > MOST_SMALL

    def _wait_for_encoder(self) -> None:
        """Wait until fewer than ``ENCODERS`` files are being encoded."""
        encoded = [closing.file for closing in self._closing if not closing.file.done()]
        if len(encoded) >= ENCODERS:
            wait(encoded, return_when=FIRST_COMPLETED)

    def finish_bundle(self) -> Iterator[WindowedValue]:
        self._close_group()
        self._given += (closing.given() for closing in self._closing)
        for report in add_up(self._given):
            yield WindowedValue(report, self._window.start, (self._window,))


def _is_far(storage: Storage, batch: Batch) -> bool:
    """Tell whether a batch is small, and some of its rows are to be fetched first."""
    sources = [segment.source for segment in batch.cut.segments]
    is_fetched = any(isinstance(source, Carried) for source in sources)
    is_shared = any(isinstance(source, Spilled) for source in sources)  # one thread's file
    return storage.is_far and is_small(batch.cut.rows) and is_fetched and not is_shared


def _apart(storage: Storage, batch: Batch, output: Output) -> Future[Future[dict[str, Any]]]:
    """Let a thread do all of a batch; return what its files are in the end."""

    def made() -> dict[str, Any]:
        opens = opening(storage, batch.cut.rows)
        encodes = stage(opens, batch, BatchRows.of(batch), output)
        return _summed([encode()() for encode in encodes])

    return _begun(made, _closers(is_light=True))


def _begun(made: _Finish, closers: ThreadPoolExecutor) -> Future[Future[dict[str, Any]]]:
    """Let a thread do what is left to do of some files, encoding among it."""
    begun: Future[Future[dict[str, Any]]] = Future()
    begun.set_result(closers.submit(made))
    return begun


def _summed(files: list[dict[str, Any]]) -> dict[str, Any]:
    """Put together what is reported of files."""
    return {
        name: tuple(chain.from_iterable(file.get(name, ()) for file in files))
        for name in ("batches", "carried")
    }


def _submitted(encode: _Encode, closers: ThreadPoolExecutor) -> Future[Future[dict[str, Any]]]:
    encoders = current().threads("encoding", ENCODERS)
    return encoders.submit(lambda: closers.submit(encode()))


def _encoded(encode: _Encode, closers: ThreadPoolExecutor) -> Future[Future[dict[str, Any]]]:
    """Encode a small file here, and let a thread do what has to be waited for."""
    encoded: Future[Future[dict[str, Any]]] = Future()
    try:
        encoded.set_result(closers.submit(encode()))
    except Exception as error:  # noqa: BLE001 - it is what the report says
        encoded.set_exception(error)
    return encoded


def _closers(*, is_light: bool) -> ThreadPoolExecutor:
    if is_light:
        return current().threads("closing small files", MOST_SMALL)
    return current().threads("closing", MOST_CLOSING)
