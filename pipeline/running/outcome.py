"""What a run ends with."""

from __future__ import annotations

from batch_collection.errors import CollectionError, OtherCollectorError, RowTimeError

__all__ = ["OTHER_COLLECTOR", "exit_code"]


OTHER_COLLECTOR = 3
"""The exit code where another collector is at work on the same collection."""


def exit_code(error: CollectionError) -> int:
    """Return 2 for a mistake in the flags that only messages can show, 1 for most else."""
    if isinstance(error, OtherCollectorError):
        return OTHER_COLLECTOR
    return 2 if isinstance(error, RowTimeError) else 1
