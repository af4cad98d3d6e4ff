"""``batch-collection help``: the commands, or one of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.showing.lines import say
from pipeline.showing.overview import overview

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Mapping

    from pipeline.options.flags import Parser

__all__ = ["about", "configure"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the word."""
    parser.add_argument(
        "command", metavar="COMMAND", nargs="?", help="the command to explain (default: list them)"
    )


def about(
    args: argparse.Namespace, commands: Mapping[str, str], parser_of: Callable[[str], Parser]
) -> int:
    """Print it; return 0.

    Raises:
        CollectionError: there is no such command.
    """
    if args.command is None:
        say(*overview(commands))
    else:
        say(*parser_of(args.command).format_help().rstrip("\n").split("\n"))
    return 0
