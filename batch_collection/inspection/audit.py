"""Check a collection against its log: every message in one place, every file unchanged."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.errors import LogError
from batch_collection.inspection.account import Account
from batch_collection.inspection.entries import LogAudit
from batch_collection.inspection.evidence import (
    Evidence,
    FileRows,
    batch_rows,
    carry_rows,
    dead_letter_rows,
    evidence,
    id_rows,
    spans,
    weight,
)
from batch_collection.inspection.known_names import KnownNames
from batch_collection.inspection.manifests import ManifestAudit
from batch_collection.inspection.message_ids import MessageIds
from batch_collection.inspection.stubs import check_stubs, is_folded, is_left_over, left_over
from batch_collection.log.entries import newest_cycle, no_collection, read_entry
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.log.file_types import FileTypes
from batch_collection.paths import DATA, DEAD_LETTERS, IDS, WINDOWS, entry_path
from batch_collection.publishing.publish import unpublished
from batch_collection.schema.columns import KINDS_WITH_IDS
from batch_collection.storage.fetching import each
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from batch_collection.log.entry import BatchFile, DeadLetterFile, Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["PUBLISHING", "Audit", "Counts", "audit"]


PUBLISHING = timedelta(minutes=5)
"""How long publishing an entry takes at most, thousands of files in a bucket."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was looked at, and what is expired.

    ``positions_checked``: whether files tell their rows' offsets, or the ids of their messages
    (``has_ids``: the source's have no offsets of their own). ``unpublished_files`` are those of the
    newest entry that are committed, and not visible yet. ``panes`` are those of Beam that rows
    without addresses came in: that each is there once is all that the log can show of them.
    """

    entries: int
    files: int
    rows: int
    bytes: int
    carried_rows: int
    messages: int
    dead_letters: int
    positions_checked: bool
    expired_entries: int = 0
    expired_files: int = 0
    expired_rows: int = 0
    unpublished_files: int = 0
    has_ids: bool = False
    panes: int = 0


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdict: ``findings``, one sentence each, none if all is as the log says."""

    findings: tuple[str, ...]
    counts: Counts


def audit(storage: Storage, now: datetime | None = None) -> Audit:
    """Check a collection up to its newest entry; a collector may go on writing meanwhile.

    Files of the newest entry that are not visible ``now`` (default: the clock) are a finding if it
    was committed more than ``PUBLISHING`` ago: before that it may just be being published.

    Memory grows by some bytes a file and window, and with gaps in offsets or ids, not with rows.
    What the log alone can't show: that its newest entries were removed together with all that they
    had published.

    Raises:
        LogError: there is no collection.
    """
    clock = now or datetime.now(timezone.utc)
    return undisturbed(storage, lambda expiry: _audit(storage, expiry, clock))


def _audit(storage: Storage, expiry: Expiry | None, now: datetime) -> Audit:
    findings: list[str] = []
    log = LogAudit(storage, expiry, findings.append)
    if log.newest is None:
        raise no_collection(storage)
    auditor = _Auditor(storage, expiry, findings)
    last = auditor.start(log.newest)
    auditor.look_at(log.entries(last))
    auditor.finish(now)
    return Audit(tuple(findings), auditor.summed())


class _Job(NamedTuple):
    """Something to be fetched, and as how many files it counts meanwhile."""

    fetch: Callable[[], Any]
    weight: float = 1


def _done(job: _Job) -> Any:
    return job.fetch()


_NOTHING = 0.1  # of jobs that fetch nothing some may wait, too, but not all of a log


class _Auditor:
    """Looks at one entry after the other; where files are far, some are fetched ahead."""

    def __init__(self, storage: Storage, expiry: Expiry | None, findings: list[str]) -> None:
        self._storage, self._expiry, self._findings = storage, expiry, findings
        self._counts: Counter[str] = Counter()
        self._last = -1
        self._newest: Entry | None = None
        self._carry: dict[str, FileRows | None] = {}
        self._interval: timedelta | None = None
        self._known = KnownNames()
        self._origins: set[int] = set()
        self._fetched: Iterator[Any] = iter(())
        self._types = FileTypes(storage)
        self._letters: dict[str, tuple[Entry, DeadLetterFile]] = {}
        self._redriven: dict[str, int] = {}
        self._account = Account(None if expiry is None else expiry.folded)
        self._ids, self._lacks_ids = MessageIds(), False
        self._manifests = ManifestAudit(storage, expiry, findings.append)
        if expiry is not None and expiry.folded is not None:
            folded = expiry.folded
            self._counts.update(expired_files=folded.files, expired_rows=folded.rows)

    def start(self, newest: int) -> int:
        """Settle where the audit ends, and read that entry's carry, which later ones may remove."""
        while True:
            entry = self._entry_or_none(newest)
            findings = [] if entry is None else [*self._read_carry(entry), *self._read_ids(entry)]
            later = newest_cycle(self._storage, newest) if findings else None
            if later is None or later <= newest:
                self._last = newest
                if self._expiry is not None:
                    self._findings += check_stubs(self._storage, self._expiry.number)
                self._findings += findings
                return newest
            newest, self._carry = later, {}

    def look_at(self, entries: Iterable[Entry]) -> None:
        """Check all that entries name, each file fetched once."""
        self._fetched = each(self._storage, _done, self._jobs(entries), lambda job: job.weight)
        for entry in self._fetched:
            self._look_at(entry)

    def _jobs(self, entries: Iterable[Entry]) -> Iterator[_Job]:
        """Yield what ``look_at`` takes up, in its order: an entry, then files and manifests."""
        for entry in entries:
            self._types.know(entry)
            yield _Job(partial(_itself, entry), _NOTHING)
            for pane in entry.panes:
                if self._hides(entry, pane):
                    continue
                for file in pane.files:
                    yield _Job(self._batch_job(entry, file), weight(file))
                asked = self._manifests.ask(entry, pane)
                yield _Job(partial(self._manifests.fetch, asked), 1 if asked else _NOTHING)

    def _batch_job(self, entry: Entry, file: BatchFile) -> Callable[[], Evidence]:
        read = partial(batch_rows, path=file.path, types=self._types, entry=entry)
        return partial(evidence, self._storage, file, self._staged(entry, file), read)

    def _staged(self, entry: Entry, file: BatchFile | DeadLetterFile) -> str:
        return file.staged if entry.cycle == self._last else file.path

    def _hides(self, entry: Entry, pane: Pane) -> bool:
        return self._expiry is not None and self._expiry.hides(entry.cycle, pane.window_end)

    def _look_at(self, entry: Entry) -> None:
        self._counts["entries"] += 1
        self._interval = entry.interval
        for read in entry.reads:
            self._account.read(read, begins=entry.cause == "start")
        for pane in entry.panes:
            self._check_pane(entry, pane)
        self._manifests.check_empty(entry)
        self._check_origins(entry)
        self._take_letters(entry)
        if entry.cycle == self._last:
            self._newest = entry
            self._add_carry(entry)
            for path in (*(file.path for file in entry.ids), *entry.ids_released):
                self._known.add(path)

    def finish(self, now: datetime) -> None:
        """Check what only the whole tells: later entries may have redriven dead letters."""
        letters = list(self._letters.values())
        jobs = (
            _Job(
                partial(evidence, self._storage, file, self._staged(entry, file), dead_letter_rows),
                weight(file),
            )
            for entry, file in letters
        )
        found = each(self._storage, _done, jobs, lambda job: job.weight)
        for (entry, file), one in zip(letters, found, strict=True):
            self._check_dead_letters(entry, file, one)
        self._manifests.finish()
        self._findings += self._account.findings(self._places)
        self._findings += self._ids.findings()
        self._check_unknown()
        self._check_visible(now)

    def summed(self) -> Counts:
        """Return what was looked at."""
        newest = self._newest
        has_ids = newest is not None and newest.source.kind in KINDS_WITH_IDS
        return Counts(
            entries=self._counts["entries"],
            files=self._counts["files"],
            rows=self._counts["rows"],
            bytes=self._counts["bytes"],
            carried_rows=self._counts["carried_rows"],
            messages=self._account.total("messages"),
            dead_letters=self._account.total("dead_letters"),
            positions_checked=not (self._lacks_ids if has_ids else self._account.is_blind),
            expired_entries=first_kept(self._expiry),
            expired_files=self._counts["expired_files"],
            expired_rows=self._counts["expired_rows"],
            unpublished_files=self._counts["unpublished_files"],
            has_ids=has_ids,
            panes=len(self._origins),
        )

    def _find(self, finding: str) -> None:
        self._findings.append(finding)

    def _find_of(self, path: str, findings: Iterable[str]) -> None:
        self._findings += (f"{path} {finding}" for finding in findings)

    # the log

    def _entry_or_none(self, cycle: int) -> Entry | None:
        try:
            return read_entry(self._storage, cycle)
        except LogError:
            return None

    def _check_origins(self, entry: Entry) -> None:
        """See that no pane is there twice with the same rows, which have no addresses."""
        for origin in entry.origins:
            key = hash(replace(origin, repeated=False))
            if key in self._origins:
                self._find(
                    f"{entry_path(entry.cycle)}: pane {origin.index} of window "
                    f"{format_instant(origin.window_start)}, shard={origin.shard}, was in the log "
                    f"before: its {origin.rows} rows are there twice"
                )
            self._origins.add(key)

    # batches

    def _check_pane(self, entry: Entry, pane: Pane) -> None:
        name = f"{entry_path(entry.cycle)}: window {format_instant(pane.window_start)}"
        if pane.rows != sum(file.rows for file in pane.files):
            self._find(f"{name} has {pane.rows} rows, its files have others")
        self._account.filed(pane)
        if self._hides(entry, pane):
            self._account.expired(pane)
            self._counts.update(expired_files=len(pane.files), expired_rows=pane.rows)
            return
        for file in pane.files:
            self._check_batch(entry, pane, file)
        fetched = next(self._fetched)
        manifest = self._manifests.check(entry, pane, fetched, is_last=entry.cycle == self._last)
        if manifest is not None:
            self._known.add(manifest)

    def _check_batch(self, entry: Entry, pane: Pane, file: BatchFile) -> None:
        self._known.add(file.path)
        self._counts.update(files=1, rows=file.rows, bytes=file.bytes)
        if not pane.window_start <= file.min_time <= file.max_time < pane.window_end:
            self._find(
                f"{file.path} holds row times from {format_instant(file.min_time)} to "
                f"{format_instant(file.max_time)}, not all of its window"
            )
        rows = self._rows_of(file, next(self._fetched))
        if rows is None:
            self._account.lacks(file.offsets)
            return
        if rows.total != file.rows:
            self._find(f"{file.path} has {rows.total} rows, the log says {file.rows}")
        self._add_ids(entry, file.path, rows)
        if rows.partitions is None:
            self._account.is_blind = True
            counts = [count for _, _, count in file.offsets.values()]
            if counts and sum(counts) != file.rows:  # rows of panes have none
                self._find(f"{file.path} has {file.rows} rows, its offsets have others")
            return
        said = {p: tuple(span) for p, span in file.offsets.items()}
        if said != spans(rows):
            self._find(f"{file.path} holds other offsets than the log says")
        self._find_of(file.path, self._account.rows(rows, entry.ends))

    def _add_ids(self, entry: Entry, path: str, rows: FileRows) -> None:
        """Take in the ids of rows, which those of a source with ids are to have."""
        if entry.source.kind not in KINDS_WITH_IDS:
            return
        if rows.ids is None:
            self._lacks_ids = True
        else:
            self._ids.rows(path, rows.ids, rows.indexes)

    def _rows_of(self, file: BatchFile | DeadLetterFile, found: Evidence) -> FileRows | None:
        """Return the rows of a file that is there, unchanged; None if there was else to find."""
        if found.finding:
            self._find(f"{file.path} {found.finding}")
        return found.rows

    # dead letters and carry

    def _take_letters(self, entry: Entry) -> None:
        """Note the files that there are to be, and account for those that were redriven."""
        messages, is_told = 0, True
        for path in entry.redriven:
            self._redriven[path] = entry.cycle
            if path in self._letters:
                messages += self._letters.pop(path)[1].messages
            elif self._expiry is not None and is_folded(self._expiry, path):
                is_told = False
            else:
                self._find(f"{entry_path(entry.cycle)}: {path} was redriven, but was not there")
        again = sum(read.messages for read in entry.became)
        if is_told and messages != again:
            self._find(
                f"{entry_path(entry.cycle)}: {messages} messages were redriven, it tells of {again}"
            )
        for read in entry.became:
            self._account.redriven(read, is_whole=is_told)
        if entry.dead_letters:
            # nothing more is asked for
            alone = replace(entry, panes=(), carry=(), ids=(), origins=(), schema={})
            self._letters |= {file.path: (alone, file) for file in entry.dead_letters}

    def _check_dead_letters(self, entry: Entry, file: DeadLetterFile, found: Evidence) -> None:
        self._known.add(file.path)
        already = len(self._findings)
        rows = self._rows_of(file, found)
        if rows is None:
            self._account.lacks(entry.ends)
            if file.path in self._redriven_since():  # it went while it was looked at
                del self._findings[already:]
            return
        if rows.total != file.messages:
            self._find(f"{file.path} has {rows.total} messages, the log says {file.messages}")
        if rows.ids is not None:
            self._ids.letters(file.path, rows.ids)
        self._find_of(file.path, self._account.letters(rows, entry.ends))

    def _read_carry(self, entry: Entry) -> Iterator[str]:
        """Read the newest entry's carry; yield what is wrong with it."""
        jobs = (
            _Job(partial(evidence, self._storage, file, file.path, carry_rows), weight(file))
            for file in entry.carry
        )
        found = each(self._storage, _done, jobs, lambda job: job.weight)
        for file, (rows, kind, finding) in zip(entry.carry, found, strict=True):
            self._carry[file.path] = rows
            if kind == "missing":
                yield f"{file.path} is missing, rows that wait were in it"
            elif kind == "changed":
                yield f"{file.path} is not what the log says: it was changed"
            elif rows is None:
                yield f"{file.path} {finding}"
            elif rows.total != file.rows:
                yield f"{file.path} has {rows.total} rows, the log says {file.rows}"

    def _read_ids(self, entry: Entry) -> Iterator[str]:
        """Look at the newest entry's lists of ids; yield what is wrong with them."""
        jobs = (
            _Job(
                partial(evidence, self._storage, file, file.staged or file.path, id_rows),
                weight(file),
            )
            for file in entry.ids
        )
        found = each(self._storage, _done, jobs, lambda job: job.weight)
        for file, (rows, _, finding) in zip(entry.ids, found, strict=True):
            if rows is None:
                yield f"{file.path} {finding}"
            elif rows.total != file.ids:
                yield f"{file.path} has {rows.total} ids, the log says {file.ids}"

    def _add_carry(self, entry: Entry) -> None:
        for file in entry.carry:
            self._counts["carried_rows"] += file.rows
            rows = self._carry.get(file.path)
            if rows is None:
                self._account.lacks(entry.ends)
            else:
                self._add_ids(entry, file.path, rows)
                self._find_of(file.path, self._account.waiting(rows, entry.ends))

    # the whole

    def _places(self, partition: int, offset: int) -> str:
        """Name the files that, by the log, may hold an offset."""
        paths = []
        for cycle in range(first_kept(self._expiry), self._last + 1):
            entry = self._entry_or_none(cycle)
            for file in entry.files if entry is not None else ():
                first, last, _ = file.offsets.get(partition, (1, 0, 0))
                paths += [file.path] if first <= offset <= last else []
        return f": see {', '.join(paths[:4])}" if paths else ""

    def _check_unknown(self) -> None:
        unknown = {
            path
            for folder in (DATA, DEAD_LETTERS, IDS, WINDOWS)
            for path in self._known.unknown(self._storage.list(folder))
        }
        manifests = (path for path in unknown if path.startswith(WINDOWS))
        unknown -= self._manifests.check_late(manifests, self._last)
        for path in sorted(unknown - self._named_since() if unknown else ()):
            expiry, interval = self._expiry, self._interval
            cycle = self._redriven.get(path)
            if cycle is not None:
                if cycle < self._last:
                    self._find(f"{path} was redriven by {entry_path(cycle)}, but is still there")
            elif expiry is not None and interval and is_left_over(expiry, interval, path):
                self._find(left_over(path))
            else:
                self._find(f"{path} is in no entry")

    def _check_visible(self, now: datetime) -> None:
        """Find what the newest entry names and nobody has made visible, unless it is young."""
        left = () if self._newest is None else unpublished(self._storage, self._newest)
        if not left or self._newest is None or self._entry_or_none(self._last + 1) is not None:
            return  # the next one was made after all of it was visible
        self._counts["unpublished_files"] = len(left)
        if now - self._newest.committed_at > PUBLISHING:
            self._find(
                f"{entry_path(self._last)}: committed, not visible: files={len(left)}, such as "
                f"{left[0]}; start its collector, which moves them there"
            )

    def _since(self) -> Iterator[Entry]:
        """Yield the entries that were committed since the audit began."""
        cycle = self._last + 1
        while (entry := self._entry_or_none(cycle)) is not None:
            yield entry
            cycle += 1

    def _redriven_since(self) -> set[str]:
        return {path for entry in self._since() for path in entry.redriven}

    def _named_since(self) -> set[str]:
        """Collect what those entries name."""
        named: set[str] = set()
        for entry in self._since():
            named.update(visible for _, visible in entry.moves)
            named |= self._manifests.to_come(entry)
        return named


def _itself(entry: Entry) -> Entry:
    return entry
