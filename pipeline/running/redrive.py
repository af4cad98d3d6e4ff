"""Dead letters decoded again: files whose messages make rows become part of log entries, once."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timezone
from functools import partial
from typing import TYPE_CHECKING

from batch_collection.checkpoints.dead_letters import (
    entries_with_letters,
    live_dead_letters,
    reasons_of,
)
from batch_collection.errors import CollectionError, LogError, StorageError
from batch_collection.log.end import end_of_log
from batch_collection.log.entries import newest_entry, no_collection, read_since
from batch_collection.log.expiry import first_kept, undisturbed
from batch_collection.paths import new_token, outcome_path
from batch_collection.publishing.append import finish
from batch_collection.schema.types import merge
from batch_collection.windows import microseconds
from pipeline.graph import GraphOptions, RedriveTasks
from pipeline.planning.pinning import check_schema, newly_pinned
from pipeline.running.local import run_steps
from transforms.committing.commit import read_failure
from transforms.cutting.windows import InWindows
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.decode import decode
from transforms.elements.failure import OUTRUN, SCHEMA_CHANGE
from transforms.elements.plan import RedrivePlan, Task
from transforms.writing.dead_letters import read_letters

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from batch_collection.log.entry import DeadLetterFile, Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.schema.types import Schema
    from batch_collection.storage.contract import Storage
    from pipeline.options.redrive import Asked

__all__ = ["LEASE", "MOST_MESSAGES", "Outcome", "redrive"]


LEASE = 1000
"""Cycles that may be committed while a redrive is at work; after them what it has staged is swept.

So nobody sweeps what a living one needs, and what a dead one left does not stay for ever.
"""

MOST_MESSAGES = 2_000_000
"""Messages of one entry, unless one file has more: bounds what a crash repeats."""

_MOST_TRIES = 20  # as types change, or others are faster


@dataclass(slots=True)
class Outcome:
    """What came of dead letters: of ``messages`` in ``files`` that were redriven, and of the rest.

    ``rows`` in ``windows`` were made; ``empty`` messages hold none; ``still_dead`` are those of
    which no row can be made, by their reasons of now. Files of which nothing could be made are
    ``left`` as they were.
    """

    files: int = 0
    messages: int = 0
    rows: int = 0
    empty: int = 0
    windows: set[int] = field(default_factory=set)
    still_dead: Counter[str] = field(default_factory=Counter)
    left: int = 0

    def add(self, other: Outcome) -> None:
        """Take what came of others in."""
        self.files += other.files
        self.messages += other.messages
        self.rows += other.rows
        self.empty += other.empty
        self.windows |= other.windows
        self.still_dead += other.still_dead
        self.left += other.left


def redrive(storage: Storage, asked: Asked, *, dry_run: bool = False) -> Outcome:
    """Decode all dead letters of a collection again, and commit what comes of them.

    Each message becomes rows once, whoever else collects or redrives, and wherever this ends: the
    log takes each file once. Files none of whose messages can be decoded stay as they are; with
    ``dry_run`` all do, and the outcome is what would come.

    Raises:
        CollectionError: there is no collection, or ``--schema`` is not what it has.
    """
    letters = _Letters.of(storage)
    if not dry_run:
        storage.check_moves()
        finish(storage, letters.newest)  # a redrive that was killed may have left it half done
    outcome, worth_it = Outcome(), list["DeadLetterFile"]()
    for file in tuple(letters.live.values()):
        try:
            tried = _tried(letters, file, asked, whole=dry_run)
        except StorageError:
            letters.since()
            if file.path in letters.live:
                raise
            continue  # another redrive was faster
        if tried.files and not dry_run:
            worth_it.append(file)
        else:
            outcome.add(tried)
    for group in _groups(worth_it):
        entry = _committed(letters, group, asked)
        if entry is not None:
            outcome.add(_told(storage, entry))
    return outcome


@dataclass(slots=True)
class _Letters:
    """The live dead letters of a collection, up to an entry of its log."""

    storage: Storage
    newest: Entry
    live: dict[str, DeadLetterFile]

    @classmethod
    def of(cls, storage: Storage) -> _Letters:
        """Read all of the log that tells of some."""
        return undisturbed(storage, partial(cls._of, storage))

    @classmethod
    def _of(cls, storage: Storage, expiry: Expiry | None) -> _Letters:
        end = end_of_log(storage)
        if end is None:
            raise no_collection(storage)
        newest, first = end.entry, first_kept(expiry)
        entries = entries_with_letters(storage, first, newest.cycle)
        return cls(storage, newest, live_dead_letters(entries))

    def since(self) -> tuple[Entry, ...]:
        """Return what was committed since the last look; what it has redriven is no longer live."""
        last = newest_entry(self.storage, hint=self.newest.cycle) or self.newest
        found = read_since(self.storage, self.newest.cycle, last.cycle)
        for path in (path for entry in found for path in entry.redriven):
            self.live.pop(path, None)
        self.newest = last
        return found

    def schema(self, asked: Asked) -> Schema:
        """Return the types to decode under: the collection's, and what ``--schema`` adds."""
        reserved = asked.rules(self.newest).reserved
        check_schema(asked.schema, self.newest, self.storage.uri, reserved)
        return merge(self.newest.schema, asked.schema, widen=False)


def _tried(letters: _Letters, file: DeadLetterFile, asked: Asked, *, whole: bool) -> Outcome:
    """Decode a file and keep nothing; return what a redrive of it would come to.

    Unless the ``whole`` is asked for, it ends where a message can be decoded.
    """
    pinned = letters.schema(asked)
    while True:
        try:
            return _decoded(letters, file, pinned, asked, whole=whole)
        except SchemaChange as change:
            pinned = change.schema


def _decoded(
    letters: _Letters, file: DeadLetterFile, pinned: Schema, asked: Asked, *, whole: bool
) -> Outcome:
    now, newest = datetime.now(timezone.utc), letters.newest
    rules = asked.rules(newest)
    found, known = Outcome(), pinned
    for messages in read_letters(letters.storage, file):
        columns = Columns(pinned, known, newest.fold, newest.dropped)
        decoded = decode(messages, columns, rules, now, newest.interval)
        known = decoded.schema
        found.messages += messages.num_rows
        found.rows += decoded.rows.num_rows
        found.empty += sum(read.empty for read in decoded.counts)
        rows = InWindows.of(decoded.rows, newest.interval)
        found.windows.update(rows.starts[rows.runs].tolist())
        found.still_dead.update(decoded.dead_letters.column("error").to_pylist())
        if not whole and found.still_dead.total() < found.messages:
            break
    if found.still_dead.total() == found.messages:
        return Outcome(left=1, still_dead=found.still_dead)
    found.files = 1
    return found


def _groups(files: Iterable[DeadLetterFile]) -> Iterator[list[DeadLetterFile]]:
    """Put files together, so that many small ones do not make as many small batches."""
    group: list[DeadLetterFile] = []
    for file in files:
        if group and sum(each.messages for each in (*group, file)) > MOST_MESSAGES:
            yield group
            group = []
        group.append(file)
    if group:
        yield group


def _committed(letters: _Letters, group: Sequence[DeadLetterFile], asked: Asked) -> Entry | None:
    """Redrive what is live of some files; return the entry, None if nothing is any more."""
    schema = None
    for _ in range(_MOST_TRIES):
        letters.since()
        group = [file for file in group if file.path in letters.live]
        if not group:
            return None
        plan = _plan(letters, group, asked, schema)
        run_steps([Task(plan, 0, (), ())], RedriveTasks(_graph_options(letters.newest, asked)))
        for entry in letters.since():
            if entry.plan == plan.id:
                return entry
        failure = read_failure(plan)
        letters.storage.delete([outcome_path(plan.cycle, plan.id)])
        is_beaten = any(file.path not in letters.live for file in group)
        if failure is None:
            message = f"the account of dead letters of {letters.storage.uri} does not close"
            raise CollectionError(message)
        if failure.kind == SCHEMA_CHANGE:
            schema = failure.schema
        elif failure.kind != OUTRUN and not is_beaten:
            raise failure.error()
    message = f"{letters.storage.uri} changed {_MOST_TRIES} times meanwhile; try it again"
    raise LogError(message)


def _plan(
    letters: _Letters, group: Sequence[DeadLetterFile], asked: Asked, schema: Schema | None
) -> RedrivePlan:
    newest, now, types = letters.newest, datetime.now(timezone.utc), letters.schema(asked)
    return RedrivePlan(
        collection=letters.storage.uri,
        cycle=newest.cycle + LEASE,
        run=new_token(),
        id=new_token(),
        cause="redrive",
        planned_at=now,
        interval=newest.interval,
        batch_size=asked.batch_size,
        boundary=newest.boundary,
        previous_boundary=newest.boundary,
        ahead_limit=now,
        schema=types if schema is None else schema,
        tasks=1,
        flush=True,  # rows of open windows do not wait
        pinned=newly_pinned(asked.schema, types, newest.schema),
        dropped=newest.dropped,
        format=newest.format,
        form=newest.form,
        letters=tuple(group),
        behind=newest.cycle,
    )


def _graph_options(newest: Entry, asked: Asked) -> GraphOptions:
    return GraphOptions(
        rules=asked.rules(newest),
        interval=newest.interval,
        batch_size=asked.batch_size,
        output=asked.files,
    )


def _told(storage: Storage, entry: Entry) -> Outcome:
    """Return what an entry says of its redrive, and its new dead letters of their reasons."""
    return Outcome(
        files=len(entry.redriven),
        messages=sum(read.messages for read in entry.became),
        rows=sum(read.rows for read in entry.became),
        empty=sum(read.empty for read in entry.became),
        windows={microseconds(pane.window_start) for pane in entry.panes},
        still_dead=reasons_of(storage, entry.dead_letters),
    )
