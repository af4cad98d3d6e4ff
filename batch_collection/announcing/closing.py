"""The windows that an entry closes, or gives more rows later, and whether that is visible yet."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.errors import DamagedFileError, ExpiredError
from batch_collection.log.entries import read_entry
from batch_collection.log.expiry import newest_expiry
from batch_collection.paths import WINDOWS, entry_path, manifest_path
from batch_collection.publishing.manifest import has_manifest, parsed
from batch_collection.publishing.publish import unpublished
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from batch_collection.log.entry import Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = [
    "Closing",
    "Manifest",
    "Window",
    "closings_of",
    "manifest_seen",
    "newest_manifest",
    "visible_boundary",
]


@dataclass(frozen=True, slots=True)
class Closing:
    """A window that an entry closes, or gives rows that came late: a revision of its manifest.

    ``number`` is its place among those of the entry, which stand by window.
    """

    entry: Entry
    pane: Pane
    number: int

    @property
    def cycle(self) -> int:
        """The entry's cycle."""
        return self.entry.cycle

    @property
    def window_end(self) -> datetime:
        """The end of the window."""
        return self.pane.window_end


class Window(NamedTuple):
    """A window: ``[start, end)``."""

    start: datetime
    end: datetime


class Manifest(NamedTuple):
    """What a closed window holds, all of it visible: ``rows`` in so many ``files``."""

    path: str
    revision: int
    cycle: int
    rows: int
    files: int


def closings_of(entry: Entry) -> tuple[Closing, ...]:
    """Return what an entry closes, by window; windows without a row are not among it."""
    panes = sorted(filter(has_manifest, entry.panes), key=lambda pane: pane.window_start)
    return tuple(Closing(entry, pane, number) for number, pane in enumerate(panes))


def manifest_seen(
    storage: Storage, closing: Closing, wait: Callable[[], object]
) -> Manifest | None:
    """Return the manifest of a closing, which is written when all its files are visible.

    Args:
        storage: Where the collection lies.
        closing: What an entry closes.
        wait: Called until it is there; a true answer ends that.

    Returns:
        The manifest; None if the wait was ended.

    Raises:
        ExpiredError: the window was expired meanwhile.
        DamagedFileError: the next entry is there, and so the manifest was, too.
    """
    while True:
        expired = cache(partial(newest_expiry, storage))  # it is looked for once a look, if at all
        is_past = storage.size(entry_path(closing.cycle + 1)) is not None
        found = _manifest(storage, closing, expired)
        if found is not None:
            return found
        if _is_hidden(closing, expired()):
            message = f"window {format_instant(closing.pane.window_start)} was expired meanwhile"
            raise ExpiredError(message)
        if is_past:
            path = manifest_path(closing.pane.window_start, 1)
            message = (
                f"cannot find what cycle={closing.cycle} wrote of {path} or a later revision in "
                f"{storage.uri}; run `batch-collection audit`"
            )
            raise DamagedFileError(message)
        if wait():
            return None


def visible_boundary(storage: Storage, newest: Entry) -> datetime | None:
    """Return up to when all windows are closed and visible; None: none is.

    What the newest entry closes may still be on its way to its place; when there is another entry
    behind one, all of that one is visible.
    """
    if newest.boundary is None or newest.cycle == 0 or _is_visible(storage, newest):
        return newest.boundary
    try:
        return read_entry(storage, newest.cycle - 1).boundary
    except ExpiredError:  # it is there again with the next cycle
        return None


def newest_manifest(storage: Storage, window: Window) -> Manifest | None:
    """Return the last revision of a closed window's manifest; None: it has no rows."""
    *_, last = (None, *_revisions(storage, window, partial(newest_expiry, storage)))
    return last


def _is_visible(storage: Storage, entry: Entry) -> bool:
    """Tell whether all that an entry gives windows is where it shall be, or was and is expired."""
    if unpublished(storage, entry):
        return False
    expired = partial(newest_expiry, storage)
    expiry = expired()
    return all(
        _is_hidden(closing, expiry) or _manifest(storage, closing, expired) is not None
        for closing in closings_of(entry)
    )


def _is_hidden(closing: Closing, expiry: Expiry | None) -> bool:
    return expiry is not None and expiry.hides(closing.cycle, closing.window_end)


def _manifest(
    storage: Storage, closing: Closing, expired: Callable[[], Expiry | None]
) -> Manifest | None:
    """Return the revision that an entry wrote, None if there is none that can be read."""
    window = Window(closing.pane.window_start, closing.window_end)
    revisions = _revisions(storage, window, expired)
    return next((found for found in revisions if found.cycle == closing.cycle), None)


def _revisions(
    storage: Storage, window: Window, expired: Callable[[], Expiry | None]
) -> Iterator[Manifest]:
    """Yield the revisions of a window's manifest; where the first was expired, those since."""
    revision = 1
    while (found := _read(storage, manifest_path(window.start, revision), revision)) is not None:
        yield found
        revision += 1
    expiry = expired() if revision == 1 else None
    if expiry is not None and window.end <= expiry.before:
        for number, path in _listed(storage, window.start):
            if (later := _read(storage, path, number)) is not None:
                yield later


def _listed(storage: Storage, window_start: datetime) -> list[tuple[int, str]]:
    """List the revisions of a window's manifest, and their paths."""
    name = manifest_path(window_start, 0).removesuffix("0.json")
    paths = storage.list(WINDOWS, name, f"{name}~")
    numbers = ((path.removeprefix(name).removesuffix(".json"), path) for path in paths)
    return sorted((int(number), path) for number, path in numbers if number.isdecimal())


def _read(storage: Storage, path: str, revision: int) -> Manifest | None:
    try:
        content = parsed(storage.read(path))
    except FileNotFoundError:
        return None
    if content is None:
        return None
    files = content["files"]
    rows = sum(file["rows"] for file in files)
    return Manifest(path, revision, content["cycle"], rows, len(files))
