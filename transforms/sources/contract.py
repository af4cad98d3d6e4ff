"""What a source is asked for: where its messages lie, and the messages themselves, in slices.

A source is a room beside this file, with one class for each of ``SourceSettings``, ``Connection``,
``AddressedSource`` and ``Reader``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple, Protocol

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.log.entry import Source as Identity

__all__ = [
    "HEADERS",
    "LEASED",
    "LEASED_MESSAGES",
    "MESSAGES",
    "AddressedSource",
    "Answer",
    "Bounds",
    "Connection",
    "Gap",
    "LeasedSource",
    "Pull",
    "Reader",
    "Remembering",
    "Slice",
    "SourceSettings",
    "Terms",
    "message_schema",
]


class Slice(NamedTuple):
    """Offsets ``[start, end)`` of one partition, read in order by one worker.

    The first ``lost`` of them were already gone when the plan was made.
    """

    topic: str
    partition: int
    start: int
    end: int
    lost: int = 0

    @property
    def first(self) -> int:
        """The first offset that is to be read."""
        return self.start + self.lost


class Gap(NamedTuple):
    """Offsets ``[start, end)`` of a partition that were deleted before they could be read."""

    partition: int
    start: int
    end: int


HEADERS = pa.list_(pa.struct({"key": pa.string(), "value": pa.binary()}))

MESSAGES = pa.schema(
    [
        pa.field("partition", pa.int32(), nullable=False),
        pa.field("offset", pa.int64(), nullable=False),
        pa.field("timestamp", pa.int64()),
        pa.field("value", pa.binary()),
        pa.field("key", pa.binary()),
        pa.field("headers", HEADERS),
    ]
)
"""Messages as read. ``timestamp``: milliseconds since the Unix epoch, null if the record has none.
A null ``value`` is a tombstone."""


class Answer(NamedTuple):
    """What the time index says of an instant: the first offset stamped at or after it, its stamp.

    Both are None where there is none, or no index.
    """

    offset: int | None
    timestamp: datetime | None


class Bounds(NamedTuple):
    """What can be read of a partition: offsets ``[first, end)``."""

    first: int
    end: int


class Reader(Protocol):
    """Reads slices on a worker. It can be pickled, and holds neither connection nor secret.

    Two readers of one kind give the same rows in the same order.
    """

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Yield every message of every slice once, from its ``first`` on.

        Those of a partition come in the order of their offsets, as record batches of schema
        ``MESSAGES``; partitions may be interleaved. The slices are of one stream, at most one a
        partition. With ``skip_lost`` there is a ``Gap`` for messages that are gone.

        Raises:
            DataLossError: messages of a slice are gone, and ``skip_lost`` is not set.
            SourceError: the source is away, or says that it can't be read.
            StoppedError: the process was asked to stop.
        """


class AddressedSource(Protocol):
    """A stream whose messages have addresses, a partition and an offset, and lie there to be read.

    Whoever plans holds it, never a worker. Every method that asks raises ``SourceError`` where the
    source is away, within half a minute; then it is tried again later.
    """

    @property
    def name(self) -> str:
        """The stream's name, which its collection gets."""

    @property
    def partitions(self) -> tuple[int, ...]:
        """Its partitions, as they were when ``refresh`` last looked."""

    def identity(self) -> Identity:
        """Ask which stream it is now: an id that differs from the log's refuses to go on."""

    def refresh(self) -> Identity:
        """Look for partitions that were added, and ask which stream it is. Called seldom."""

    def bounds(self) -> Mapping[int, Bounds]:
        """Ask what can be read, by partition."""

    def at(self, instant: datetime) -> Mapping[int, Answer]:
        """Ask the time index, by partition."""

    def remembered(self) -> Mapping[int, int]:
        """Ask how far the source remembers to have been read, by partition: a group's offsets.

        A new collection begins there. Partitions of which nothing is known are left out.
        """

    def reset(self) -> None:
        """Let go of connections for reading: the source was away, and they may be dead."""

    def release(self, entry: Entry) -> None:
        """Tell the source what is durable, once ``entry`` is published: perhaps twice, or never.

        It serves lag tools; no guarantee rests on it.
        """


LEASED = pa.schema(
    [
        pa.field("id", pa.string(), nullable=False),
        pa.field("lease", pa.string(), nullable=False),
        pa.field("published", pa.timestamp("us", "UTC"), nullable=False),
        pa.field("value", pa.binary(), nullable=False),
        pa.field("key", pa.string()),
        pa.field("attributes", HEADERS),
    ]
)
"""Messages as they are handed out. ``id`` is the message's for ever, ``lease`` this delivery's.
A null ``key`` and null ``attributes`` say that it has none."""


LEASED_MESSAGES = pa.schema(
    [*MESSAGES, LEASED.field("id"), LEASED.field("published")],
)
"""Messages of a leased source as read: at addresses that their collection has given them.

``partition`` is the task's number and ``offset`` counts what it has read so far; ``timestamp`` is
when they were published, ``key`` and ``headers`` are their key and attributes."""


def message_schema(table: pa.Table) -> pa.Schema:
    """Return the schema of the messages in a table, which may have other columns, too."""
    return LEASED_MESSAGES if "id" in table.column_names else MESSAGES


class Pull(NamedTuple):
    """What a task takes of a leased source: what comes within ``seconds``, at most so much.

    Messages get the offsets from ``start`` on of a ``partition`` of their own.
    """

    stream: str
    partition: int
    start: int
    messages: int
    bytes: int
    seconds: float


class Remembering(NamedTuple):
    """How long it is remembered which messages of a leased source were collected.

    Attributes:
        horizon: how long after they were acknowledged, of time that is collected in.
        bytes: how much memory their ids may take.
        retention: how long those are remembered that were not: as long as the source keeps them.
    """

    horizon: timedelta = timedelta(minutes=30)
    bytes: int = 256_000_000
    retention: timedelta = timedelta(days=7)

    def lasts(self, *, acknowledged: bool) -> timedelta:
        """Return for how long ids are remembered: see the attributes."""
        return self.horizon if acknowledged else self.retention


class Terms(NamedTuple):
    """What a source says of a stream that it hands out.

    Attributes:
        identity: which stream it is.
        retention: how long it keeps what nobody acknowledges, None where it doesn't say.
        notes: what people should know of it before they collect it, a line each.
    """

    identity: Identity
    retention: timedelta | None = None
    notes: tuple[str, ...] = ()


class LeasedSource(Protocol):
    """A stream that hands messages out for a while, and again unless they are acknowledged.

    Its promises are weak, and nothing may rest on them: an empty answer does not say that nothing
    waits, an acknowledgement that is answered need not have been heard, a message may come twice
    at any time, and a lease dies when its message comes again. Threads may share one. Every method
    that asks raises ``SourceError`` where the source is away, or refuses.
    """

    @property
    def name(self) -> str:
        """The stream's name, which its collection gets."""

    def terms(self) -> Terms:
        """Ask which stream it is, and what else it says of itself, within 15 seconds.

        Raises:
            CollectionError: it can't be collected as it is, whoever tries.
        """

    def pull(self, messages: int) -> pa.Table:
        """Take up to so many messages, as a table of schema ``LEASED``; perhaps none.

        It waits for the first one as long as the source likes to. How long each is held from then
        on is the source's, too, so ``extend`` is called at once.
        """

    def interrupt(self) -> None:
        """Let pulls end at once, those that wait and all later ones, with no messages.

        What was just handed out to them comes again when its lease is over.
        """

    def extend(self, leases: Sequence[str], seconds: int) -> None:
        """Hold messages for so long from now on; a lease that is over is no error."""

    def acknowledge(self, leases: Sequence[str]) -> list[str]:
        """Say that messages are durable; return those leases that are over for good.

        After an error it is not known which were heard: all may be said again.
        """

    def give_back(self, leases: Sequence[str]) -> None:
        """Let messages be handed out again now; a lease that is over is no error."""

    def close(self) -> None:
        """Let go of it; what is held is handed out again when its leases are over."""


class Connection(Protocol):
    """A connection to where sources are."""

    def sources(self, names: Sequence[str]) -> Sequence[AddressedSource]:
        """Look streams up by their names, all at once.

        Raises:
            CollectionError: there is no such stream.
            SourceError: no answer comes.
        """

    def close(self) -> None:
        """Let go of it."""


class SourceSettings(Protocol):
    """What flags say of a source: enough to connect where it is planned, to read where it is read.

    It can be pickled, and holds neither connection nor secret of its own.
    """

    @property
    def names(self) -> tuple[str, ...]:
        """The streams to collect, each into a collection of its own."""

    @property
    def kind(self) -> str:
        """What kind of source it is, as the log says it."""

    @property
    def where(self) -> str:
        """What it is and where it is asked, for people: ``kafka at HOST:PORT``."""

    @property
    def packages(self) -> tuple[str, ...]:
        """What workers need to install for it beside this package, as pip is told."""

    @property
    def collections(self) -> tuple[str, ...]:
        """What the collections of the streams are called."""

    @property
    def remembering(self) -> Remembering | None:
        """How long it remembers what was collected; None where messages have addresses."""

    def prepare(self) -> list[str]:
        """Create what flags ask for, if it isn't there; return what to say of it.

        Raises:
            SourceError: it can't be created.
        """

    def connect(self) -> Connection:
        """Open a connection.

        Raises:
            SourceError: the settings are refused.
        """

    def reader(self) -> Reader:
        """Return what workers read with."""
