"""What the collection of a subscription is called."""

from __future__ import annotations

__all__ = ["collection_of"]

_ESCAPED = str.maketrans({each: f"%{ord(each):02X}" for each in "~+%"})


def collection_of(path: str) -> str:
    """Return a subscription's name without its project; ``~ + %`` as in a URL."""
    return path.rpartition("/")[2].translate(_ESCAPED)
