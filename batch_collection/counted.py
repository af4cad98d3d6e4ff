"""How many there are, as people read it."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, name: str, plural: str = "s") -> str:
    """Write how many there are: ``1 file``, ``2,000 files``; ``plural`` is what more have behind.

    Example:
        >>> counted(2_000, "batch", "es"), counted(2, "entry"), counted(1, "entry")
        ('2,000 batches', '2 entries', '1 entry')
    """
    if number == 1:
        return f"1 {name}"
    return f"{number:,} " + (f"{name[:-1]}ies" if name.endswith("ry") else f"{name}{plural}")
