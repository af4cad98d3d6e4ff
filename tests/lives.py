"""Lives of collections: cycles that close windows and give rows to others, settled and committed.

Nothing reads a topic: a cycle is told which windows its rows belong to.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
from hypothesis import strategies as st

from batch_collection.checkpoints.making import keep_up
from batch_collection.formats.known import FORMATS
from batch_collection.log.entries import create_entry, digest, read_entries, read_entry
from batch_collection.log.entry import FORMAT, FORMS, BatchFile, Entry, PartitionRead
from batch_collection.paths import WINDOWS, batch_path, entry_path, new_token, staged_path
from batch_collection.publishing.publish import publish
from batch_collection.storage.checksum import ChecksumFile
from batch_collection.windows import parse_instant
from tests.builders import at, first_entry
from transforms.committing.commit import commit
from transforms.committing.settle import settle
from transforms.cutting.cut import timing_of
from transforms.elements.plan import Plan
from transforms.elements.report import Report, WrittenBatch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batch_collection.log.entry import Pane
    from batch_collection.storage.contract import Storage

__all__ = ["HOUR", "LIVES", "Life", "Step", "panes_by_window"]

HOUR = timedelta(hours=1)
FIRST = at("00:00:00")


class Step(NamedTuple):
    """A cycle: by how many windows the boundary goes on, None: there is none yet.

    ``windows`` gives where rows belong, counted from the boundary. ``forgetful``: by a version that
    forgot early panes far ahead.
    """

    on: int | None
    windows: tuple[int, ...] = ()
    forgetful: bool = False


def _steps(*, may_forget: bool) -> st.SearchStrategy[Step]:
    far = st.sampled_from([-30, -29, -2, -1, 0, 1, 5, 23, 26, 28, 29, 60])
    windows = st.lists(far, max_size=4).map(tuple)
    on = st.sampled_from([None, 0, 1, 1, 2, 29, 31])
    return st.builds(Step, on, windows, st.booleans() if may_forget else st.just(value=False))


def LIVES(*, may_forget: bool = False) -> st.SearchStrategy[list[Step]]:  # noqa: N802 - a strategy
    """Return what may befall a collection; versions that forget come before those that don't."""
    steps = st.lists(_steps(may_forget=may_forget), min_size=1, max_size=14)
    return steps.map(lambda life: sorted(life, key=lambda step: not step.forgetful))


@dataclass(slots=True)
class Life:
    """A collection of windows of an hour, so that a day ahead is not many of them."""

    storage: Storage
    newest: Entry
    boundary: datetime | None = None
    format: int = FORMAT

    @classmethod
    def begun(cls, storage: Storage, format_: int = FORMAT) -> Life:
        """Begin one."""
        entry = first_entry(
            committed_at=FIRST,
            interval=HOUR,
            schema={"value": "int64"},
            format=format_,
            **FORMS[format_]._asdict(),
        )
        return cls(storage, create_entry(storage, entry), format=format_)

    def live(self, steps: Sequence[Step]) -> None:
        """Go through some cycles."""
        for step in steps:
            self.cycle(step)

    def cycle(self, step: Step) -> Entry:
        """Go through one; each row is a batch of its own."""
        if step.on is not None:
            self.boundary = (self.boundary or FIRST) + step.on * HOUR
        origin = self.boundary or FIRST
        plan = self._plan()
        batches = tuple(
            self._batch(plan, origin + window * HOUR, number)
            for number, window in enumerate(step.windows)
        )
        report = self._report(plan, batches)
        if step.forgetful:
            self._commit_forgetfully(plan, report)
        else:
            assert commit(plan, [report]) is not None
        self.newest = read_entry(self.storage, plan.cycle)
        return self.newest

    def files_by_window(self) -> dict[datetime, list[str]]:
        """Return the paths of the batches of each closed window, by the log."""
        end = self.newest.boundary
        return {
            start: [file.path for _, pane in panes for file in pane.files]
            for start, panes in panes_by_window(self.entries).items()
            if end is not None and start + HOUR <= end
        }

    def manifests(self) -> dict[datetime, list[str]]:
        """Return the paths that the newest manifest of each window names."""
        newest: dict[str, dict[str, Any]] = {}
        for path in self.storage.list(WINDOWS):
            manifest = json.loads(self.storage.read(path))
            start = manifest["window_start"]
            if start not in newest or newest[start]["revision"] < manifest["revision"]:
                newest[start] = manifest
        return {
            parse_instant(start): [file["path"] for file in manifest["files"]]
            for start, manifest in newest.items()
        }

    @property
    def entries(self) -> list[Entry]:
        """The log, from its first entry on."""
        return list(read_entries(self.storage, 0, self.newest.cycle))

    def _plan(self) -> Plan:
        now = (self.boundary or FIRST) + timedelta(seconds=2)
        return Plan(
            collection=self.storage.uri,
            cycle=self.newest.cycle + 1,
            run="run",
            id=new_token(),
            cause="interval",
            planned_at=now,
            interval=HOUR,
            batch_size=1000,
            boundary=self.boundary,
            previous_boundary=self.newest.boundary,
            ahead_limit=now,
            schema={"value": "int64"},
            tasks=1,
            format=self.format,
            form=FORMS[self.format],
        )

    def _report(self, plan: Plan, batches: tuple[WrittenBatch, ...]) -> Report:
        count, start = len(batches), self.newest.ends[0]
        read = PartitionRead(0, start, start + count, messages=count)
        decoded = replace(read, rows=count)
        return Report(
            plan,
            0,
            "a",
            read=True,
            cut=True,
            reads=(read,),
            decoded=(decoded,) if count else (),
            batches=batches,
        )

    def _batch(self, plan: Plan, start: datetime, number: int) -> WrittenBatch:
        path = batch_path(start, plan.cycle, 0, number, new_token(), ".parquet")
        staged, offset = staged_path(plan.cycle, path), self.newest.ends[0] + number
        table = pa.table(
            {
                "value": pa.array([offset]),
                "_partition": pa.array([0], pa.int32()),
                "_offset": pa.array([offset], pa.int64()),
                "_timestamp": pa.array([start], pa.timestamp("ms", "UTC")),
            }
        )
        with ChecksumFile(self.storage.write(staged)) as sink:
            writer = FORMATS["parquet"].writer(sink, table.schema, "zstd")
            writer.write(table)
            writer.close()
        file = BatchFile(
            path, staged, 1, sink.bytes, sink.crc32c, start, start, {0: (offset, offset, 1)}
        )
        return WrittenBatch(start, timing_of(plan, start + HOUR), number, file)

    def _commit_forgetfully(self, plan: Plan, report: Report) -> None:
        """Commit as versions did that had no ``forgotten`` and ``unsure``."""
        before = replace(self.newest, forgotten=None, unsure=None)
        previous = digest(self.storage.read(entry_path(self.newest.cycle)))
        entry = settle(plan, before, previous, [report], plan.planned_at)
        assert isinstance(entry, Entry)
        fields = json.loads(entry.to_json())
        for name in ("forgotten", "unsure"):
            del fields[name]
        self.storage.create(entry_path(entry.cycle), json.dumps(fields).encode())
        publish(self.storage, replace(entry, unsure=None))
        keep_up(self.storage, entry.cycle)


def panes_by_window(entries: Sequence[Entry]) -> dict[datetime, list[tuple[Entry, Pane]]]:
    """Return all panes of each window, in the log's order."""
    found: dict[datetime, list[tuple[Entry, Pane]]] = {}
    for entry, pane in _panes(entries):
        found.setdefault(pane.window_start, []).append((entry, pane))
    return found


def _panes(entries: Sequence[Entry]) -> Iterator[tuple[Entry, Pane]]:
    for entry in entries:
        for pane in entry.panes:
            yield entry, pane
