"""Reading flags: all mistakes are reported together, each with its cure."""

from __future__ import annotations

import argparse
import difflib
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import yaml

from batch_collection.errors import CollectionError
from batch_collection.windows import format_duration, parse_duration, parse_instant
from transforms.sources.kafka.config import parse_properties

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime, timedelta

__all__ = [
    "EXACTNESS",
    "Flags",
    "Parser",
    "from_config_file",
    "local_path",
    "normalised",
    "properties",
    "unknown_flags",
]


EXACTNESS = (
    "integers stay exact or are dead letters, fractions are the nearest double (15-17 digits) or "
    "float (6-9)"
)
"""What a column's type means for numbers, as helps say it."""
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:/")
_ADDRESS = re.compile(r"([A-Za-z_]+://)?(\[[\da-fA-F:.%]+\]|[^\s:/@\[\]]+)(:(?P<port>\d{1,5}))?")
_MOST_PORT = 65_535
_VARIABLE = re.compile(r"\$\{(\w+)\}")


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are ``CollectionError``s, and which never guesses an abbreviation."""

    def __init__(self, **arguments: Any) -> None:
        """Take what argparse takes."""
        super().__init__(allow_abbrev=False, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        raise CollectionError(message.removeprefix("argument "))

    def flags(self) -> list[str]:
        """Return the flags there are."""
        return [flag for action in self._actions for flag in action.option_strings]

    def read(self, words: Sequence[str]) -> tuple[argparse.Namespace, list[str], list[str]]:
        """Return the flags, the words that nobody knows, and one line for each mistake.

        argparse stops at its first mistake; what it stops at is left out and it goes on, so that
        the others are found, too.
        """
        errors: list[str] = []
        left = list(words)
        while True:
            try:
                args, unknown = self.parse_known_args(left)
            except CollectionError as error:
                errors.append(str(error))
                flag = str(error).partition(":")[0]
                left = [word for word in left if word.partition("=")[0] != flag]
                if flag not in self.flags():
                    self._require_nothing()
            else:
                return args, unknown, errors

    def _require_nothing(self) -> None:
        for action in self._actions:
            action.required = False
            action.nargs = action.nargs if action.option_strings else "?"


@dataclass
class Flags:
    """Checks the values of parsed flags; ``done`` raises what was wrong, one line each."""

    args: argparse.Namespace
    errors: list[str] = field(default_factory=list)

    def given(self, name: str, cure: str = "") -> str:
        """Return a flag that must be there; ``cure`` says what to give."""
        value = getattr(self.args, name)
        if not value:
            self.errors.append(f"--{name} is missing" + (f"; {cure}" if cure else ""))
        return value or ""

    def names(self, name: str, cure: str = "") -> tuple[str, ...]:
        """Return the parts of ``A,B``, each once; at least one must be there."""
        value = self.given(name, cure)
        parts = tuple(dict.fromkeys(part.strip() for part in value.split(",") if part.strip()))
        self.check(parts or not value, f"--{name} names nothing, got {value!r}")
        return parts

    def brokers(self) -> str:
        """Return ``--bootstrap_servers``; what stands before an @ may be a password."""
        text = self.given("bootstrap_servers", "name a broker, as localhost:9092")
        parts = [each.strip() for each in text.split(",")] if text else []
        wrong = next((each for each in parts if not _is_address(each)), None)
        shown = "one with an @ in it" if "@" in text else repr(wrong)
        self.check(
            wrong is None,
            f"--bootstrap_servers must be HOST:PORT,..., as localhost:9092, got {shown}",
        )
        return text

    def properties(self) -> dict[str, str]:
        """Return the librdkafka properties of ``--consumer_config`` and ``-X``."""
        try:
            return properties(self.args.properties, getattr(self.args, "consumer_config", None))
        except CollectionError as error:
            self.errors += str(error).splitlines()
            return {}

    def number(self, name: str, least: int = 1) -> int:
        """Return a whole number."""
        text = str(getattr(self.args, name)).replace("_", "").replace(",", "")
        if not text.isascii() or not text.isdecimal() or int(text) < least:
            self.errors.append(f"--{name} must be a whole number of at least {least}, got {text!r}")
            return least
        return int(text)

    def duration(self, name: str, least: timedelta) -> timedelta:
        """Return a duration."""
        text = getattr(self.args, name)
        try:
            value = parse_duration(text)
        except ValueError as error:
            self.errors.append(f"--{name} is {error}")
            return least
        if value < least:
            self.errors.append(f"--{name} must be at least {format_duration(least)}, got {text!r}")
            return least
        return value

    def instant(self, name: str) -> datetime | None:
        """Return an instant, None if the flag isn't there."""
        text = getattr(self.args, name)
        if text is None:
            return None
        try:
            return parse_instant(text)
        except ValueError as error:
            self.errors.append(f"--{name} is {error}")
            return None

    def choice(self, name: str, choices: Iterable[str]) -> str:
        """Return one of a few words."""
        value, known = getattr(self.args, name), list(choices)
        if value not in known:
            self.errors.append(
                f"unknown --{name}={value}{_nearest(value, known)}; use one of: {', '.join(known)}"
            )
        return str(value)

    def local(self, name: str) -> Path | None:
        """Return a path of this machine, None if the flag isn't there."""
        text = getattr(self.args, name)
        if text is None:
            return None
        try:
            return local_path(text, f"--{name}")
        except CollectionError as error:
            self.errors.append(str(error))
            return Path(text)

    def check(self, good: object, error: str) -> None:
        """Note an error unless something holds."""
        if not good:
            self.errors.append(error)

    def done(self) -> None:
        """End the checks.

        Raises:
            CollectionError: what was wrong, one line each.
        """
        if self.errors:
            raise CollectionError("\n".join(self.errors))


def local_path(text: str, flag: str) -> Path:
    """Return a path of this machine, absolute, as a flag names it.

    Raises:
        CollectionError: it is a URL, which would make a folder of that name.
    """
    if _URL.match(text):
        message = f"{flag}={text} is a URL, and the flag takes a path of this machine only"
        raise CollectionError(message)
    return Path(text).expanduser().absolute()


def normalised(argv: Sequence[str]) -> list[str]:
    """Write flags as Beam does: ``--batch-size=10`` is ``--batch_size=10``."""
    return [
        "--" + (parts := word[2:].partition("="))[0].replace("-", "_") + parts[1] + parts[2]
        if word.startswith("--") and len(word) > 2  # noqa: PLR2004 - a lone -- stays
        else word
        for word in argv
    ]


def unknown_flags(
    words: Iterable[str], known: Iterable[str], *, may_be_secret: bool = False
) -> list[str]:
    """Say of each flag that nobody knows which known one is nearest.

    ``may_be_secret``: a word that is no flag may be the value of a property, and is not shown.
    """
    flags = list(known)
    unexpected = "unexpected {!r}"
    if may_be_secret:
        unexpected = "unexpected word (not shown, as it may be a secret); -X takes key=value"
    unknown = (word.partition("=")[0] for word in words)
    return [
        f"unknown flag {flag}{_nearest(flag, flags)}"
        if flag.startswith("-")
        else unexpected.format(flag)
        for flag in unknown
    ]


def properties(words: Iterable[str], path: str | None) -> dict[str, str]:
    """Return librdkafka properties: a file's ``key=value`` lines, then those of ``-X``.

    Raises:
        CollectionError: lines that aren't any, one line each, or the file can't be read.
    """
    lines: list[tuple[str, str]] = []
    if path is not None:
        text = _read(path, "--consumer_config")
        lines += [(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    lines += [("-X", word) for word in words]
    return parse_properties(lines)


def from_config_file(path: str) -> list[str]:
    """Return the flags that a YAML file holds, as they would stand on a command line.

    Values are scalars or lists (joined by commas); ``X`` is a mapping of properties; ``${NAME}``
    stands for an environment variable, in values only.

    Raises:
        CollectionError: the file can't be read, isn't a mapping, or names a variable that isn't
        set.
    """
    try:
        content = yaml.safe_load(_read(path, "--config"))
    except yaml.YAMLError as error:
        message = f"--config={path} is no YAML: {' '.join(str(error).split())}"
        raise CollectionError(message) from error
    if not isinstance(content, dict):
        message = f"--config={path} must hold flag: value lines"
        raise CollectionError(message)
    words: list[str] = []
    for name, value in content.items():
        words += _words(path, str(name).removeprefix("--").replace("-", "_"), value)
    return words


def _words(path: str, name: str, value: Any) -> list[str]:
    if name == "X" and isinstance(value, dict):
        return [f"-X{key}={_expanded(path, each)}" for key, each in value.items()]
    if value is True:
        return [f"--{name}"]
    if value is False or value is None:
        return []
    if isinstance(value, list):
        value = ",".join(map(str, value))
    return [f"--{name}={_expanded(path, value)}"]


def _expanded(path: str, value: object) -> str:
    def variable(found: re.Match[str]) -> str:
        if found[1] not in os.environ:
            message = f"--config={path} uses ${{{found[1]}}}, which is not set"
            raise CollectionError(message)
        return os.environ[found[1]]

    return _VARIABLE.sub(variable, str(value))


def _read(path: str, flag: str) -> str:
    try:
        return local_path(path, flag).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        message = f"cannot read {flag}={path}: {getattr(error, 'strerror', None) or error}"
        raise CollectionError(message) from error


def _is_address(text: str) -> bool:
    """Tell whether it is what librdkafka takes for a broker; it takes 9092 where no port is."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"] or 9092) <= _MOST_PORT


def _nearest(word: str, known: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(known), n=1)
    return f"; did you mean {near[0]}?" if near else ""
