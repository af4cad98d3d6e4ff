"""``batch-collection init``: a file for ``collect --config``, with every flag explained in it."""

from __future__ import annotations

import json
import re
import textwrap
from typing import TYPE_CHECKING

from pipeline.options import collect
from pipeline.options.command_parser import let_be_left_out
from pipeline.options.flags import Parser
from pipeline.showing.lines import say

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator

__all__ = ["configure", "run"]

_WIDTH = 100
_HEAD = """\
# A collector: batch-collection collect --config=THIS_FILE
# Each line is a flag of collect. Those that begin with # stand for their defaults; remove the # to
# change one. Values are taken as they are written; ${NAME} is an environment variable.
"""
_FIRST = {
    "bootstrap_servers": "localhost:9092",
    "topics": "[batch-topic]",
    "output": "collected",
}
"""What a file begins with where it isn't given."""
_OF_KAFKA = {"bootstrap_servers", "topics"}
_LEFT_OUT = {"help", "config", "streaming"}
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_./-]*")
_SECRETS = """\
#X:
#  security.protocol: SASL_SSL
#  sasl.mechanism: PLAIN
#  sasl.username: collector
#  sasl.password: ${KAFKA_PASSWORD}
"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags: those of ``collect``; what is given stands in the file."""
    collect.configure(parser)
    let_be_left_out(parser, {"--bootstrap_servers", "--topics", "--output"})


def run(args: argparse.Namespace) -> int:
    """Print the file; return 0. What is given is not checked: ``collect`` does that."""
    parser = Parser()
    collect.configure(parser)
    say(*_HEAD.split("\n"), *_lines(parser, args))
    return 0


def _lines(parser: Parser, args: argparse.Namespace) -> Iterator[str]:
    for group in parser._action_groups:  # noqa: SLF001 - argparse has no other way to its groups
        actions = [each for each in group._group_actions if each.dest not in _LEFT_OUT]  # noqa: SLF001
        if actions:
            yield f"# ---- {group.title} " + "-" * (_WIDTH - len(group.title or "") - 8)
            yield ""
        for action in actions:
            yield from _flag(action, args)


def _flag(action: argparse.Action, args: argparse.Namespace) -> Iterator[str]:
    text = str(action.help).replace("%%", "%")
    yield from textwrap.wrap(text, _WIDTH, initial_indent="# ", subsequent_indent="# ")
    given = getattr(args, action.dest)
    if action.dest == "properties":
        yield from _properties(given)
    elif action.nargs == 0:
        yield f"{action.dest}: true" if given else f"#{action.dest}: false"
    elif given is not None and given != action.default:
        yield f"{action.dest}: {_written(given)}"
    elif action.dest in _FIRST and not (action.dest in _OF_KAFKA and _is_pubsub(args)):
        yield f"{action.dest}: {_FIRST[action.dest]}"
    else:
        default = action.default
        yield f"#{action.dest}: {_written(default) if default else ''}".rstrip()
    yield ""


def _is_pubsub(args: argparse.Namespace) -> bool:
    return bool(args.input_subscription or args.input_topic)


def _properties(given: list[str]) -> Iterator[str]:
    """Return librdkafka's properties; values of secrets stand in the environment, not here."""
    if not given:
        yield from _SECRETS.rstrip("\n").split("\n")
        return
    yield "X:"
    for each in given:
        key, _, value = each.partition("=")
        yield f"  {key.strip()}: {_written(value)}"


def _written(value: str) -> str:
    """Write a value so that the file gives it back; ``$`` would be a variable's."""
    return value if _PLAIN.fullmatch(value) else json.dumps(value, ensure_ascii=False)
