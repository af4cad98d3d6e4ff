"""What the launcher of the Flex Template runs: ``collect``, whose submission does not wait."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from pipeline.cli import main

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["as_flags"]

SWITCHES = {"--once", "--flush", "--streaming"}


def as_flags(words: Iterable[str]) -> list[str]:
    """Write flags as the command line has them: a template's parameters all have a value."""
    flags = []
    for word in words:
        name, _, value = word.partition("=")
        if name not in SWITCHES or not value:
            flags.append(word)
        elif value.lower() == "true":
            flags.append(name)
    return flags


if __name__ == "__main__":
    sys.exit(main(as_flags(sys.argv[1:])))
