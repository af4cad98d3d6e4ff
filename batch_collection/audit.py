"""Check a collection against its log: every message in one place, every file unchanged."""

from __future__ import annotations

import json
from array import array
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batch_collection.audit_log import LogAudit
from batch_collection.checksum import file_crc32c
from batch_collection.collection import no_collection
from batch_collection.errors import CollectionError, LogError
from batch_collection.evidence import (
    FileRows,
    batch_rows,
    carry_rows,
    dead_letter_rows,
    published_crc32c,
    spans,
)
from batch_collection.expiry import undisturbed
from batch_collection.expiry_audit import (
    LatePane,
    check_stubs,
    is_folded,
    is_left_over,
    late_manifests,
    left_over,
)
from batch_collection.known_names import KnownNames
from batch_collection.log import newest_cycle, read_entry
from batch_collection.names import (
    DATA,
    DEAD_LETTERS,
    WINDOWS,
    entry_path,
    manifest_path,
    manifest_window,
)
from batch_collection.positions import Positions
from batch_collection.publish import early_files, manifest_of
from batch_collection.windows import format_instant, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime, timedelta

    from batch_collection.entry import BatchFile, DeadLetterFile, Entry, Pane, PartitionRead
    from batch_collection.expiry import Expiry, Folded
    from batch_collection.storage import Storage

__all__ = ["Audit", "Counts", "audit"]

_MOST = 20  # of findings of one kind about one partition


@dataclass(frozen=True, slots=True)
class Counts:
    """What was looked at, and what is expired.

    ``positions_checked``: whether files tell their rows' offsets.
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


@dataclass(frozen=True, slots=True)
class Audit:
    """The verdict: ``findings``, one sentence each, none if all is as the log says."""

    findings: tuple[str, ...]
    counts: Counts


def audit(storage: Storage) -> Audit:
    """Check a collection up to its newest entry; a collector may go on writing meanwhile.

    Memory grows by some bytes a file and window, and with gaps in the offsets, not with rows. What
    the log alone can't show: that its newest entries were removed together with all that they had
    published.

    Raises:
        LogError: there is no collection.
    """
    return undisturbed(storage, lambda expiry: _audit(storage, expiry))


def _audit(storage: Storage, expiry: Expiry | None) -> Audit:
    findings: list[str] = []
    log = LogAudit(storage, expiry, findings.append)
    if log.newest is None:
        raise no_collection(storage)
    auditor = _Auditor(storage, expiry, findings)
    last = auditor.start(log.newest)
    for entry in log.entries(last):
        auditor.look_at(entry)
    auditor.finish()
    return Audit(tuple(findings), auditor.summed())


class _Auditor:
    """Looks at one entry after the other."""

    def __init__(self, storage: Storage, expiry: Expiry | None, findings: list[str]) -> None:
        self._storage, self._expiry, self._findings = storage, expiry, findings
        self._counts: Counter[str] = Counter()
        self._last = -1
        self._carry: dict[str, FileRows | None] = {}
        self._interval: timedelta | None = None
        self._known = KnownNames()
        self._closed = array("q")  # windows that an on-time pane gave a manifest, sorted
        self._revisions: Counter[datetime] = Counter()  # of late panes
        self._late: list[LatePane] = []
        self._letters: dict[str, tuple[Entry, DeadLetterFile]] = {}
        self._redriven: dict[str, int] = {}
        self._starts: dict[int, int] = {}
        self._totals: dict[int, Counter[str]] = defaultdict(Counter)
        self._dead: Counter[int] = Counter()
        self._uncounted: set[int] = set()  # partitions with dead letters of entries that are folded
        self._came: Counter[int] = Counter()  # rows, by the log
        self._filed: Counter[int] = Counter()  # rows in batches, by the log, and in the carry
        self._expired_to: dict[int, int] = {}  # offsets from here on have all their rows
        self._positions: dict[int, Positions] = defaultdict(Positions)
        self._is_blind = False  # files without positions
        self._incomplete: set[int] = set()  # partitions whose files could not all be read
        if expiry is not None and expiry.folded is not None:
            self._go_on_after(expiry.folded)

    def _go_on_after(self, folded: Folded) -> None:
        """Begin where the stub ends."""
        for read in folded.last.reads:
            self._starts[read.partition] = read.start
            self._expired_to[read.partition] = read.end
            self._came[read.partition] = read.rows
        self._came.update({read.partition: read.rows for read in folded.last.became})
        self._filed.update(folded.filed)
        self._counts.update(expired_files=folded.files, expired_rows=folded.rows)

    def start(self, newest: int) -> int:
        """Settle where the audit ends, and read that entry's carry, which later ones may remove."""
        while True:
            entry = self._entry_or_none(newest)
            findings = list(self._read_carry(entry)) if entry is not None else []
            later = newest_cycle(self._storage, newest) if findings else None
            if later is None or later <= newest:
                self._last = newest
                if self._expiry is not None:
                    self._findings += check_stubs(self._storage, self._expiry.number)
                self._findings += findings
                return newest
            newest, self._carry = later, {}

    def look_at(self, entry: Entry) -> None:
        """Check all that an entry names."""
        self._counts["entries"] += 1
        self._interval = entry.interval
        for read in entry.reads:
            self._add_read(read)
        for pane in entry.panes:
            self._check_pane(entry, pane)
        self._take_letters(entry)
        if entry.cycle == self._last:
            self._add_carry(entry)

    def finish(self) -> None:
        """Check what only the whole tells: later entries may have redriven dead letters."""
        for entry, letters in self._letters.values():
            self._check_dead_letters(entry, letters)
        for partition in sorted(self._totals):
            self._check_account(partition)
        self._check_unknown()

    def summed(self) -> Counts:
        """Return what was looked at."""
        totals = [self._totals[partition] for partition in self._totals]
        return Counts(
            entries=self._counts["entries"],
            files=self._counts["files"],
            rows=self._counts["rows"],
            bytes=self._counts["bytes"],
            carried_rows=self._counts["carried_rows"],
            messages=sum(total["messages"] for total in totals),
            dead_letters=sum(total["dead_letters"] for total in totals),
            positions_checked=not self._is_blind,
            expired_entries=0 if self._expiry is None else self._expiry.first,
            expired_files=self._counts["expired_files"],
            expired_rows=self._counts["expired_rows"],
        )

    def _find(self, finding: str) -> None:
        self._findings.append(finding)

    # the log

    def _entry_or_none(self, cycle: int) -> Entry | None:
        try:
            return read_entry(self._storage, cycle)
        except LogError:
            return None

    def _add_read(self, read: PartitionRead) -> None:
        self._starts.setdefault(read.partition, read.start)
        self._came[read.partition] += read.rows
        self._totals[read.partition].update(
            messages=read.messages,
            dead_letters=read.dead_letters,
            without_rows=read.tombstones + read.empty,
        )

    # batches

    def _check_pane(self, entry: Entry, pane: Pane) -> None:
        name = f"{entry_path(entry.cycle)}: window {format_instant(pane.window_start)}"
        if pane.rows != sum(file.rows for file in pane.files):
            self._find(f"{name} has {pane.rows} rows, its files have others")
        for file in pane.files:
            self._filed.update({p: rows for p, (_, _, rows) in file.offsets.items()})
        if self._expiry is not None and self._expiry.hides(entry.cycle, pane.window_end):
            self._pass_over(pane)
            return
        for file in pane.files:
            self._check_batch(entry, pane, file)
        if self._is_after_expiry(pane) and pane.files:
            self._late.append(LatePane(entry, pane))
        elif _has_manifest(pane):
            self._check_manifest(entry, pane)

    def _pass_over(self, pane: Pane) -> None:
        """Take in what the log says of files that are expired."""
        for file in pane.files:
            self._counts.update(expired_files=1, expired_rows=file.rows)
            for partition, (_, last, _) in file.offsets.items():
                upto = self._expired_to.get(partition, 0)
                self._expired_to[partition] = max(upto, last + 1)

    def _is_after_expiry(self, pane: Pane) -> bool:
        """Say whether a pane that is there is of a window of which earlier ones were expired."""
        return self._expiry is not None and pane.window_end <= self._expiry.before

    def _check_batch(self, entry: Entry, pane: Pane, file: BatchFile) -> None:
        self._known.add(file.path)
        self._counts.update(files=1, rows=file.rows, bytes=file.bytes)
        if not pane.window_start <= file.min_time <= file.max_time < pane.window_end:
            self._find(
                f"{file.path} holds row times from {format_instant(file.min_time)} to "
                f"{format_instant(file.max_time)}, not all of its window"
            )
        rows = self._rows_of(entry, file, batch_rows)
        if rows is None:
            self._incomplete |= set(file.offsets)
            return
        if rows.total != file.rows:
            self._find(f"{file.path} has {rows.total} rows, the log says {file.rows}")
        if rows.partitions is None:
            self._is_blind = True
            return
        said = {p: tuple(span) for p, span in file.offsets.items()}
        if said != spans(rows):
            self._find(f"{file.path} holds other offsets than the log says")
        self._add_rows(entry, file.path, rows)

    def _rows_of(
        self,
        entry: Entry,
        file: BatchFile | DeadLetterFile,
        read: Callable[[Storage, str, str], FileRows],
    ) -> FileRows | None:
        """Read a file that is there, unchanged; None if there is something else to find."""
        staged = file.staged if entry.cycle == self._last else file.path
        try:
            found = published_crc32c(self._storage, file.path, staged)
        except FileNotFoundError:
            self._find(f"{file.path} is missing")
            return None
        if found != (file.bytes, file.crc32c):
            self._find(
                f"{file.path} has {found[0]} bytes with crc32c={found[1]}, the log says "
                f"{file.bytes} with {file.crc32c}"
            )
            return None
        try:
            return read(self._storage, file.path, staged)
        except (CollectionError, pa.ArrowException, KeyError, OSError) as error:
            self._find(f"{file.path} cannot be read: {error}")
            return None

    def _add_rows(self, entry: Entry, path: str, rows: FileRows) -> None:
        for partition in np.unique(rows.partitions).tolist():
            chosen = rows.partitions == partition
            offsets = rows.offsets[chosen]
            self._check_inside(entry, path, partition, offsets)
            self._positions[partition].add(offsets, rows.indexes[chosen])

    def _check_inside(self, entry: Entry, path: str, partition: int, offsets: Any) -> None:
        start, end = self._starts.get(partition), entry.ends.get(partition)
        if start is None or end is None:
            self._find(f"{path} holds partition={partition}, which was never read")
        elif len(offsets) and (offsets.min() < start or offsets.max() >= end):
            self._find(
                f"{path} holds offsets {offsets.min()} to {offsets.max()} of "
                f"partition={partition}, read were {start} to {end - 1}"
            )

    def _check_manifest(self, entry: Entry, pane: Pane) -> None:
        revision = self._next_revision(pane)
        path = manifest_path(pane.window_start, revision)
        self._known.add(path)
        try:
            content = json.loads(self._storage.read(path))
            files = self._earlier_files(pane, revision)
            agrees = files is None or content == manifest_of(entry, pane, revision, files)
        except FileNotFoundError:
            if entry.cycle < self._last:
                self._find(f"{path} is missing")
        except ValueError:
            self._find(f"{path} is not JSON")
        else:
            if not agrees:
                self._find(f"{path} does not agree with {entry_path(entry.cycle)}")

    def _next_revision(self, pane: Pane) -> int:
        """Return which manifest of its window a pane has; there are too many windows for a dict."""
        start = microseconds(pane.window_start)
        place = bisect_left(self._closed, start)
        is_closed = place < len(self._closed) and self._closed[place] == start
        if not is_closed and pane.timing == "on_time":
            self._closed.insert(place, start)  # at the end: windows are closed in order
            return 1
        self._revisions[pane.window_start] += 1
        return self._revisions[pane.window_start] + is_closed

    def _earlier_files(self, pane: Pane, revision: int) -> list[dict[str, Any]] | None:
        """Return what a manifest names beside the pane's own files, None if that can't be told."""
        try:
            if revision == 1:
                return early_files(self._storage, pane)
            last = json.loads(self._storage.read(manifest_path(pane.window_start, revision - 1)))
            return list(last["files"])
        except (FileNotFoundError, LogError, ValueError, KeyError, TypeError):
            return None  # found already, where that entry or manifest was looked at

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
            self._came[read.partition] += read.rows
            if not is_told:
                self._uncounted.add(read.partition)
            self._totals[read.partition].update(
                dead_letters=read.dead_letters - read.messages,
                without_rows=read.tombstones + read.empty,
            )
        if entry.dead_letters:
            alone = replace(entry, panes=(), carry=(), schema={})  # nothing more is asked for
            self._letters |= {file.path: (alone, file) for file in entry.dead_letters}

    def _check_dead_letters(self, entry: Entry, file: DeadLetterFile) -> None:
        self._known.add(file.path)
        already = len(self._findings)
        rows = self._rows_of(entry, file, dead_letter_rows)
        if rows is None:
            self._incomplete |= set(entry.ends)
            if file.path in self._redriven_since():  # it went while it was looked at
                del self._findings[already:]
            return
        if rows.total != file.messages:
            self._find(f"{file.path} has {rows.total} messages, the log says {file.messages}")
        for partition in np.unique(rows.partitions).tolist():
            offsets = rows.offsets[rows.partitions == partition]
            self._dead[partition] += len(offsets)
            self._check_inside(entry, file.path, partition, offsets)
            self._positions[partition].add_whole(offsets)

    def _read_carry(self, entry: Entry) -> Iterator[str]:
        """Read the newest entry's carry; yield what is wrong with it."""
        for file in entry.carry:
            self._carry[file.path] = None
            try:
                found = file_crc32c(self._storage, file.path)
                if found != (file.bytes, file.crc32c):
                    yield f"{file.path} is not what the log says: it was changed"
                    continue
                self._carry[file.path] = rows = carry_rows(self._storage, file.path)
                if rows.total != file.rows:
                    yield f"{file.path} has {rows.total} rows, the log says {file.rows}"
            except FileNotFoundError:
                yield f"{file.path} is missing, rows that wait were in it"
            except (CollectionError, pa.ArrowException, KeyError, OSError) as error:
                yield f"{file.path} cannot be read: {error}"

    def _add_carry(self, entry: Entry) -> None:
        for file in entry.carry:
            self._counts["carried_rows"] += file.rows
            rows = self._carry.get(file.path)
            if rows is None:
                self._incomplete |= set(entry.ends)
            else:
                self._add_rows(entry, file.path, rows)
                self._filed.update(rows.partitions.tolist())

    # the whole

    def _check_account(self, partition: int) -> None:
        total, positions = self._totals[partition], self._positions[partition]
        seen, torn = positions.messages(), positions.torn()
        for start, end in positions.repeated[:_MOST]:
            self._find(
                f"partition={partition}: rows of offsets {start} to {end - 1} are in more than one "
                f"place{self._places(partition, start)}"
            )
        if self._is_blind or partition in self._incomplete:
            return
        complete_from = self._expired_to.get(partition, 0)
        for start, end in [place for place in torn if place.start >= complete_from][:_MOST]:
            self._find(
                f"partition={partition}: some rows of offsets {start} to {end - 1} are nowhere"
            )
        came, filed = self._came[partition], self._filed[partition]
        expected = total["messages"] - total["without_rows"]
        if partition in self._expired_to and came != filed:
            self._find(
                f"partition={partition}: {came} rows should be in batches, expired or not, and in "
                f"the carry, {filed} are"
            )
        elif partition not in self._expired_to and seen != expected:
            self._find(
                f"partition={partition}: {expected} messages should be in batches, carry or dead "
                f"letters, {seen} are"
            )
        if partition not in self._uncounted and self._dead[partition] != total["dead_letters"]:
            self._find(
                f"partition={partition}: {self._dead[partition]} dead letters are there, the log "
                f"says {total['dead_letters']}"
            )

    def _places(self, partition: int, offset: int) -> str:
        """Name the files that, by the log, may hold an offset."""
        paths = []
        for cycle in range(0 if self._expiry is None else self._expiry.first, self._last + 1):
            entry = self._entry_or_none(cycle)
            for file in entry.files if entry is not None else ():
                first, last, _ = file.offsets.get(partition, (1, 0, 0))
                paths += [file.path] if first <= offset <= last else []
        return f": see {', '.join(paths[:4])}" if paths else ""

    def _check_unknown(self) -> None:
        unknown = {
            path
            for folder in (DATA, DEAD_LETTERS, WINDOWS)
            for path in self._known.unknown(self._storage.list(folder))
        }
        unknown -= self._check_late(path for path in unknown if path.startswith(WINDOWS))
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

    def _check_late(self, paths: Iterable[str]) -> set[str]:
        """Check the manifests of late panes of expired windows; return their paths."""
        found = list(late_manifests(self._storage, self._late, sorted(paths)))
        for path, cycle, agrees in found:
            if not agrees:
                self._find(f"{path} does not agree with {entry_path(cycle)}")
        placed = {(manifest_window(path), cycle) for path, cycle, _ in found}
        for entry, pane in self._late:
            if entry.cycle < self._last and (pane.window_start, entry.cycle) not in placed:
                window = format_instant(pane.window_start)
                self._find(f"the manifest of cycle={entry.cycle} of window {window} is missing")
        return {path for path, _, _ in found}

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
            named.update(
                manifest_path(
                    pane.window_start,
                    entry.cycle if self._is_after_expiry(pane) else self._next_revision(pane),
                )
                for pane in entry.panes
                if _has_manifest(pane)
            )
        return named


def _has_manifest(pane: Pane) -> bool:
    return pane.timing != "early" and bool(pane.files or pane.earlier)
