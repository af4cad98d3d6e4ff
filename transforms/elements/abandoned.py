"""Attempts of which nothing can come: what is not read for them yet is left."""

from __future__ import annotations

__all__ = ["abandon", "forget", "is_abandoned"]

_abandoned: set[str] = set()


def abandon(attempt: str) -> None:
    """Let no more be read for an attempt, if this process reads it."""
    _abandoned.add(attempt)


def is_abandoned(attempt: str) -> bool:
    """Tell whether nothing can come of it."""
    return attempt in _abandoned


def forget(attempt: str) -> None:
    """Forget an attempt that is over."""
    _abandoned.discard(attempt)
