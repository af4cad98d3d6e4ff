"""What shells complete command lines by: scripts made of the parsers, for bash, zsh and fish."""

from __future__ import annotations

import re
import shlex
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Mapping, Sequence

__all__ = ["DEFAULT", "SHELLS", "CommandShape", "FlagShape", "shape_of"]

DEFAULT = "collect"
"""The command where none is named."""
_PROGRAM = "batch-collection"
_WORDS = re.compile(r"[a-z][a-z0-9_]*(\|[a-z][a-z0-9_]*)+")
_PATHS = {"DIR", "FILE", "PATH", "ROOT"}
_MOST_LETTERS = 80


class FlagShape(NamedTuple):
    """A flag, or a word without one (``name`` is empty), as it is completed.

    Attributes:
        name: as ``--output``.
        says: what it is for.
        takes_value: whether one must follow.
        choices: the values there are; empty: any.
        is_path: its values are files or folders.
        is_repeated: more than one such word may be given.
    """

    name: str
    says: str
    takes_value: bool
    choices: tuple[str, ...] = ()
    is_path: bool = False
    is_repeated: bool = False


class CommandShape(NamedTuple):
    """A command, and what may follow it."""

    name: str
    says: str
    flags: tuple[FlagShape, ...]

    @property
    def word(self) -> FlagShape | None:
        """The word that it takes without a flag."""
        return next((each for each in self.flags if not each.name), None)


def shape_of(
    name: str, says: str, actions: Sequence[argparse.Action], commands: Sequence[str]
) -> CommandShape:
    """Take from a parser's actions what can be completed."""
    flags = (_flag(action, commands) for action in actions)
    return CommandShape(name, says, tuple(flags))


def _flag(action: argparse.Action, commands: Sequence[str]) -> FlagShape:
    metavar = str(action.metavar or "")
    choices = tuple(commands) if metavar == "COMMAND" else ()
    if _WORDS.fullmatch(metavar):
        choices = tuple(metavar.split("|"))
    name = max(action.option_strings, key=len, default="")
    says = str(action.help or "").replace("%%", "%").partition(";")[0]
    says = says if len(says) <= _MOST_LETTERS else says[: _MOST_LETTERS - 3].rstrip() + "..."
    is_repeated = action.nargs == "+"
    takes_value = action.nargs not in {0, "?"}
    return FlagShape(name, says, takes_value, choices, metavar in _PATHS, is_repeated)


def _bash(commands: Sequence[CommandShape]) -> Iterator[str]:
    yield f"# completes {_PROGRAM} in bash: source <({_PROGRAM} completion bash)"
    yield "_batch_collection() {"
    yield '    local word="${COMP_WORDS[COMP_CWORD]}" flag="" command="${COMP_WORDS[1]}"'
    yield '    if [[ $word == "=" ]]; then'  # bash takes it for a word of its own
    yield '        flag="${COMP_WORDS[COMP_CWORD-1]}" word=""'
    yield '    elif [[ ${COMP_WORDS[COMP_CWORD-1]} == "=" ]]; then'
    yield '        flag="${COMP_WORDS[COMP_CWORD-2]}"'
    yield "    fi"
    yield f"    [[ $COMP_CWORD -eq 1 || $command == -* ]] && command={DEFAULT}"
    names = " ".join(each.name for each in commands)
    yield "    if [[ $COMP_CWORD -eq 1 && $word != -* ]]; then"
    yield f'        COMPREPLY=($(compgen -W "{names}" -- "$word")); return'
    yield "    fi"
    yield '    case "$command $flag" in'
    for command in commands:
        named = [flag for flag in command.flags if flag.name]
        for flag in named:
            if flag.takes_value:
                yield f'        "{command.name} {flag.name}") {_bash_values(flag)} ;;'
        words = " ".join(flag.name + "=" * flag.takes_value for flag in named)
        reply = f'COMPREPLY=($(compgen -W "{words}" -- "$word"))'
        other = _bash_values(command.word) if command.word else ":"
        yield f'        "{command.name} ") if [[ $word == -* ]]; then {reply}; else {other}; fi ;;'
    yield "    esac"
    yield "    [[ ${#COMPREPLY[@]} -eq 1 && ${COMPREPLY[0]} == *= ]] && compopt -o nospace"
    yield "    return 0"
    yield "}"
    yield f"complete -F _batch_collection {_PROGRAM}"


def _bash_values(flag: FlagShape) -> str:
    if flag.choices:
        return f'COMPREPLY=($(compgen -W "{" ".join(flag.choices)}" -- "$word"))'
    if flag.is_path:
        return 'compopt -o filenames; mapfile -t COMPREPLY < <(compgen -f -- "$word")'
    return ":"


def _zsh(commands: Sequence[CommandShape]) -> Iterator[str]:
    yield f"#compdef {_PROGRAM}"
    yield f"# completes {_PROGRAM} in zsh: source <({_PROGRAM} completion zsh)"
    yield "_batch_collection() {"
    yield f"    local command={DEFAULT}"
    yield "    if [[ $words[2] != -* ]]; then"
    yield "        if (( CURRENT == 2 )); then"
    yield "            local -a commands=("
    for each in commands:
        yield f"                {shlex.quote(f'{each.name}:{each.says}')}"
    yield "            )"
    yield "            _describe command commands"
    yield "            return"
    yield "        fi"
    yield "        command=$words[2]"
    yield "        shift words"
    yield "        (( CURRENT-- ))"
    yield "    fi"
    yield "    case $command in"
    for each in commands:
        specs = " ".join(shlex.quote(_zsh_spec(flag)) for flag in each.flags)
        yield f"        {each.name}) _arguments {specs} ;;"
    yield "    esac"
    yield "}"
    yield "if [[ $funcstack[1] == _batch_collection ]]; then"
    yield '    _batch_collection "$@"'
    yield "else"
    yield f"    compdef _batch_collection {_PROGRAM}"
    yield "fi"


def _zsh_spec(flag: FlagShape) -> str:
    says = re.sub(r"([\[\]:\\])", r"\\\1", flag.says)
    values = f"({' '.join(flag.choices)})" if flag.choices else "_files" * flag.is_path
    if not flag.name:
        return f"{'*' * flag.is_repeated}:{says}:{values}"
    return f"*{flag.name}=[{says}]:value:{values}" if flag.takes_value else f"{flag.name}[{says}]"


def _fish(commands: Sequence[CommandShape]) -> Iterator[str]:
    yield f"# completes {_PROGRAM} in fish: {_PROGRAM} completion fish | source"
    names = " ".join(each.name for each in commands)
    yield f"complete -c {_PROGRAM} -f"
    none = f"not __fish_seen_subcommand_from {names}"
    for each in commands:
        says = _fish_quoted(each.says)
        yield f"complete -c {_PROGRAM} -n '{none}' -a {each.name} -d {says}"
        seen = f"__fish_seen_subcommand_from {each.name}"
        if each.name == DEFAULT:
            seen = f"{seen}; or {none}"
        for flag in each.flags:
            yield f"complete -c {_PROGRAM} -n '{seen}' {_fish_flag(flag)}"


def _fish_flag(flag: FlagShape) -> str:
    values = f" -a '{' '.join(flag.choices)}'" if flag.choices else " -F" * flag.is_path
    if not flag.name:
        return f"{values.strip() or '-f'} -d {_fish_quoted(flag.says)}"
    kind = "-l" if flag.name.startswith("--") else "-s"
    needs = (" -r" if flag.is_path else " -x") * flag.takes_value
    name = flag.name.lstrip("-")
    return f"{kind} {name}{needs}{values * flag.takes_value} -d {_fish_quoted(flag.says)}"


def _fish_quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


SHELLS: Mapping[str, Callable[[Sequence[CommandShape]], Iterator[str]]] = {
    "bash": _bash,
    "zsh": _zsh,
    "fish": _fish,
}
"""By shell, what writes its script, line by line."""
