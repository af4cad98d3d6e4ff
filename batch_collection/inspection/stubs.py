"""What an audit can say of stubs, of what should be gone by them, and of what came later."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import LogError
from batch_collection.log.entries import digest
from batch_collection.log.expiry import Expiry
from batch_collection.paths import (
    DATA,
    DEAD_LETTERS,
    WINDOWS,
    manifest_window,
    stub_path,
    visible_place,
)
from batch_collection.publishing.manifest import manifest_of, read_manifest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import timedelta

    from batch_collection.log.entry import Entry, Pane
    from batch_collection.storage.contract import Storage

__all__ = [
    "LatePane",
    "Manifest",
    "check_stubs",
    "is_folded",
    "is_left_over",
    "late_manifests",
    "left_over",
]


class LatePane(NamedTuple):
    """A pane that is there, of a window of which earlier ones were expired."""

    entry: Entry
    pane: Pane


class Manifest(NamedTuple):
    """A manifest of such a pane."""

    path: str
    cycle: int
    agrees: bool


def check_stubs(storage: Storage, newest: int) -> Iterator[str]:
    """Yield, one sentence each, what is wrong with the stubs up to the newest."""
    before: Expiry | None = None
    previous: str | None = None
    for number in range(newest + 1):
        path, is_chained = stub_path(number), previous is not None or number == 0
        try:
            content = storage.read(path)
            expiry = Expiry.from_json(content)
        except FileNotFoundError:
            yield f"{path} is missing, though later ones are there"
            before, previous = None, None
            continue
        except LogError as error:
            yield f"{path}: {error}"
            before, previous = None, None
            continue
        if expiry.number != number or (is_chained and expiry.previous != previous):
            yield f"{path} does not follow the stub before it: one of them was changed"
        if before is not None and _went_back(before, expiry):
            yield f"{path} says less than the stub before it"
        before, previous = expiry, digest(content)


def _went_back(before: Expiry, expiry: Expiry) -> bool:
    return (
        expiry.before < before.before
        or expiry.through < before.through
        or expiry.first < before.first
    )


def is_folded(expiry: Expiry, path: str) -> bool:
    """Tell by its name whether an entry that was folded named a file of dead letters."""
    place = visible_place(path)
    return place is not None and place[1] < expiry.first


def is_left_over(expiry: Expiry, interval: timedelta, path: str) -> bool:
    """Tell by its name whether a file that no entry names should be gone."""
    folder = path.partition("/")[0]
    if folder == WINDOWS:
        start = manifest_window(path)
        return start is not None and start + interval <= expiry.before
    if folder == DEAD_LETTERS:
        return is_folded(expiry, path)
    place = visible_place(path)
    if place is None:
        return False
    start, cycle = place
    return folder == DATA and expiry.hides(cycle, start + interval)


def left_over(path: str) -> str:
    """Say that something is there that was expired."""
    return f"{path} was expired and is still there; run batch-collection expire again"


def late_manifests(
    storage: Storage, late: Iterable[LatePane], paths: Iterable[str]
) -> Iterator[Manifest]:
    """Yield those of some manifests that are of late panes.

    Their cycles tell, not their numbers: a pane that was published before its window was expired
    has the number that came next then; published again, it has that of its cycle as well.
    """
    by_place = {(one.pane.window_start, one.entry.cycle): one for one in late}
    starts = {start for start, _ in by_place}
    for path in paths:
        start = manifest_window(path)
        if start is None or start not in starts:
            continue
        try:
            content = read_manifest(storage, path)
        except (FileNotFoundError, LogError):
            continue
        late_pane = None if content is None else by_place.get((start, content["cycle"]))
        if content is None or late_pane is None:
            continue  # of a pane that was expired, or none
        entry, pane = late_pane
        files = content["files"][: -len(pane.files)]
        is_whole = content == manifest_of(entry, pane, content["revision"], files)
        yield Manifest(path, entry.cycle, is_whole)
