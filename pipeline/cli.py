"""The commands: ``batch-collection COMMAND``; ``python -m pipeline`` is its ``collect``."""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from typing import TYPE_CHECKING

from batch_collection import __version__
from batch_collection.errors import CollectionError
from pipeline.flags import Parser, from_config_file, normalised, unknown_flags

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["COMMANDS", "entry_point", "main"]

COMMANDS = {
    "collect": "collect topics in batch files at regular intervals (the default)",
    "demo": "produce into an embedded broker, collect, show the files, audit them",
    "produce": "send sample messages at regular intervals",
    "follow": "hand each committed batch to a function, once",
    "status": "say how a collection stands",
    "audit": "check every file and entry of a collection",
}


def main(argv: Sequence[str]) -> int:
    """Run a command; return the exit code: 0, 1 (it failed) or 2 (what the user can mend)."""
    words = normalised(argv)
    if words and not words[0].startswith("-"):
        command, words = words[0], words[1:]
    else:
        command = "collect"
    try:
        return _run(command, words)
    except CollectionError as error:
        for line in str(error).splitlines():
            print(f"error: {line}", file=sys.stderr)
        return 2
    except BrokenPipeError:  # as in `status ... | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def entry_point() -> None:
    """Run the command that the shell gave."""
    sys.exit(main(sys.argv[1:]))


def _run(command: str, words: Sequence[str]) -> int:
    if command not in COMMANDS:
        message = f"unknown command {command!r}; use one of: {', '.join(COMMANDS)}"
        raise CollectionError(message)
    module = importlib.import_module(f"pipeline.{command}_command")
    parser = Parser(
        prog=f"batch-collection {command}",
        description=COMMANDS[command],
        formatter_class=_Formatter,
        epilog=_epilog(command),
    )
    parser.add_argument("--version", action="version", version=f"batch-collection {__version__}")
    module.configure(parser)
    args, errors = _parse(parser, words)
    check = getattr(module, "check", None)
    try:
        options = check(args) if check is not None else args
    except CollectionError as error:
        errors += str(error).splitlines()
    if errors:
        raise CollectionError("\n".join(errors))
    return int(module.run(options))


def _parse(parser: Parser, words: Sequence[str]) -> tuple[argparse.Namespace, list[str]]:
    """Read flags, those of ``--config`` first so that the command line wins."""
    args, rest = parser.parse_known_args(list(words))
    if getattr(args, "config", None):
        args, rest = parser.parse_known_args([*from_config_file(args.config), *words])
    return args, unknown_flags(rest, parser.flags())


def _epilog(command: str) -> str:
    if command != "collect":
        return ""
    lines = [f"  {name:<9}{text}" for name, text in COMMANDS.items()]
    return "\n".join(["commands (batch-collection COMMAND --help):", *lines])


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wide enough for flags with their values."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)
