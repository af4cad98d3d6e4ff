"""The records of a log entry, and their JSON.

One entry is the whole outcome of one cycle; see docs/format.md. Instants are aware UTC
``datetime``s here and RFC 3339 in the JSON; paths are relative to the collection.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any, NamedTuple

from batch_collection.errors import UNREADABLE, LogError
from batch_collection.paths import CARRY, DATA, DEAD_LETTERS, IDS, STAGING, lies_in
from batch_collection.windows import FIRST_INSTANT, format_instant, parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "FORMAT",
    "FORMS",
    "MAINTENANCE",
    "Awaited",
    "BatchFile",
    "CarryFile",
    "DeadLetterFile",
    "Entry",
    "Form",
    "IdFile",
    "Origin",
    "Pane",
    "PartitionRead",
    "Source",
]


try:
    from orjson import loads  # three times as fast
except ImportError:  # whoever only reads may have pyarrow alone
    from json import loads  # type: ignore[assignment]  # options that nobody uses

FORMAT = 2
"""The format of collections that are begun now; older ones go on under theirs."""


class Form(NamedTuple):
    """How the files of a collection look, pinned by its entry 0 for all of them.

    ``layout``: hours in paths are ``padded`` (``window_hour=04``, which DuckDB takes for text or a
    number by the hours that are there) or ``plain`` (``window_hour=4``, always a number).
    ``headers``: the type of those columns is ``map``, which can't hold a name twice, or ``list``,
    of key and value. ``fold``: which names are taken for one: ``none``, or those that differ by the
    case of ``ascii`` letters.
    """

    layout: str
    headers: str
    fold: str


FORMS = {1: Form("padded", "map", "none"), 2: Form("plain", "list", "ascii")}
"""What collections of each format are begun with."""

_PUBSUB = "pubsub"

MAINTENANCE = frozenset({"drop", "pin", "redrive", "upgrade"})
"""Causes of entries that read nothing from the topic: those of commands."""


@dataclass(frozen=True, slots=True)
class Source:
    """What a collection collects; ``topic_id``, ``cluster_id`` are None if the broker has none.

    Of Pub/Sub ``topic`` is the path of the subscription, ``topic_id`` that of its topic, None if
    nobody may look; the JSON has them as ``subscription`` and ``topic``. What came through Beam
    (``kind`` is ``beam``) has no ``topic``.
    """

    kind: str
    topic: str
    topic_id: str | None = None
    cluster_id: str | None = None

    @property
    def stream(self) -> str:
        """What people call what ``topic`` names."""
        return "subscription" if self.kind == _PUBSUB else "topic"

    def plain(self) -> dict[str, str | None]:
        """Return it as JSON values."""
        if self.kind == _PUBSUB:
            return {"kind": self.kind, "subscription": self.topic, "topic": self.topic_id}
        return {name: getattr(self, name) for name in _names(Source)}

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Source:
        """Return what ``plain`` gave, in any version."""
        if "subscription" in plain:
            return cls(plain["kind"], plain["subscription"], plain.get("topic"))
        return cls(**_known(cls, plain))


@dataclass(frozen=True, slots=True)
class PartitionRead:
    """Offsets ``[start, end)`` of one partition and what became of the messages in them.

    ``messages`` = those that made rows + ``dead_letters`` + ``tombstones`` + ``empty``; ``lost``
    offsets are a recorded gap; what is left of ``end - start`` are holes (compaction, transaction
    markers). ``rows`` counts rows, of which an array message makes several. ``max_time`` is the
    highest row time read from this partition so far, over all cycles.
    """

    partition: int
    start: int
    end: int
    messages: int = 0
    rows: int = 0
    dead_letters: int = 0
    tombstones: int = 0
    empty: int = 0
    lost: int = 0
    max_time: datetime | None = None


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A batch on disk. ``offsets`` gives, by partition, the first and last offset and the rows.

    ``types`` are those of columns that have other ones in it than in its entry: rows that waited
    while a type was changed may have kept the old one. Format 1 does not tell.
    """

    path: str
    staged: str
    rows: int
    bytes: int
    crc32c: str
    min_time: datetime
    max_time: datetime
    offsets: dict[int, tuple[int, int, int]]
    types: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Pane:
    """The batches one cycle gave one window: ``timing`` is ``early``, ``on_time`` or ``late``.

    An on-time pane closes its window; ``earlier`` names the cycles that gave it early panes.
    """

    window_start: datetime
    window_end: datetime
    timing: str
    rows: int
    files: tuple[BatchFile, ...]
    earlier: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class CarryFile:
    """Rows of one window that wait for their batch, written by shard ``shard``.

    ``indexed``: some come from messages that hold arrays. ``size``: the bytes of its rows, where
    batches end by bytes (``--target_bytes``).
    """

    path: str
    window_start: datetime
    rows: int
    shard: int
    bytes: int
    crc32c: str
    indexed: bool = False
    size: int = 0


@dataclass(frozen=True, slots=True)
class DeadLetterFile:
    """Messages kept whole because no row could be made of them."""

    path: str
    staged: str
    messages: int
    bytes: int
    crc32c: str


@dataclass(frozen=True, slots=True)
class IdFile:
    """Ids of messages of a leased source that are durable: another delivery of one is no message.

    ``staged`` is where the file waited, empty once an entry before has made it visible.
    ``named_at`` is when the first entry with its ids was committed, of merged ones the last such
    entry: none of them was published after that. ``acknowledged``: the source has answered for each
    of them. ``age`` is for how many seconds was collected since it did, or else since ``named_at``.
    """

    path: str
    staged: str
    ids: int
    bytes: int
    crc32c: str
    named_at: datetime | None = None
    acknowledged: bool = False
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Origin:
    """Where rows without addresses came from: a pane that Beam has fired, by its place.

    The place is the pipeline's ``run`` (drawn when it was built), the window, the shard, and the
    pane's ``index`` there. ``checksum`` is that of its elements, in whatever order. ``repeated``:
    the same place had given other rows before, which may be the same ones in part.
    """

    run: str
    window_start: datetime
    shard: int
    index: int
    checksum: str
    rows: int
    repeated: bool = False


@dataclass(frozen=True, slots=True)
class Awaited:
    """A window that is not closed though a ``run`` of Beam gives it panes.

    ``ended`` are the shards whose on-time pane has come.
    """

    run: str
    window_start: datetime
    ended: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Entry:
    """The outcome of one cycle.

    ``boundary`` is B, None as long as no window was ever due. ``open`` gives, for windows that have
    early panes but are not closed, the cycles of those; of windows far ahead it names none, and
    ``forgotten`` is the start of the earliest of these. Windows that end by ``unsure`` were closed
    by a version that did not know of those: its manifests and ranges may lack such panes.
    ``closed_empty`` are ranges of windows that were due and had no row. ``carry`` is all that
    waits; ``released`` are carry files that no longer do and are removed once this entry is
    published. ``redriven`` are files of dead letters whose messages were decoded again, removed
    likewise; ``became`` says, by partition, what became of those messages (``start`` and ``end``
    tell where they lay). ``backlog_from`` is when the oldest message was published that was pulled
    from a leased source, where more waited than the cycle could take. ``ids`` are those of messages
    that may come again, ``ids_released`` the lists of the entry before that are needed no more and
    are removed once this one is published; ``repeated`` messages came that were in those before.
    ``row_time`` is the pinned
    ``--timestamp`` rule, ``start`` the ``--start`` that entry 0 was made with. ``pinned`` are the
    columns whose type a user has said anew; ``dropped`` those that are left out of rows from then
    on, with the types that they had.
    ``layout``, ``headers`` and ``fold`` are the ``form`` that the collection was begun with.
    What has no addresses has no ``reads``, but ``origins`` of its rows, and windows ``awaited``.
    """

    cycle: int
    run: str
    plan: str
    previous: str | None
    host: str
    pid: int
    committed_at: datetime
    source: Source
    interval: timedelta
    row_time: str
    cause: str
    start: str = "earliest"
    boundary: datetime | None = None
    reads: tuple[PartitionRead, ...] = ()
    panes: tuple[Pane, ...] = ()
    closed_empty: tuple[tuple[datetime, datetime], ...] = ()
    open: dict[datetime, tuple[int, ...]] = field(default_factory=dict)
    forgotten: datetime | None = None
    unsure: datetime | None = None
    carry: tuple[CarryFile, ...] = ()
    released: tuple[str, ...] = ()
    dead_letters: tuple[DeadLetterFile, ...] = ()
    redriven: tuple[str, ...] = ()
    became: tuple[PartitionRead, ...] = ()
    backlog_from: datetime | None = None
    ids: tuple[IdFile, ...] = ()
    ids_released: tuple[str, ...] = ()
    repeated: int = 0
    schema: dict[str, Any] = field(default_factory=dict)
    pinned: tuple[str, ...] = ()
    dropped: dict[str, Any] = field(default_factory=dict)
    layout: str = FORMS[1].layout
    headers: str = FORMS[1].headers
    fold: str = FORMS[1].fold
    format: int = 1
    origins: tuple[Origin, ...] = ()
    awaited: tuple[Awaited, ...] = ()

    def following(self, previous: str, **changes: Any) -> Entry:
        """Return an entry that follows this one, which reads nothing and gives no window anything.

        What a collection keeps (its source, rules, form and types, what waits) is carried over, all
        else of this entry is not; ``changes`` are what is new. ``previous`` is the digest of this
        entry's bytes.
        """
        kept = {name: getattr(self, name) for name in _KEPT}
        kept["ids"] = tuple(replace(file, staged="") for file in self.ids)
        own = {"cycle": self.cycle + 1, "previous": previous, "reads": self.standing_reads}
        return Entry(**{**kept, **own, **changes})

    @property
    def standing_reads(self) -> tuple[PartitionRead, ...]:
        """The reads of an entry behind this one that reads nothing: from each end to that end."""
        return tuple(
            PartitionRead(read.partition, read.end, read.end, max_time=read.max_time)
            for read in self.reads
        )

    @property
    def form(self) -> Form:
        """How the collection's files look."""
        return Form(self.layout, self.headers, self.fold)

    @property
    def is_maintenance(self) -> bool:
        """Whether a command made it, by which a running collector is not disturbed."""
        return self.cause in MAINTENANCE

    @property
    def files(self) -> tuple[BatchFile, ...]:
        """All batch files of all panes, in order."""
        return tuple(file for pane in self.panes for file in pane.files)

    @property
    def moves(self) -> tuple[tuple[str, str], ...]:
        """The staged and the visible path of every file that publishing moves."""
        files: tuple[BatchFile | DeadLetterFile | IdFile, ...]
        files = (*self.files, *self.dead_letters, *self.new_ids)
        return tuple((file.staged, file.path) for file in files)

    @property
    def new_ids(self) -> tuple[IdFile, ...]:
        """The lists of ids that this entry makes visible; the others are."""
        return tuple(file for file in self.ids if file.staged)

    @property
    def ends(self) -> dict[int, int]:
        """By partition, the offset at which the next cycle starts."""
        return {read.partition: read.end for read in self.reads}

    def to_json(self) -> bytes:
        """Return the entry's bytes, the same for the same entry."""
        fields = {name: getattr(self, name) for name in _names(Entry)}
        for name in _OF_SOME:
            if not fields[name]:
                del fields[name]
        del fields["interval"]
        fields["interval_seconds"] = self.interval.total_seconds()
        lines = ",\n".join(_lines(_plain(fields)))
        return f"{{\n{lines}\n}}\n".encode()

    @classmethod
    def from_json(cls, content: bytes) -> Entry:
        """Read an entry; unknown fields are ignored.

        Raises:
            LogError: it is no entry, or of a newer format.
        """
        try:
            fields = loads(content)
            if fields["format"] > FORMAT:
                message = (
                    f"log entry of format={fields['format']}, this version reads up to {FORMAT}; "
                    "update batch-collection"
                )
                raise LogError(message)
            return _with_our_paths(cls(**_entry_fields(fields)))
        except UNREADABLE as error:
            message = f"not a log entry: {type(error).__name__}: {error}"
            raise LogError(message) from error


_OF_SOME = ("origins", "awaited", "backlog_from", "ids", "ids_released", "repeated")
"""The fields that only entries of rows without addresses have, or of leased sources."""

_KEPT = frozenset(
    {
        "awaited",
        "source",
        "interval",
        "row_time",
        "start",
        "boundary",
        "open",
        "forgotten",
        "unsure",
        "backlog_from",
        "carry",
        "schema",
        "dropped",
        "layout",
        "headers",
        "fold",
        "format",
    }
)
"""The fields of an entry that the next one has, too, unless it says otherwise."""


def _with_our_paths(entry: Entry) -> Entry:
    """Return an entry whose paths lead to where such files lie: they are moved, and deleted.

    Raises:
        LogError: it names one.
    """
    for folder, paths in (
        (DATA, (file.path for file in entry.files)),
        (DEAD_LETTERS, (file.path for file in entry.dead_letters)),
        (DEAD_LETTERS, entry.redriven),
        (STAGING, (staged for staged, _ in entry.moves)),
        (CARRY, (file.path for file in entry.carry)),
        (CARRY, entry.released),
        (IDS, (file.path for file in entry.ids)),
        (IDS, entry.ids_released),
    ):
        for path in paths:
            if not lies_in(path, folder):
                message = (
                    f"it names {path!r:.200}, which is no path below {folder}/: somebody has "
                    "changed it; put it back as it was, or collect into another --output"
                )
                raise LogError(message)
    return entry


def _lines(fields: dict[str, Any]) -> Iterator[str]:
    """Yield fields of a JSON object, sorted: a line each, and of lists a line for each item.

    With an ``indent`` for all of it json would not take its fast encoder.
    """
    for name, value in sorted(fields.items()):
        if isinstance(value, list) and len(value) > 1:
            items = ",\n  ".join(json.dumps(item, sort_keys=True) for item in value)
            yield f' "{name}": [\n  {items}\n ]'
        else:
            yield f' "{name}": {json.dumps(value, sort_keys=True)}'


def _names(record: type) -> tuple[str, ...]:
    return tuple(record.__dataclass_fields__)  # type: ignore[attr-defined]


def _plain(value: Any) -> Any:
    """Turn records into JSON values."""
    if isinstance(value, datetime):
        return format_instant(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {_key(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Source):
        return value.plain()
    if hasattr(value, "__dataclass_fields__"):
        fields = {name: getattr(value, name) for name in _names(type(value))}
        return {name: _plain(each) for name, each in fields.items() if each or name not in _RARE}
    return value


_RARE = {"types", "size"}
"""Fields that are left out where there is nothing to say: most collections never have it."""


def _key(key: Any) -> str:
    return format_instant(key) if isinstance(key, datetime) else str(key)


_RECORDS: tuple[type, ...] = (
    Source,
    PartitionRead,
    BatchFile,
    Pane,
    CarryFile,
    DeadLetterFile,
    IdFile,
    Origin,
    Awaited,
    Entry,
)
_FIELDS = {record: frozenset(_names(record)) for record in _RECORDS}
_INSTANTS = {
    record: names
    & {
        *("window_start", "window_end", "min_time", "max_time", "committed_at"),
        *("boundary", "forgotten", "unsure", "backlog_from", "named_at"),
    }
    for record, names in _FIELDS.items()
}


def _known(record: type, fields: dict[str, Any]) -> dict[str, Any]:
    """Keep what ``record`` knows and read the instants in it."""
    names = _FIELDS[record]
    known = fields if fields.keys() == names else {n: fields[n] for n in names & fields.keys()}
    for name in _INSTANTS[record]:
        if isinstance(known.get(name), str):
            known[name] = parse_instant(known[name])
    return known


def _batch_file(fields: dict[str, Any]) -> BatchFile:
    known = _known(BatchFile, fields)
    known["offsets"] = {int(key): tuple(value) for key, value in fields["offsets"].items()}
    return BatchFile(**known)


def _pane(fields: dict[str, Any]) -> Pane:
    known = _known(Pane, fields)
    known["files"] = tuple(_batch_file(file) for file in fields["files"])
    known["earlier"] = tuple(fields.get("earlier", ()))
    return Pane(**known)


def _entry_fields(fields: dict[str, Any]) -> dict[str, Any]:
    known = _known(Entry, fields)
    known["interval"] = timedelta(seconds=fields["interval_seconds"])
    known["source"] = Source.of(fields["source"])
    known["panes"] = tuple(_pane(pane) for pane in fields.get("panes", ()))
    for name, record in (
        ("reads", PartitionRead),
        ("carry", CarryFile),
        ("dead_letters", DeadLetterFile),
        ("became", PartitionRead),
        ("ids", IdFile),
        ("origins", Origin),
    ):
        known[name] = tuple(record(**_known(record, item)) for item in fields.get(name, ()))
    known["awaited"] = tuple(
        Awaited(**_known(Awaited, {**item, "ended": tuple(item["ended"])}))
        for item in fields.get("awaited", ())
    )
    known["closed_empty"] = tuple(
        (parse_instant(start), parse_instant(end)) for start, end in fields.get("closed_empty", ())
    )
    known["open"] = {
        parse_instant(start): tuple(cycles) for start, cycles in fields.get("open", {}).items()
    }
    for name in ("released", "redriven", "pinned", "ids_released"):
        known[name] = tuple(fields.get(name, ()))
    if "forgotten" not in fields:  # a version wrote it that does not know what it left out
        known["unsure"] = known.get("boundary")
        known["forgotten"] = known["unsure"] or FIRST_INSTANT
    return known
