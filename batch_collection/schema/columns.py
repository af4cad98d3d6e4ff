"""The names that columns of our own have, and that no column of a payload may have."""

from __future__ import annotations

__all__ = [
    "KINDS_WITH_IDS",
    "LEASED_COLUMNS",
    "METADATA_COLUMNS",
    "NOT_PAYLOAD",
    "PATH_KEYS",
    "PLACEHOLDER",
    "reserved_names",
]

KINDS_WITH_IDS = frozenset({"pubsub"})
"""Kinds of sources whose messages have ids and attributes, and no addresses of their own."""

_POSITION = frozenset({"_partition", "_offset", "_timestamp", "_index"})
METADATA_COLUMNS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "position": _POSITION,
    "full": _POSITION | {"_key", "_headers"},
}
"""The columns of our own that each ``--metadata`` adds."""
_IDENTITY = frozenset({"_message_id", "_publish_time", "_index"})
LEASED_COLUMNS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "position": _IDENTITY,
    "full": _IDENTITY | {"_ordering_key", "_attributes"},
}
"""The same for ``KINDS_WITH_IDS``."""
PATH_KEYS = frozenset({"window_date", "window_hour"})
"""A column named like a key of the path breaks pyarrow's readers and is masked by DuckDB's."""
PLACEHOLDER = "_empty"
"""The column of a Parquet file whose rows have no other: without any, no reader would see a row."""
NOT_PAYLOAD = METADATA_COLUMNS["full"] | LEASED_COLUMNS["full"]
"""Metadata columns: models get them only where they are asked for."""


def reserved_names(kind: str, metadata: str = "full") -> frozenset[str]:
    """Return the names that no payload's column may have in a collection from a kind of source."""
    columns = LEASED_COLUMNS if kind in KINDS_WITH_IDS else METADATA_COLUMNS
    return columns[metadata] | PATH_KEYS
