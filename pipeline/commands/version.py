"""``batch-collection version``: which one this is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection import __version__
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare nothing."""


def run(args: argparse.Namespace) -> int:  # noqa: ARG001 - as of all commands
    """Print it; return 0."""
    say(f"batch-collection {__version__}")
    return 0
