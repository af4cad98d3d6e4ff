"""What a collection is begun with and keeps, and what is refused because of it."""

from __future__ import annotations

import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_collection.errors import LogError
from batch_collection.log.entry import FORMAT, FORMS, Entry
from batch_collection.paths import new_token
from batch_collection.schema.types import merge
from batch_collection.windows import format_duration
from pipeline.planning.pinning import check_schema

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from batch_collection.log.entry import PartitionRead, Source
    from batch_collection.schema.types import Schema

__all__ = ["Pins", "begun_again", "check_source", "first_entry"]


@dataclass(frozen=True, slots=True)
class Pins:
    """What a collection is begun with and keeps: see the flags of the same names.

    ``reserved`` are names that a column can't have (``RowRules``).
    """

    interval: timedelta
    row_time: str
    start: str
    is_start_given: bool
    schema: Schema
    reserved: frozenset[str]

    def check(self, newest: Entry, uri: str) -> None:
        """Refuse to go on with another interval or rule than the collection was begun with.

        Raises:
            LogError: it names the flag and the cure.
        """
        for flag, before, given in self._pinned(newest):
            if before != given:
                message = (
                    f"--{flag}={given}, but {uri} was begun with --{flag}={before}; "
                    f"use --{flag}={before} or another --output"
                )
                raise LogError(message)

    def check_schema(self, newest: Entry | None, uri: str) -> None:
        """Refuse a ``--schema`` that a collection can't have; see ``pinning.check_schema``."""
        check_schema(self.schema, newest, uri, self.reserved)

    def differ_from(self, newest: Entry) -> bool:
        """Tell whether the collection was begun with other flags."""
        flags = any(before != given for _, before, given in self._pinned(newest))
        return flags or bool(self.schema and self.schema != newest.schema)

    def schema_over(self, newest: Entry) -> Schema | None:
        """Return the collection's schema with what ``--schema`` adds, None if that is nothing.

        A type that was pinned since this collector began stands against its ``--schema``, and so
        does a column that was dropped.
        """
        given = {name: t for name, t in self.schema.items() if name not in newest.dropped}
        merged = merge(newest.schema, given, widen=False)
        return merged if merged != newest.schema else None

    def _pinned(self, newest: Entry) -> list[tuple[str, str, str]]:
        """Give each pinned flag, what it was begun with, and what it is now."""
        pinned = [
            ("interval", format_duration(newest.interval), format_duration(self.interval)),
            ("timestamp", newest.row_time, self.row_time),
        ]
        if self.is_start_given:
            pinned.append(("start", newest.start, self.start))
        return pinned


def check_source(newest: Entry, mine: Source, uri: str) -> None:
    """Refuse to go on with another topic or cluster than the newest entry's.

    Raises:
        LogError: it names what differs and the cure.
    """
    source = newest.source
    if source.kind != mine.kind:
        message = f"{uri} was collected from {source.kind}, not {mine.kind}; use another --output"
        raise LogError(message)
    stream = mine.stream
    if source.topic != mine.topic:
        message = f"{uri} holds {stream}={source.topic}, not {mine.topic}; use another --output"
        raise LogError(message)
    for name in ("cluster_id", "topic_id"):
        before, now = getattr(source, name), getattr(mine, name)
        if before is None or now is None or before == now:
            continue
        if mine.kind == "pubsub":
            message = (
                f"{uri} was collected from messages of topic={before}, and {stream}={mine.topic} "
                f"is of topic={now} now (it was created again); use another --output"
            )
            raise LogError(message)
        what = "another cluster" if name == "cluster_id" else "a topic that was created again"
        message = (
            f"{uri} was collected from {name}={before}, but --bootstrap_servers leads to "
            f"{name}={now} ({what}); use another --output"
        )
        raise LogError(message)


def first_entry(
    pins: Pins, source: Source, reads: tuple[PartitionRead, ...], run: str, now: datetime
) -> Entry:
    """Make entry 0: no rows, but where reading starts and what is pinned."""
    return Entry(
        cycle=0,
        run=run,
        plan=new_token(),
        previous=None,
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=now,
        source=source,
        interval=pins.interval,
        row_time=pins.row_time,
        start=pins.start,
        cause="start",
        reads=reads,
        schema=pins.schema,
        pinned=tuple(pins.schema),
        format=FORMAT,
        **FORMS[FORMAT]._asdict(),
    )


def begun_again(
    pins: Pins,
    newest: Entry,
    digest: str,
    reads: tuple[PartitionRead, ...] | None,
    run: str,
    now: datetime,
) -> Entry:
    """Make the entry that pins all anew behind one that only did that: nothing is collected.

    ``reads`` say where to start; None: where ``newest`` says.
    """
    schema: dict[str, Any] = pins.schema or newest.schema
    return newest.following(
        digest,
        run=run,
        plan=new_token(),
        host=socket.gethostname(),
        pid=os.getpid(),
        committed_at=now,
        interval=pins.interval,
        row_time=pins.row_time,
        start=newest.start if reads is None else pins.start,
        cause="start",
        reads=newest.standing_reads if reads is None else reads,
        schema=schema,
        pinned=tuple(schema),
    )
