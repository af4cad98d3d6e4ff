"""The manifests of closed windows: what they say, and how a damaged or lost one is made again."""

from __future__ import annotations

import contextlib
import json
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any

from batch_collection.checkpoints.listing import kept_listing
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.errors import UNREADABLE, AlreadyExistsError, LogError
from batch_collection.log.entries import read_entry, read_kept
from batch_collection.log.expiry import first_cycle
from batch_collection.parallel import in_parallel
from batch_collection.paths import manifest_path, visible_place, window_folder
from batch_collection.storage.contract import TOGETHER, BundlingStorage
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry, Pane
    from batch_collection.storage.contract import Storage

__all__ = [
    "create_manifests",
    "early_files",
    "has_manifest",
    "lacks",
    "manifest_file",
    "manifest_of",
    "mend_manifests",
    "parsed",
    "read_manifest",
]


_FORMAT = 1


def parsed(content: bytes) -> dict[str, Any] | None:
    """Return what a manifest says; None if it is damaged: cut short, empty, or something else.

    Raises:
        LogError: it is of a newer format.
    """
    try:
        found = json.loads(content)
        is_newer = found["format"] > _FORMAT
        files = [(file["path"], file["rows"]) for file in found["files"]]
        texts, counts = zip(*files, strict=True) if files else ((), ())
        numbers = (found["cycle"], found["revision"], *counts)
    except UNREADABLE:
        return None
    if is_newer:
        message = (
            f"manifest of format={found['format']}, this version reads up to {_FORMAT}; "
            "update batch-collection"
        )
        raise LogError(message)
    is_whole = all(isinstance(text, str) for text in texts) and all(
        type(number) is int for number in numbers
    )
    return found if is_whole else None


def read_manifest(storage: Storage, path: str) -> dict[str, Any] | None:
    """Return what a manifest says; None if it is damaged.

    Raises:
        FileNotFoundError: there is none.
    """
    return parsed(storage.read(path))


def manifest_of(
    entry: Entry, pane: Pane, revision: int, files: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return a closed window's manifest: ``files`` that it had before, and those of the pane."""
    files = files + _files(pane)
    return {
        "format": _FORMAT,
        "window_start": format_instant(pane.window_start),
        "window_end": format_instant(pane.window_end),
        "revision": revision,
        "cycle": entry.cycle,
        "timing": pane.timing,
        "rows": sum(file["rows"] for file in files),
        "files": files,
    }


def _files(pane: Pane) -> list[dict[str, Any]]:
    return [{"path": file.path, "rows": file.rows} for file in pane.files]


def has_manifest(pane: Pane) -> bool:
    """Tell whether a pane brings its window a manifest: it closes it, or comes later."""
    return pane.timing != "early" and bool(pane.files or pane.earlier)


def early_files(storage: Storage, pane: Pane) -> list[dict[str, Any]]:
    """Collect the files that earlier cycles gave a window, as manifests name them."""
    earlier = (_panes_of(read_entry(storage, cycle), pane.window_start) for cycle in pane.earlier)
    return [file for one in chain.from_iterable(earlier) for file in _files(one)]


def _panes_of(entry: Entry, window: datetime) -> Iterator[Pane]:
    return (pane for pane in entry.panes if pane.window_start == window)


def manifest_file(
    entry: Entry, pane: Pane, revision: int, files: list[dict[str, Any]]
) -> tuple[str, bytes] | None:
    """Return a manifest's path and content; None: it would name no file.

    ``files`` are what the pane's window had before.
    """
    if not files and not pane.files:
        return None
    content = json.dumps(manifest_of(entry, pane, revision, files), indent=1).encode() + b"\n"
    return manifest_path(pane.window_start, revision), content


def create_manifests(storage: Storage, files: Sequence[tuple[str, bytes]]) -> None:
    """Write manifests, paths and contents, but for those that are there."""
    if isinstance(storage, BundlingStorage):
        groups = [files[first : first + TOGETHER] for first in range(0, len(files), TOGETHER)]
        in_parallel(partial(_create_together, storage), groups)
    else:
        in_parallel(partial(_create_manifest, storage), files)


def _create_together(storage: Any, files: Sequence[tuple[str, bytes]]) -> None:
    taken = set(storage.create_all(files))
    for path, content in files:
        if path in taken:
            _mend_taken(storage, path, content)


def _create_manifest(storage: Storage, file: tuple[str, bytes]) -> None:
    try:
        storage.create(*file)
    except AlreadyExistsError:
        _mend_taken(storage, *file)


def _mend_taken(storage: Storage, path: str, content: bytes) -> None:
    """Leave what somebody has written who publishes the same entry beside us, or has damaged."""
    with contextlib.suppress(FileNotFoundError):
        if read_manifest(storage, path) is None:
            storage.replace(path, content)


def lacks(storage: Storage, entry: Entry, pane: Pane, last: dict[str, Any] | None) -> bool:
    """Tell whether its window has files of before ``entry`` that its ``last`` manifest lacks.

    Then that is not the last one: somebody has removed the others. One folder is listed.
    """
    known = {file["path"] for file in last["files"]} if last is not None else set[str]()
    for path in storage.list(window_folder(pane.window_start, entry.layout)):
        place = visible_place(path)
        if place is None or path in known:
            continue
        if place[0] == pane.window_start and place[1] < entry.cycle:
            return True
    return False


def mend_manifests(storage: Storage, entry: Entry, pane: Pane) -> None:
    """Make what is damaged or lost of the manifests of a pane's window, up to its own, by the log.

    What can be read stays as it is: an audit compares it with the log.
    """
    files: list[dict[str, Any]] = []
    revision = 0
    for other, part in _panes_by_log(storage, entry, pane):
        if has_manifest(part):
            revision += 1
            made = manifest_file(other, part, revision, files)
            create_manifests(storage, [made] if made else [])
        files = files + _files(part)


def _panes_by_log(storage: Storage, entry: Entry, pane: Pane) -> Iterator[tuple[Entry, Pane]]:
    """Yield the panes of a pane's window in the log's order, up to its own, and their entries."""
    narrowing = Narrowing(pane.window_start, pane.window_end)
    table = kept_listing(storage, entry.cycle, narrowing).select(["cycle", "timing"])
    cycles = {entry.cycle, *table.column("cycle").to_pylist()}
    timings = {pane.timing, *table.column("timing").to_pylist()}
    if "early" in timings and "on_time" not in timings:
        cycles.add(_closing(storage, entry, pane.window_end))
    for found in read_kept(storage, sorted(cycles)):
        for part in _panes_of(found, pane.window_start):
            yield found, part


def _closing(storage: Storage, entry: Entry, window_end: datetime) -> int:
    """Return the cycle that closed a window, by ``entry`` or before: boundaries never go back."""
    low, high = first_cycle(storage), entry.cycle
    while low < high:
        middle = (low + high) // 2
        boundary = read_entry(storage, middle).boundary
        if boundary is not None and boundary >= window_end:
            high = middle
        else:
            low = middle + 1
    return low
