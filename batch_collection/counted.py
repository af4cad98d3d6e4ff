"""How many there are, as people read it."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, name: str, plural: str = "s") -> str:
    """Write how many there are: ``1 file``, ``2,000 files``; ``plural`` is what more have behind.

    Example:
        >>> counted(2_000, "batch", "es")
        '2,000 batches'
    """
    return f"{number:,} {name}{plural * (number != 1)}"
