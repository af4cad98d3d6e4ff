"""The file of ``--config``: flags in YAML, each as it is written there, and known by its line."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import yaml

from batch_collection.errors import CollectionError
from batch_collection.given import torn_yaml
from pipeline.options.local_files import local_path, read_text, warn_if_others_read
from transforms.sources.kafka.config import is_secret

if TYPE_CHECKING:
    import argparse
    from collections.abc import Container, Iterator, Sequence

    from pipeline.options.flags import Parser

__all__ = ["Given", "configure", "placed", "read_config_file"]


_FLAG = re.compile(r"-X\b|--\w+")
_VARIABLE = re.compile(r"\$\{(\w+)\}")
_WORDS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}
_KINDS = {yaml.MappingNode: "a mapping", yaml.SequenceNode: "a list"}


def configure(group: argparse._ActionsContainer, flags: str = "the flags of collect") -> None:
    """Declare the flag."""
    group.add_argument(
        "--config",
        metavar="FILE",
        help=f"{flags} as YAML, FLAG: VALUE lines; ${{NAME}} is an environment variable",
    )


@dataclass(frozen=True, slots=True)
class Given:
    """What a file gives: words as on a command line, and by flag where it stands, ``FILE:LINE``."""

    words: list[str] = field(default_factory=list)
    places: dict[str, str] = field(default_factory=dict)


def placed(error: str, places: dict[str, str]) -> str:
    """Say of a mistake where the flag stands that it names first, if that is in a file."""
    flag = _FLAG.search(error)
    where = places.get(flag[0]) if flag else None
    return error if where is None else f"{where}: {error}"


def read_config_file(path: str, parser: Parser, others: Container[str] = ()) -> Given:
    """Return the flags of a YAML file.

    Values are taken as they are written, whatever YAML makes of them elsewhere: a topic may be
    called ``010`` or ``on``. A flag that needs no value takes true or false. Lists are joined by
    commas; ``X`` holds properties, as a mapping or a list; ``${NAME}`` stands for an environment
    variable, in values only; a key without any value is not there.

    Args:
        parser: Knows the flags of the command.
        others: Flags of other commands, which share the file; they are left out.

    Raises:
        CollectionError: all that is wrong with the file, one line each.
    """
    root = _composed(path)
    reader = _Reader(path, parser, others)
    for key, value in root.value:
        reader.read(key, value)
    if reader.errors:
        raise CollectionError(*reader.errors)
    if reader.has_secret:
        warn_if_others_read(local_path(path, "--config"), "--config")
    return reader.given


def _composed(path: str) -> yaml.MappingNode:
    text = read_text(path, "--config")
    try:
        root = yaml.compose(text, Loader=yaml.BaseLoader)
    except (yaml.YAMLError, RecursionError) as error:
        line, _, problem = torn_yaml(text, error)  # its own text would quote the line
        message = f"{path}:{line}: no YAML: {problem}; write FLAG: VALUE lines, without tabs"
        raise CollectionError(message) from error
    if isinstance(root, yaml.MappingNode):
        return root
    kind = "it is empty" if root is None else f"it is {_KINDS.get(type(root), 'a word')}"
    message = f"--config={path} must hold FLAG: VALUE lines; {kind}"
    raise CollectionError(message)


@dataclass(slots=True)
class _Reader:
    """Takes key after key; ``errors`` name file and line, and show no value that may be secret."""

    path: str
    parser: Parser
    others: Container[str]
    given: Given = field(default_factory=Given)
    errors: list[str] = field(default_factory=list)
    has_secret: bool = False

    def read(self, key: yaml.Node, value: yaml.Node) -> None:
        """Take one flag."""
        name = self._name(key)
        flag = "-X" if name in {"X", "-X"} else f"--{name.removeprefix('--').replace('-', '_')}"
        if not name or (flag in self.others and flag not in self.parser.flags()):
            return
        if flag in self.given.places:
            first = self.given.places[flag].rpartition(":")[2]
            self._wrong(key, f"{flag} is given twice, first in line {first}; leave one out")
        elif flag == "--config":
            self._wrong(key, "--config names a file on the command line only; leave it out")
        elif not _is_nothing(value):
            self.given.places[flag] = self._place(key)
            self.given.words.extend(self._words(flag, value))

    def _words(self, flag: str, value: yaml.Node) -> Iterator[str]:
        if flag == "-X":
            yield from (f"-X{each}" for each in self._properties(value))
        elif not isinstance(value, yaml.ScalarNode):
            yield f"{flag}={','.join(self._texts(flag, value))}"
        else:
            yield from self._scalar(flag, value)

    def _scalar(self, flag: str, value: yaml.ScalarNode) -> Iterator[str]:
        text, takes_value = self._expanded(value), self.parser.takes_value(flag)
        is_on = None if takes_value else _WORDS.get(text.lower())
        if is_on is None and takes_value is False:
            self._wrong(value, f"{flag} must be true or false, got {value.value!r}")
        elif is_on is None:
            yield f"{flag}={text}"
        elif is_on:
            yield flag

    def _properties(self, value: yaml.Node) -> Iterator[str]:
        if not isinstance(value, yaml.MappingNode):
            yield from self._texts("-X", value)
            return
        known = set[str]()
        for key, each in value.value:
            name = self._name(key)
            if name in known:
                self._wrong(key, f"{name} is given twice; leave one out")
            elif not isinstance(each, yaml.ScalarNode):
                self._wrong(each, f"{name} must be one word")
            else:
                known.add(name)
                self.has_secret |= is_secret(name) and not _VARIABLE.search(each.value)
                yield f"{name}={self._expanded(each)}"

    def _texts(self, flag: str, value: yaml.Node) -> list[str]:
        """Return the words of a list, or of one alone."""
        nodes: Sequence[yaml.Node] = value.value
        nodes = nodes if isinstance(value, yaml.SequenceNode) else [value]
        wrong = [each for each in nodes if not isinstance(each, yaml.ScalarNode)]
        for each in wrong:
            self._wrong(each, f"{flag} takes a word, or a list of words, not {_KINDS[type(each)]}")
        return [] if wrong else [self._expanded(each) for each in nodes]

    def _name(self, key: yaml.Node) -> str:
        if isinstance(key, yaml.ScalarNode):
            return str(key.value)
        self._wrong(key, f"a flag's name must be a word, not {_KINDS[type(key)]}")
        return ""

    def _expanded(self, node: yaml.ScalarNode) -> str:
        def variable(found: re.Match[str]) -> str:
            if found[1] not in os.environ:
                self._wrong(node, f"{found[0]} is not set; set that environment variable")
            return os.environ.get(found[1], "")

        if "\0" in node.value:  # no word of a command line holds one, nor a path
            self._wrong(node, "a value holds a NUL, \\0; leave it out")
        return _VARIABLE.sub(variable, node.value)

    def _place(self, node: yaml.Node) -> str:
        return f"{self.path}:{node.start_mark.line + 1}"

    def _wrong(self, node: yaml.Node, text: str) -> None:
        self.errors.append(f"{self._place(node)}: {text}")


def _is_nothing(value: yaml.Node) -> bool:
    """Tell a key with nothing behind it."""
    return isinstance(value, yaml.ScalarNode) and value.style is None and not value.value
