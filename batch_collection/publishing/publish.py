"""Make a committed entry visible: everything here can be done again, by anybody, without harm."""

from __future__ import annotations

from functools import partial
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.checkpoints.batch_table import batches_in
from batch_collection.checkpoints.listing import kept_listing
from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.errors import FileGoneError
from batch_collection.log.entries import entry_there, put_entry
from batch_collection.log.expiry import Looked
from batch_collection.parallel import in_parallel
from batch_collection.paths import (
    CARRY,
    STAGING,
    cycle_name,
    drafted_path,
    entry_cycle,
    entry_path,
    is_checkpoint,
    manifest_path,
    staged_cycle,
)
from batch_collection.publishing.manifest import (
    create_manifests,
    early_files,
    lacks,
    manifest_file,
    mend_manifests,
    parsed,
)
from batch_collection.storage.fetching import both, each
from batch_collection.storage.present import missing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from batch_collection.log.entries import Link
    from batch_collection.log.entry import Entry, Pane
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage

__all__ = ["append_published", "left_over", "publish", "sweep", "unpublished"]


def append_published(storage: Storage, entry: Entry) -> Link:
    """Create an entry if its cycle has none, publish the one that it has, and return that.

    Raises:
        CollectionError: see ``entry_there`` and ``publish``.
    """
    created = put_entry(storage, entry)
    looking, listing = partial(Looked.at, storage), partial(_left_of, storage, entry)
    looked, left = both(storage, looking, listing)  # neither before the entry is there
    found = entry_there(storage, entry, created, looked)
    publish(storage, found.entry, looked=looked, left=left if created else None)
    return found


def publish(
    storage: Storage,
    entry: Entry,
    *,
    without_gone: bool = False,
    leave_strays: bool = False,
    looked: Looked | None = None,
    left: Sequence[str] | None = None,
) -> None:
    """Move an entry's files to their visible names, write its manifests, remove what it replaced.

    ``entry`` is the one read back from the log. When this returns, all of it is durable, and the
    next entry may be created. It may be done twice at once, and again after newer entries were
    published: tokens are drawn once, so what an entry has released or not named is never named by a
    later one. A manifest comes, and what was replaced goes, when all files are visible.

    Args:
        storage: Where the collection lies.
        entry: What to publish.
        without_gone: Leave files alone that somebody has taken away since an earlier publishing.
        leave_strays: Leave what else was staged for the entry's cycle: a collector may be writing
            it, which does not know yet that the cycle is no longer its own.
        looked: What was found expired; None: look.
        left: What ``left_over`` has found, when the entry was there; None: list what is staged for
            its cycle.

    Raises:
        FileGoneError: a file that the entry names is at neither of its names.
    """
    storage.settle(entry_path(entry.cycle))
    expiry = (looked or Looked.at(storage)).expiry
    if expiry is not None and entry.cycle <= expiry.through:
        return  # it was published long ago, and some of it is gone since
    staged = frozenset(_left_of(storage, entry) if left is None else left)
    gone = missing(storage, (target for source, target in entry.moves if source not in staged))
    if not without_gone:
        _check_none_gone(entry, gone)
    moves = [move for move in entry.moves if move[1] not in gone]
    if storage.is_far:  # where what is moved is durable; a disk syncs the names of all again
        moves = [move for move in moves if move[0] in staged]
    closed = [pane for pane in entry.panes if pane.timing != "early"]
    looking = partial(_next_manifests, storage, entry, closed, expiry)
    _, found = both(storage, partial(storage.move, moves), looking)
    damaged = [pane for pane, made in zip(closed, found, strict=True) if made.is_damaged]
    in_parallel(partial(mend_manifests, storage, entry), damaged)
    manifests = [made.file for made in found if made.file is not None]
    over = [*staged.intersection(entry.released), *entry.redriven, *entry.ids_released]
    over += () if leave_strays else _stray(entry, staged)
    both(storage, partial(create_manifests, storage, manifests), partial(storage.delete, over))


def _check_none_gone(entry: Entry, gone: set[str]) -> None:
    for source, target in entry.moves:
        if target in gone:
            message = f"cannot move {source}: it is gone, and {target} is not there either"
            raise FileGoneError(message)


def unpublished(storage: Storage, entry: Entry) -> tuple[str, ...]:
    """Return the visible paths of files of the newest entry that are where they were staged only.

    It is committed, and may just be being published; else its collector was stopped in between.
    """
    staged = frozenset(_staged(storage, entry))
    left = [visible for source, visible in entry.moves if source in staged]
    gone = missing(storage, left)
    return tuple(path for path in left if path in gone)


def left_over(storage: Storage) -> tuple[str, ...]:
    """List all that is staged or waits: what ``publish`` and ``sweep`` may have to do with."""
    return tuple(path for folder in (STAGING, CARRY) for path in storage.list(folder))


def sweep(storage: Storage, newest: Entry, left: Sequence[str] | None = None) -> None:
    """Remove what crashed collectors left of cycles up to ``newest``, an entry that is published.

    A cycle without an entry may belong to a living collector, so its files stay until it has one;
    the draft of a file stays until that file is there, or its cycle has an entry. ``left`` is what
    ``left_over`` has found; None: it is asked.
    """
    named = _named(newest)
    storage.delete(
        path
        for path in (left_over(storage) if left is None else left)
        if path not in named and _is_left_over(storage, path, newest.cycle)
    )


def _is_left_over(storage: Storage, path: str, newest: int) -> bool:
    """Say whether nobody can need what lies below ``staging/`` or ``carry/``."""
    target = drafted_path(path)
    if target is not None:
        cycle = entry_cycle(target)  # an entry that is no longer there was expired
        is_old = cycle is not None and cycle <= newest
        # that of a checkpoint is written anew if its writer lives
        is_useless = is_old or is_checkpoint(target) or storage.size(target) is not None
        return is_useless or _is_left_over(storage, target, newest)
    cycle = staged_cycle(path)
    return cycle is not None and cycle <= newest


def _named(entry: Entry) -> set[str]:
    """Collect what an entry names below ``staging/`` and ``carry/``."""
    return {staged for staged, _ in entry.moves} | {file.path for file in entry.carry}


def _left_of(storage: Storage, entry: Entry) -> tuple[str, ...]:
    """Return what ``publish`` has to do with: what is staged, and what the entry has released."""
    return (*_staged(storage, entry), *entry.released)


def _staged(storage: Storage, entry: Entry) -> Iterator[str]:
    """List what was staged for an entry's cycle, and where else an entry's files were staged."""
    elsewhere = {source.rpartition("/")[0] for source, _ in entry.moves}  # a redrive's lease
    folders = {*_folders(entry), *elsewhere}
    return chain.from_iterable(each(storage, lambda folder: list(storage.list(folder)), folders))


def _folders(entry: Entry) -> tuple[str, ...]:
    return f"{STAGING}/{cycle_name(entry.cycle)}", f"{CARRY}/{cycle_name(entry.cycle)}"


def _stray(entry: Entry, staged: Iterable[str]) -> list[str]:
    """Return what of this was staged for an entry's cycle but isn't named by it."""
    named, folders = _named(entry), tuple(f"{folder}/" for folder in _folders(entry))
    return [path for path in staged if path.startswith(folders) and path not in named]


def _files_by_log(
    storage: Storage, entry: Entry, panes: Iterable[Pane]
) -> dict[datetime, list[dict[str, Any]]]:
    """Collect what windows have by the log, of whose manifests we are unsure (``Entry.unsure``)."""
    unsure = entry.unsure
    doubtful = [pane for pane in panes if unsure is not None and pane.window_end <= unsure]
    if not doubtful:
        return {}
    first = min(pane.window_start for pane in doubtful)
    end = max(pane.window_end for pane in doubtful)
    table = kept_listing(storage, entry.cycle - 1, Narrowing(first, end))
    files: dict[datetime, list[dict[str, Any]]] = {pane.window_start: [] for pane in doubtful}
    for batch in batches_in(storage, table):
        if batch.window_start in files:
            files[batch.window_start].append({"path": batch.path, "rows": batch.rows})
    return files


class _Next(NamedTuple):
    """The manifest that a window lacks, if it lacks one; or some of its are to be made again."""

    file: tuple[str, bytes] | None = None
    is_damaged: bool = False


def _next_manifests(
    storage: Storage, entry: Entry, panes: Sequence[Pane], expiry: Expiry | None
) -> list[_Next]:
    """Look for the manifests of closed windows, and say what is to be done; nothing is written."""
    known = _files_by_log(storage, entry, panes)
    made = each(storage, lambda pane: _next_manifest(storage, entry, pane, expiry, known), panes)
    return list(made)


def _next_manifest(
    storage: Storage,
    entry: Entry,
    pane: Pane,
    expiry: Expiry | None,
    known: dict[datetime, list[dict[str, Any]]],
) -> _Next:
    """Return a closed window's next revision; none if this entry's is there.

    Of a window that was expired the earlier ones are gone, or going; what comes after has the
    number of its cycle, which is higher than theirs: no name is ever taken again. Of others, those
    that somebody has damaged or removed are to be made again.
    """
    if expiry is not None and pane.window_end <= expiry.before:
        return _Next(manifest_file(entry, pane, entry.cycle, []))
    revision, last = 1, None
    while (content := _read(storage, manifest_path(pane.window_start, revision))) is not None:
        last = parsed(content)
        if last is None:
            return _Next(is_damaged=True)
        revision += 1
    if last is not None and last["cycle"] >= entry.cycle:
        storage.settle(manifest_path(pane.window_start, revision - 1))
        return _Next()
    if pane.timing == "late" and lacks(storage, entry, pane, last):
        return _Next(is_damaged=True)
    files = known.get(pane.window_start)
    if files is None:
        files = last["files"] if last is not None else early_files(storage, pane)
    return _Next(manifest_file(entry, pane, revision, files))


def _read(storage: Storage, path: str) -> bytes | None:
    try:
        return storage.read(path)
    except FileNotFoundError:
        return None
