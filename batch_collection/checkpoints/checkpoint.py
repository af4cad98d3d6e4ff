"""Checkpoints: what many entries of the log say, in two files that are quickly read.

A checkpoint of a range of entries (``ranges.py``) is derived from them, and from the files of their
dead letters. ``.parquet`` lists their batches; ``.json`` sums them up, is written last, and holds
the checksums of both. It says whose it is by the hash of the range's last entry: as each entry
holds the hash of the one before, that stands for all of them. So one that is torn, damaged or of
another log is told from a good one, and the entries are read instead.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_collection.checkpoints.batch_table import LISTED, listed
from batch_collection.checkpoints.ranges import Range
from batch_collection.errors import LogError
from batch_collection.log.entries import digest
from batch_collection.log.sums import Sums
from batch_collection.paths import checkpoint_path, entry_path
from batch_collection.storage.checksum import crc32c
from batch_collection.windows import format_instant, from_microseconds, parse_instant

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = [
    "FORMAT",
    "MOST_REASONS",
    "Checkpoint",
    "Checksum",
    "Summary",
    "checkpoint_of",
    "listing_path",
    "merged",
    "not_following",
    "read_checkpoint",
    "read_listing",
    "read_rows",
    "read_starts",
    "read_summary",
    "summary_of",
    "summary_path",
    "write_checkpoint",
]


FORMAT = 1

MOST_REASONS = 1_000
"""Of more different reasons for dead letters none are kept: they would be the most of a summary."""

_ROW_GROUP = 8_192  # rows that are read at least, to read a few
_SORTED = [(name, "ascending") for name in ("window_start", "cycle", "number")]
_INTEGERS = ("cycle", "number", "window_start", "window_end", "rows", "bytes")


class Checksum(NamedTuple):
    """What a file must be."""

    bytes: int
    crc32c: str


@dataclass(frozen=True, slots=True)
class Summary:
    """What a range of entries adds up to.

    Attributes:
        previous: the hash of the entry before the first one; None before entry 0.
        digest: the hash of the last entry.
        reasons: dead letters by reason; None if they are too many, or a file can't be read.
        latest_start: of all windows that have batches; None if none has.
        earliest_end: the same.
        listing: what the file that lists the batches must be.
    """

    range: Range
    previous: str | None
    digest: str
    sums: Sums
    reasons: dict[str, int] | None
    latest_start: datetime | None
    earliest_end: datetime | None
    listing: Checksum

    def to_json(self) -> bytes:
        """Return its bytes: one JSON object whose last field is a checksum of all before it."""
        fields = {"format": FORMAT, **asdict(self)}
        fields |= {"sums": self.sums._asdict(), "listing": self.listing._asdict()}
        body = json.dumps(fields, default=format_instant).encode().removesuffix(b"}")
        return body + _tail(body)

    @classmethod
    def from_json(cls, content: bytes) -> Summary | None:
        """Read it; None if it is damaged, or of another format."""
        body = content[: -len(_tail(b""))]
        if content != body + _tail(body):
            return None
        try:
            return cls._of(json.loads(content))
        except (KeyError, TypeError, ValueError):
            return None

    @classmethod
    def _of(cls, fields: dict[str, Any]) -> Summary | None:
        if fields["format"] != FORMAT:
            return None
        start, end = fields["latest_start"], fields["earliest_end"]
        return cls(
            range=Range(*fields["range"]),
            previous=fields["previous"],
            digest=fields["digest"],
            sums=Sums(**fields["sums"]),
            reasons=fields["reasons"],
            latest_start=start and parse_instant(start),
            earliest_end=end and parse_instant(end),
            listing=Checksum(**fields["listing"]),
        )


class Checkpoint(NamedTuple):
    """A checkpoint whole: its summary, and the file that lists the batches."""

    summary: Summary
    listing: bytes

    @property
    def table(self) -> pa.Table:
        """The batches, as ``LISTED``, sorted by window."""
        return _decoded(self.listing, None)


def checkpoint_of(
    span: Range, entries: Sequence[Entry], last_digest: str, reasons: Mapping[str, int] | None
) -> Checkpoint:
    """Return the checkpoint of a range.

    Args:
        span: The range.
        entries: All of its entries; their files are at their visible names.
        last_digest: The hash of the last one's bytes.
        reasons: Its dead letters by reason, None if not known.
    """
    sums = Sums.total(map(Sums.of, entries))
    return _checkpoint(span, entries[0].previous, last_digest, sums, reasons, listed(entries))


def merged(span: Range, parts: Sequence[Checkpoint]) -> Checkpoint:
    """Return the checkpoint of the range that others make up.

    Raises:
        LogError: one does not follow the other.
    """
    summaries = [part.summary for part in parts]
    for before, after in pairwise(summaries):
        if after.previous != before.digest:
            raise not_following(after.range.first)
    sums = Sums.total(summary.sums for summary in summaries)
    table = pa.concat_tables(part.table for part in parts)
    reasons = _added([summary.reasons for summary in summaries])
    return _checkpoint(span, summaries[0].previous, summaries[-1].digest, sums, reasons, table)


def not_following(cycle: int) -> LogError:
    """Return the error of an entry that does not name the one before it."""
    return LogError(f"{entry_path(cycle)} does not follow the entry before it")


def _checkpoint(
    span: Range,
    previous: str | None,
    last_digest: str,
    sums: Sums,
    reasons: Mapping[str, int] | None,
    table: pa.Table,
) -> Checkpoint:
    content = _encoded(table)
    known = None if reasons is None or len(reasons) > MOST_REASONS else dict(reasons)
    summary = Summary(
        range=span,
        previous=previous,
        digest=last_digest,
        sums=sums,
        reasons=known,
        latest_start=_extreme(pc.max(table.column("window_start"))),
        earliest_end=_extreme(pc.min(table.column("window_end"))),
        listing=Checksum(len(content), crc32c(content)),
    )
    return Checkpoint(summary, content)


def _added(counts: Sequence[Mapping[str, int] | None]) -> dict[str, int] | None:
    total: dict[str, int] = {}
    for each in counts:
        if each is None:
            return None
        for reason, count in each.items():
            total[reason] = total.get(reason, 0) + count
    return total


def _extreme(instant: pa.Scalar) -> datetime | None:
    return from_microseconds(instant.value) if instant.is_valid else None


def _encoded(table: pa.Table) -> bytes:
    """Write a listing; the same bytes for the same batches, as long as pyarrow is the same."""
    sink = pa.BufferOutputStream()
    pq.write_table(
        table.drop_columns("staged").sort_by(_SORTED),
        sink,
        row_group_size=_ROW_GROUP,
        compression="zstd",
        use_dictionary=["timing"],
        column_encoding=dict.fromkeys(_INTEGERS, "DELTA_BINARY_PACKED")
        | {"path": "DELTA_BYTE_ARRAY"},
    )
    return sink.getvalue().to_pybytes()


def _decoded(content: bytes, where: pc.Expression | None) -> pa.Table:
    """Read a listing; row groups in which nothing can be as ``where`` says are left out."""
    table = pq.read_table(pa.BufferReader(content), filters=where)
    return table.append_column(LISTED.field("staged"), pa.nulls(table.num_rows, pa.string()))


def read_summary(storage: Storage, span: Range) -> Summary | None:
    """Return the summary of a range, None if there is none that holds of the log as it is."""
    summary = summary_of(storage, span)
    if summary is None or summary.range != span:
        return None
    try:
        is_ours = digest(storage.read(entry_path(span.last))) == summary.digest
    except FileNotFoundError:
        return None
    return summary if is_ours else None


def summary_of(storage: Storage, span: Range) -> Summary | None:
    """Return the summary that lies there for a range, whatever it holds; None if it is damaged."""
    try:
        return Summary.from_json(storage.read(summary_path(span)))
    except FileNotFoundError:
        return None


def read_rows(
    storage: Storage, summary: Summary, where: pc.Expression | None = None
) -> pa.Table | None:
    """Return the batches for which ``where`` holds, as ``LISTED``, sorted by window.

    None if the file is gone or damaged.
    """
    content = read_listing(storage, summary)
    return None if content is None else _decoded(content, where)


def read_starts(storage: Storage, summary: Summary, where: pc.Expression) -> pa.Array | None:
    """Return the windows of the batches for which ``where`` holds, each once.

    None if the file is gone or damaged.
    """
    content = read_listing(storage, summary)
    if content is None:
        return None
    table = pq.read_table(pa.BufferReader(content), columns=["window_start"], filters=where)
    return table.column("window_start").unique()


def read_checkpoint(storage: Storage, span: Range) -> Checkpoint | None:
    """Return the checkpoint of a range, None if there is none that is whole."""
    summary = read_summary(storage, span)
    content = None if summary is None else read_listing(storage, summary)
    return None if summary is None or content is None else Checkpoint(summary, content)


def write_checkpoint(storage: Storage, checkpoint: Checkpoint) -> None:
    """Write a checkpoint over what is there; it may be done twice at once.

    What is there is the same, or is worth nothing. Readers in between find a sum that is not that
    of the listing, and go by the entries.
    """
    span = checkpoint.summary.range
    storage.replace(listing_path(span), checkpoint.listing)
    storage.replace(summary_path(span), checkpoint.summary.to_json())


def read_listing(storage: Storage, summary: Summary) -> bytes | None:
    """Return the file that lists the batches; None if it is gone or damaged."""
    try:
        content = storage.read(listing_path(summary.range))
    except FileNotFoundError:
        return None
    return content if Checksum(len(content), crc32c(content)) == summary.listing else None


def summary_path(span: Range) -> str:
    """Return where a range is summed up."""
    return checkpoint_path(*span, ".json")


def listing_path(span: Range) -> str:
    """Return where a range's batches are listed."""
    return checkpoint_path(*span, ".parquet")


def _tail(body: bytes) -> bytes:
    return f', "crc32c": "{crc32c(body)}"}}\n'.encode()
