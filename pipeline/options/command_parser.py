"""The flags of one command, and its help: what it does, an example, what it needs, all flags."""

from __future__ import annotations

import argparse
import re
from typing import TYPE_CHECKING

from pipeline.options.flags import Parser

if TYPE_CHECKING:
    from collections.abc import Container, Sequence

__all__ = ["CommandParser", "let_be_left_out"]

_IS_REQUIRED = re.compile(r"\(required[),]")  # but not "required for"
_REQUIRED = re.compile(r" \(required[^)]*\)")
_LARGE_DEFAULT = re.compile(r"(?<=\(default: )\d{5,}(?=\))")


class CommandParser(Parser):
    """Reads a command's flags."""

    def __init__(self, name: str, says: str, example: str) -> None:
        """Take the command's name, what it does, and an example of it without the program."""
        super().__init__(
            prog=f"batch-collection {name}", description=says, formatter_class=_Formatter
        )
        self._example = example

    def read(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
        """Do as ``Parser.read``; where a value may be left out, it stands behind ``=``.

        So the word behind such a flag is none of its own: ``--watch PATH``. What is given and
        empty, as of a variable of the shell that is not set, is a mistake and no default.
        """
        left_out = {
            flag: f"{flag}={action.const}"
            for action in self._actions
            for flag in action.option_strings
            if action.nargs == "?"
        }
        args, unknown, errors = super().read([left_out.get(word, word) for word in words])
        for action in self._actions:
            if action.option_strings and getattr(args, action.dest, None) == "":
                setattr(args, action.dest, action.default)
                if not _is_required(action):  # or it is told to be missing
                    flag = action.option_strings[0]
                    errors.append(f"{flag} is empty; give it a value, or leave it out")
        return args, unknown, errors

    def format_usage(self) -> str:
        """Return what must be given; 40 flags in brackets are no help."""
        needed = [_given(action) for action in self._actions if _is_required(action)]
        return " ".join(["usage:", self.prog, *needed, "[FLAGS]"]) + "\n"

    def format_help(self) -> str:
        """Begin with what it does and an example."""
        formatter = self._get_formatter()
        for group in self._action_groups:
            formatter.start_section(group.title)
            formatter.add_text(group.description)
            formatter.add_arguments(group._group_actions)  # noqa: SLF001 - as argparse itself
            formatter.end_section()
        head = f"{self.description}\n\nexample:\n  batch-collection {self._example}\n"
        return f"{head}\n{self.format_usage()}\n{formatter.format_help()}"


def let_be_left_out(parser: argparse.ArgumentParser, flags: Container[str]) -> None:
    """Unmark flags of another command that this one does not require."""
    for action in parser._actions:  # noqa: SLF001 - argparse has no other way
        if action.help and any(flag in flags for flag in action.option_strings):
            action.help = _REQUIRED.sub("", action.help)


def _is_required(action: argparse.Action) -> bool:
    """Tell what must be given; flags that others can stand in for are marked in their help."""
    if not action.option_strings:
        return action.nargs not in {"?", "*"}
    return _IS_REQUIRED.search(str(action.help)) is not None


def _given(action: argparse.Action) -> str:
    flag = action.option_strings[0] + "=" if action.option_strings else ""
    return f"{flag}{action.metavar}" + " ..." * (action.nargs == "+")


class _Formatter(argparse.RawDescriptionHelpFormatter):
    """Wide enough for flags with their values."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=34, width=100)

    def _format_action_invocation(self, action: argparse.Action) -> str:
        text = super()._format_action_invocation(action)
        return text.replace(" [", "[=") if action.nargs == "?" else text

    def _get_help_string(self, action: argparse.Action) -> str:
        """Write large defaults so that they can be read; flags take them so, too."""
        return _LARGE_DEFAULT.sub(lambda found: f"{int(found[0]):,}", str(action.help))
