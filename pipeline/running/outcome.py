"""What a run ends with."""

from __future__ import annotations

from batch_collection.errors import CollectionError, RowTimeError

__all__ = ["exit_code"]


def exit_code(error: CollectionError) -> int:
    """Return 2 for a mistake in the flags that only messages can show, 1 for all else."""
    return 2 if isinstance(error, RowTimeError) else 1
