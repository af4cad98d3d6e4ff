"""``python -m pipeline``."""

from __future__ import annotations

from pipeline.cli import entry_point

__all__: list[str] = []

if __name__ == "__main__":
    entry_point()
