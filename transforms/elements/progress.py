"""What this process has done of the running cycle, for a display; nothing else depends on it."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Progress", "progress"]


@dataclass(slots=True)
class Progress:
    """Messages read and files written since the last ``reset``.

    ``undated`` rows have no ``_timestamp``, which holds years 1 to 9999.
    """

    messages: int = 0
    files: int = 0
    undated: int = 0

    def reset(self) -> None:
        """Start a cycle."""
        self.messages = self.files = self.undated = 0


progress = Progress()
