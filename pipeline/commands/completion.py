"""``batch-collection completion``: a script by which a shell completes command lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from pipeline.options.flags import nearest
from pipeline.showing.completion import SHELLS, shape_of
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from pipeline.options.flags import Parser

__all__ = ["about", "check", "configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the word."""
    parser.add_argument("shell", metavar="|".join(SHELLS), help="the shell that reads the script")


def check(args: argparse.Namespace) -> str:
    """Return the shell.

    Raises:
        CollectionError: there is no script for it.
    """
    if args.shell is None:  # that it is missing is said already
        return ""
    shell = str(args.shell)
    if shell not in SHELLS:
        message = f"unknown shell {shell}{nearest(shell, SHELLS)}; use one of: {', '.join(SHELLS)}"
        raise CollectionError(message)
    return shell


def about(shell: str, commands: Mapping[str, str], parser_of: Callable[[str], Parser]) -> int:
    """Print the script; return 0."""
    names = [*commands]
    shapes = [
        shape_of(name, says, parser_of(name).actions, names) for name, says in commands.items()
    ]
    say(*SHELLS[shell](shapes))
    return 0
