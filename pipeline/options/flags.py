"""Reading flags: all mistakes are reported together, each with its cure."""

from __future__ import annotations

import argparse
import difflib
import re
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from batch_collection.errors import CollectionError
from batch_collection.windows import format_duration, parse_duration, parse_instant
from pipeline.options.local_files import (
    local_path,
    obstacle,
    read_text,
    warn_if_others_read,
)
from transforms.sources.kafka.config import is_secret, parse_properties

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime
    from pathlib import Path

__all__ = [
    "EXACTNESS",
    "Flags",
    "Parser",
    "configure_endpoint",
    "configure_lag",
    "configure_path",
    "configure_poll",
    "configure_properties",
    "nearest",
    "normalised",
    "properties",
    "unknown_flags",
    "whole_number",
]


EXACTNESS = (
    "integers stay exact or are dead letters, fractions are the nearest double (15-17 digits) or "
    "float (6-9)"
)
"""What a column's type means for numbers, as helps say it."""
_ADDRESS = re.compile(
    r"(?i:(?:sasl_)?(?:plaintext|ssl)://)?"
    r"(\[[\da-fA-F:.%]+\]|[^\s:/@\[\]]+)(:(?P<port>[0-9]{1,5}))?"
)
_MOST_PORT = 65_535
_REQUIRED = "the following arguments are required: "  # as argparse says it
_SHORTEST_POLL = timedelta(milliseconds=10)
_LONGEST_PAUSE = timedelta(days=36_500)  # no thread waits for 300 years
_MOST_MEANT = 3
_MOST_NUMBER = 2**63 - 1
_TOO_MANY_DIGITS = 1000  # of several thousand Python makes no number


class Parser(argparse.ArgumentParser):
    """argparse whose mistakes are ``CollectionError``s, and which never guesses an abbreviation."""

    def __init__(self, **arguments: Any) -> None:
        """Take what argparse takes."""
        super().__init__(allow_abbrev=False, **arguments)

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print and exit with."""
        text = message.removeprefix("argument ")
        if text.startswith(_REQUIRED):
            name = text.removeprefix(_REQUIRED)
            meant = {each.metavar: each.help for each in self._actions if not each.option_strings}
            text = f"{name} is missing" + (f"; give {meant[name]}" if meant.get(name) else "")
        raise CollectionError(text.replace("ignored explicit argument", "it takes no value, got"))

    @property
    def actions(self) -> list[argparse.Action]:
        """What it takes: flags and words."""
        return self._actions

    def flags(self) -> list[str]:
        """Return the flags there are."""
        return [flag for action in self._actions for flag in action.option_strings]

    def takes_value(self, flag: str) -> bool | None:
        """Tell a flag with a value from one without; None: it may be both, or is none of these."""
        actions = (action for action in self._actions if flag in action.option_strings)
        action = next(actions, None)
        return None if action is None or action.nargs == "?" else action.nargs != 0

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
            if not action.option_strings:
                action.nargs = "*" if action.nargs == "+" else "?"


@dataclass
class Flags:
    """Checks the values of parsed flags; ``done`` raises what was wrong, one line each."""

    args: argparse.Namespace
    errors: list[str] = field(default_factory=list)

    def refuse(self, configure: Callable[[argparse._ArgumentGroup], None], why: str) -> None:
        """Note those of the flags that ``configure`` declares which somebody gave."""
        parser = Parser(add_help=False)
        configure(parser.add_argument_group())
        for action in parser._actions:  # noqa: SLF001 - argparse has no other way
            self.check(
                getattr(self.args, action.dest) == action.default,
                f"{action.option_strings[0]} {why}; leave one of both out",
            )

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
        """Return the addresses of brokers; a login among them is refused, and shown nowhere."""
        text = self.given("bootstrap_servers", "name a broker, as localhost:9092")
        if "@" in text:
            self.errors.append(
                "--bootstrap_servers must be HOST:PORT,... without a login (not shown); give that "
                "as sasl.username and sasl.password in --consumer_config"
            )
            return ""
        parts = [each.strip() for each in text.split(",")] if text else []
        wrong = next((each for each in parts if not _is_address(each)), None)
        self.check(
            wrong is None,
            f"--bootstrap_servers must be HOST:PORT,..., as localhost:9092, got {wrong!r}",
        )
        return text

    def endpoint(self) -> str | None:
        """Return Pub/Sub's address, None if the flag isn't there."""
        text: str | None = self.args.pubsub_endpoint
        self.check(
            text is None or _is_address(text.removeprefix("http://")),
            "--pubsub_endpoint must be HOST:PORT, or http://HOST:PORT for an emulator, as "
            f"http://localhost:8085, got {text!r}",
        )
        return text

    def properties(self) -> dict[str, str]:
        """Return the librdkafka properties of ``--consumer_config`` and ``-X``."""
        try:
            return properties(self.args.properties, getattr(self.args, "consumer_config", None))
        except CollectionError as error:
            self.errors += error.lines
            return {}

    def lag_config(self) -> dict[str, str] | None:
        """Return librdkafka's settings to ask for the lag with; None: it is not asked for."""
        config = self.properties()
        if not self.args.bootstrap_servers:
            return None
        return config | {"bootstrap.servers": self.brokers()}

    def number(self, name: str, least: int = 1, most: int = _MOST_NUMBER) -> int:
        """Return a whole number."""
        given = str(getattr(self.args, name))
        value = whole_number(given)
        if value is None or value < least:
            self.errors.append(
                f"--{name} must be a whole number of at least {least}, got {given!r}"
            )
            return least
        self.check(value <= most, f"--{name} must be at most {most:,}, got {given!r}")
        return min(value, most)

    def number_if_given(self, name: str) -> int | None:
        """Return a whole number, None if the flag isn't there."""
        return None if getattr(self.args, name) is None else self.number(name)

    def duration(self, name: str, least: timedelta, most: timedelta = timedelta.max) -> timedelta:
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
        self.check(value <= most, f"--{name} must be at most {format_duration(most)}, got {text!r}")
        return min(value, most)

    def pause(self, name: str, least: timedelta) -> timedelta:
        """Return a duration that is waited for at once."""
        return self.duration(name, least, _LONGEST_PAUSE)

    def poll(self) -> timedelta:
        """Return how often to look."""
        return self.pause("poll", _SHORTEST_POLL)

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
                f"unknown --{name}={value}{nearest(value, known)}; use one of: {', '.join(known)}"
            )
        return str(value)

    def local(self, name: str) -> Path | None:
        """Return a path of this machine, None if the flag isn't there."""
        text = getattr(self.args, name)
        try:
            return None if text is None else local_path(text, f"--{name}")
        except CollectionError as error:
            self.errors.append(str(error))
            return None

    def folder(self, name: str, below: str = "") -> Path | None:
        """Return a directory of this machine, None if the flag isn't there.

        It can be made or written, and so can one ``below``.
        """
        path = self.local(name)
        found = None if path is None else obstacle(path / below)
        self.check(found is None, f"--{name}={getattr(self.args, name)}: {found}")
        return path

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
            raise CollectionError(*self.errors)


def configure_properties(group: argparse._ActionsContainer, more: str = "") -> None:
    """Declare what ``Flags.properties`` reads; ``more`` says what else may be given for a file."""
    group.add_argument(
        "--consumer_config",
        metavar="FILE",
        help=f"file of librdkafka properties, key=value lines{more} (default: none)",
    )
    group.add_argument(
        "-X",
        dest="properties",
        metavar="KEY=VALUE",
        action="append",
        default=[],
        help="one librdkafka property (security.protocol, sasl.mechanism, ...); may be repeated",
    )


def configure_path(parser: argparse.ArgumentParser) -> None:
    """Declare the word that names a collection."""
    parser.add_argument("path", metavar="PATH", help="the collection, OUTPUT/NAME")


def configure_poll(parser: argparse.ArgumentParser) -> None:
    """Declare what ``Flags.poll`` reads."""
    parser.add_argument(
        "--poll", metavar="DURATION", default="1s", help="how often to look (default: 1s)"
    )


def configure_endpoint(group: argparse._ActionsContainer) -> None:
    """Declare what ``Flags.endpoint`` reads."""
    group.add_argument(
        "--pubsub_endpoint",
        metavar="HOST:PORT",
        help="Pub/Sub's address, http://HOST:PORT for an emulator (default: that of "
        "PUBSUB_EMULATOR_HOST, else Google's)",
    )


def configure_lag(parser: argparse._ActionsContainer) -> None:
    """Declare what ``Flags.lag_config`` reads."""
    parser.add_argument(
        "--bootstrap_servers",
        metavar="HOST:PORT,...",
        help="brokers, to show the lag (default: it is not shown)",
    )
    configure_properties(parser)


def whole_number(text: str) -> int | None:
    """Return a number as people write it, ``1_000`` or ``1,000``; None: it is none."""
    digits = text.replace("_", "").replace(",", "")
    if not digits.isascii() or not digits.isdecimal():
        return None
    return int(digits) if len(digits) < _TOO_MANY_DIGITS else _MOST_NUMBER + 1


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
        f"unknown flag {flag}{nearest(flag, flags)}"
        if flag.startswith("-")
        else unexpected.format(flag)
        for flag in unknown
    ]


def properties(words: Iterable[str], path: str | None) -> dict[str, str]:
    """Return librdkafka properties: a file's ``key=value`` lines, then those of ``-X``.

    Raises:
        CollectionError: lines that aren't any, one line each, or the file can't be read.
    """
    given, lines = list(words), list[tuple[str, str]]()
    if path is not None:
        text = read_text(path, "--consumer_config")
        lines = [(f"{path}:{number}", line) for number, line in enumerate(text.splitlines(), 1)]
    found = parse_properties([*lines, *(("-X", word) for word in given)])
    if "bootstrap.servers" in parse_properties(("-X", word) for word in given):
        message = "-X bootstrap.servers is not taken; name brokers with --bootstrap_servers"
        raise CollectionError(message)
    if path is not None and any(map(is_secret, parse_properties(lines))):
        warn_if_others_read(local_path(path, "--consumer_config"), "--consumer_config")
    return found


def _is_address(text: str) -> bool:
    """Tell whether it is what librdkafka takes for a broker; it takes 9092 where no port is."""
    found = _ADDRESS.fullmatch(text)
    return found is not None and 0 < int(found["port"] or 9092) <= _MOST_PORT


def nearest(word: str, known: Iterable[str]) -> str:
    """Return which known words may have been meant, as the end of an error; empty if none is near.

    One that is written alike, or else those that begin so.
    """
    there = list(known)
    near = difflib.get_close_matches(word, there, n=1)
    if not near and word.strip("-"):
        near = [each for each in there if each.startswith(word)][:_MOST_MEANT]
    return f"; did you mean {' or '.join(near)}?" if near else ""
