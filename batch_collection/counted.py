"""How many there are, as people read it."""

from __future__ import annotations

__all__ = ["counted"]


def counted(number: int, name: str) -> str:
    """Write how many there are: ``1 file``, ``2,000 files``.

    Example:
        >>> counted(2_000, "batch"), counted(2, "entry"), counted(1, "entry")
        ('2,000 batches', '2 entries', '1 entry')
    """
    return f"{number:,} {name if number == 1 else _plural(name)}"


def _plural(name: str) -> str:
    if name.endswith("ry"):
        return f"{name[:-1]}ies"
    return f"{name}es" if name.endswith("ch") else f"{name}s"
