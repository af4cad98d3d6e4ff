"""The manifests of an audit: each closed window's, and that it says what the entries say."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections import Counter
from dataclasses import replace
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.errors import LogError
from batch_collection.inspection.stubs import LatePane, late_manifests
from batch_collection.paths import entry_path, manifest_path, manifest_window
from batch_collection.publishing.manifest import (
    early_files,
    has_manifest,
    manifest_of,
    parsed,
    read_manifest,
)
from batch_collection.windows import format_instant, from_microseconds, microseconds

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from batch_collection.log.entry import Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["ManifestAudit"]


_MOST_EARLY = 10_000
"""Files of early panes that are kept until their windows close; of others entries are read anew."""


class Asked(NamedTuple):
    """A pane's manifest that is to be looked at.

    ``early`` are the files that its window got before, as far as that is known without a look.
    """

    pane: Pane
    revision: int
    early: list[dict[str, Any]] | None


class Fetched(NamedTuple):
    """A manifest, None if it is missing; what it is to name beside its pane's files, if known."""

    content: bytes | None
    earlier: list[dict[str, Any]] | None


class ManifestAudit:
    """Looks at the manifest of one pane after the other, as the log has them.

    ``ask`` may be ahead of ``check``, both in the log's order; ``fetch`` lies between, anywhere.
    """

    def __init__(
        self, storage: Storage, expiry: Expiry | None, find: Callable[[str], None]
    ) -> None:
        """Tell ``find`` what is wrong."""
        self._storage, self._expiry, self._find = storage, expiry, find
        self._asked, self._checked = _Revisions(), _Revisions()
        self._kept: dict[tuple[int, datetime], list[dict[str, Any]]] = {}  # of early panes
        self._kept_files = 0
        self._early: dict[datetime, list[int]] = {}  # cycles of early panes, until they close
        self._next: list[datetime] = []  # a heap of the same windows, and some closed ones
        self._short: dict[datetime, _Short] = {}
        self._late: list[LatePane] = []

    def ask(self, entry: Entry, pane: Pane) -> Asked | None:
        """Say what is to be fetched for a pane, None if that is nothing."""
        if pane.timing == "early":
            self._keep(entry.cycle, pane)
        if (self._is_after_expiry(pane) and pane.files) or not has_manifest(pane):
            return None
        revision = self._asked.next(pane)
        return Asked(pane, revision, self._early_of(pane) if revision == 1 else None)

    def fetch(self, asked: Asked | None) -> Fetched | None:
        """Fetch it; this may go on in any thread."""
        if asked is None:
            return None
        try:
            content = self._storage.read(manifest_path(asked.pane.window_start, asked.revision))
        except FileNotFoundError:
            return Fetched(None, None)
        if asked.early is not None:
            return Fetched(content, asked.early)
        return Fetched(content, self._earlier_files(asked.pane, asked.revision))

    def check(
        self, entry: Entry, pane: Pane, fetched: Fetched | None, *, is_last: bool
    ) -> str | None:
        """Check a pane's manifest, and return its path; None if it has none, or no certain one.

        That of the last entry may still be to come.
        """
        if self._is_after_expiry(pane) and pane.files:
            self._late.append(LatePane(entry, pane))
            return None
        self._check_earlier(entry, pane)
        if fetched is None:
            return None
        revision = self._checked.next(pane)
        path = manifest_path(pane.window_start, revision)
        if fetched.content is None:
            if not is_last:
                self._find(f"{path} is missing")
            return path
        try:
            content = parsed(fetched.content)
        except LogError as error:
            self._find(f"{path}: {error}")
        else:
            if content is None:
                self._find(f"{path} is no manifest: it was cut short or changed")
            elif not self._agrees(entry, pane, revision, content, fetched.earlier):
                self._find(f"{path} does not agree with {entry_path(entry.cycle)}")
        return path

    def check_empty(self, entry: Entry) -> None:
        """Check the windows that an entry says had no row; its panes were checked before."""
        said = f"{entry_path(entry.cycle)} says that it had no row"
        while self._next and self._is_closed(entry, self._next[0]):
            window = heappop(self._next)
            if window in self._early:
                self._short[window] = _Short(
                    _is_unsure(entry, window), said, self._early.pop(window), []
                )
        for start, end in entry.closed_empty:
            if entry.boundary is None or end > entry.boundary:
                name = format_instant(end - entry.interval)
                self._find(f"{entry_path(entry.cycle)}: window {name} is open and is said empty")
            for closed in self._checked.between(start, end):
                name = format_instant(from_microseconds(closed))
                self._find(f"{entry_path(entry.cycle)}: window {name} had rows and is said empty")

    def finish(self) -> None:
        """Find the windows whose newest manifest lacks a file."""
        for window, short in sorted(self._short.items()):
            cycles = ", ".join(map(str, short.cycles))
            self._find(
                f"window {format_instant(window)}: {short.said}, but the log has early panes of "
                f"it, of cycle={cycles}{_ADVICE if short.is_known else ''}"
            )

    def check_late(self, paths: Iterable[str], last: int) -> set[str]:
        """Check the manifests of late panes of expired windows; return which of ``paths`` are."""
        found = list(late_manifests(self._storage, self._late, sorted(paths)))
        for path, cycle, agrees in found:
            if not agrees:
                self._find(f"{path} does not agree with {entry_path(cycle)}")
        placed = {(manifest_window(path), cycle) for path, cycle, _ in found}
        for entry, pane in self._late:
            if entry.cycle < last and (pane.window_start, entry.cycle) not in placed:
                window = format_instant(pane.window_start)
                self._find(f"the manifest of cycle={entry.cycle} of window {window} is missing")
        return {path for path, _, _ in found}

    def to_come(self, entry: Entry) -> set[str]:
        """Return the paths of the manifests of a later entry, which are not checked."""
        return {
            manifest_path(
                pane.window_start,
                entry.cycle if self._is_after_expiry(pane) else self._checked.next(pane),
            )
            for pane in entry.panes
            if has_manifest(pane)
        }

    def _is_after_expiry(self, pane: Pane) -> bool:
        """Say whether a pane that is there is of a window of which earlier ones were expired."""
        return self._expiry is not None and pane.window_end <= self._expiry.before

    def _keep(self, cycle: int, pane: Pane) -> None:
        """Keep the files of an early pane, as manifests name them, unless these are too many."""
        if self._kept_files + len(pane.files) <= _MOST_EARLY:
            self._kept_files += len(pane.files)
            files = [{"path": file.path, "rows": file.rows} for file in pane.files]
            self._kept.setdefault((cycle, pane.window_start), []).extend(files)

    def _early_of(self, pane: Pane) -> list[dict[str, Any]] | None:
        """Return the files of all early panes of a window that closes, None if some aren't kept."""
        kept = [self._kept.pop((cycle, pane.window_start), None) for cycle in pane.earlier]
        files = [file for some in kept for file in some or ()]
        self._kept_files -= len(files)
        return None if None in kept else files

    def _check_earlier(self, entry: Entry, pane: Pane) -> None:
        """See that a pane that closes its window names all cycles that gave it early ones."""
        start = pane.window_start
        if pane.timing == "early":
            if start not in self._early:
                heappush(self._next, start)
            self._early.setdefault(start, []).append(entry.cycle)
        elif pane.timing == "on_time":
            lacking = sorted(set(self._early.pop(start, ())).difference(pane.earlier))
            if lacking:
                path = manifest_path(start, 1)
                self._short[start] = _Short(
                    _is_unsure(entry, start), f"{path} lacks files", lacking, [*pane.earlier]
                )

    @staticmethod
    def _is_closed(entry: Entry, window: datetime) -> bool:
        return entry.boundary is not None and window + entry.interval <= entry.boundary

    def _agrees(
        self,
        entry: Entry,
        pane: Pane,
        revision: int,
        content: Any,
        earlier: list[dict[str, Any]] | None,
    ) -> bool:
        """Tell whether a manifest says what it must; one that says all of a window mends it."""
        start = pane.window_start
        short = self._short.get(start)
        if short is not None:
            before = tuple(sorted({*pane.earlier, *short.cycles, *short.others}))
            short.others.append(entry.cycle)
            files = self._earlier_files(replace(pane, earlier=before), 1)
            if files is not None and content == manifest_of(entry, pane, revision, files):
                del self._short[start]
                return True
        return earlier is None or content == manifest_of(entry, pane, revision, earlier)

    def _earlier_files(self, pane: Pane, revision: int) -> list[dict[str, Any]] | None:
        """Return what a manifest names beside the pane's own files, None if that can't be told."""
        try:
            if revision == 1:
                return early_files(self._storage, pane)
            last = read_manifest(self._storage, manifest_path(pane.window_start, revision - 1))
        except (FileNotFoundError, LogError):
            return None  # found already, where that entry or manifest was looked at
        return None if last is None else list(last["files"])


class _Revisions:
    """Counts the manifests of each window, as the log has its panes."""

    def __init__(self) -> None:
        self._closed = array("q")  # windows that an on-time pane gave a manifest, sorted
        self._late: Counter[datetime] = Counter()

    def next(self, pane: Pane) -> int:
        """Return which manifest of its window a pane has; there are too many windows for a dict."""
        start = microseconds(pane.window_start)
        place = bisect_left(self._closed, start)
        is_closed = place < len(self._closed) and self._closed[place] == start
        if not is_closed and pane.timing == "on_time":
            self._closed.insert(place, start)  # at the end: windows are closed in order
            return 1
        self._late[pane.window_start] += 1
        return self._late[pane.window_start] + is_closed

    def between(self, start: datetime, end: datetime) -> array[int]:
        """Return the windows that got a manifest on time and begin between two instants."""
        first, last = (bisect_left(self._closed, microseconds(each)) for each in (start, end))
        return self._closed[first:last]


_ADVICE = (
    "; an earlier version forgot them: their rows are in data/, and read, but whoever goes by "
    "manifests misses them until a late row brings the window's next revision"
)


class _Short(NamedTuple):
    """A window that was closed without some of its early panes, as earlier versions did.

    ``cycles`` are those of these panes, ``others`` those of all that it was known to have, and got
    with its end and after. With ``is_known`` it was such a version, else somebody has changed the
    log.
    """

    is_known: bool
    said: str
    cycles: list[int]
    others: list[int]


def _is_unsure(entry: Entry, window: datetime) -> bool:
    return entry.unsure is not None and window + entry.interval <= entry.unsure
