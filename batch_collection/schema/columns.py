"""The names that columns of our own have, and that no column of a payload may have."""

from __future__ import annotations

__all__ = ["METADATA_COLUMNS", "NOT_PAYLOAD", "PATH_KEYS", "PLACEHOLDER", "RESERVED_COLUMNS"]

_POSITION = frozenset({"_partition", "_offset", "_timestamp", "_index"})
METADATA_COLUMNS: dict[str, frozenset[str]] = {
    "none": frozenset(),
    "position": _POSITION,
    "full": _POSITION | {"_key", "_headers"},
}
"""The columns of our own that each ``--metadata`` adds."""
PATH_KEYS = frozenset({"window_date", "window_hour"})
"""A column named like a key of the path breaks pyarrow's readers and is masked by DuckDB's."""
PLACEHOLDER = "_empty"
"""The column of a Parquet file whose rows have no other: without any, no reader would see a row."""
RESERVED_COLUMNS = METADATA_COLUMNS["full"] | PATH_KEYS

NOT_PAYLOAD = frozenset(
    {
        "_attributes",
        "_headers",
        "_index",
        "_key",
        "_message_id",
        "_offset",
        "_ordering_key",
        "_partition",
        "_publish_time",
        "_timestamp",
    }
)
"""Metadata columns: models get them only where they are asked for."""
