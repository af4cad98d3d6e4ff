"""``batch-collection preview``: what the first messages would become; nothing is collected."""

from __future__ import annotations

import json
from contextlib import closing
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from batch_collection.counted import counted
from batch_collection.errors import CollectionError
from batch_collection.schema.files import type_text
from batch_collection.windows import format_duration, format_instant
from pipeline.options import collect
from pipeline.options.command_parser import let_be_left_out
from pipeline.options.engine import DIRECT_RUNNER, pass_on
from pipeline.options.flags import Flags
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
from transforms.sources.pubsub.settings import SubscriptionSettings

if TYPE_CHECKING:
    import argparse
    from collections.abc import Iterator
    from datetime import datetime

    from pipeline.options.collect import CollectOptions
    from pipeline.planning.previewing import Preview

__all__ = ["check", "configure", "pass_on", "run"]

_MOST_REASONS = 10
_MOST_LETTERS = 400


@dataclass(frozen=True, slots=True)
class PreviewOptions:
    """What a collector would do, how many messages to look at, and how to print it."""

    collect: CollectOptions
    messages: int
    as_json: bool


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags: those of ``collect``, and how many messages to look at."""
    group = parser.add_argument_group("preview")
    group.add_argument(
        "--messages",
        metavar="N",
        default="1000",
        help="messages to look at, from the first of each partition on (default: 1000)",
    )
    group.add_argument("--json", action="store_true", help="print one JSON object a topic")
    collect.configure(parser)
    let_be_left_out(parser, {"--output"})


def check(args: argparse.Namespace) -> PreviewOptions:
    """Turn flags into options; ``--output`` may be left out.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    args.output = args.output or "."
    args.runner, args.http, args.announce = DIRECT_RUNNER, None, None
    flags = Flags(args)
    messages = flags.number("messages")
    flags.done()
    options = collect.check(args)
    if isinstance(options.source, SubscriptionSettings):
        message = (
            "preview is for topics of Kafka: it would take a subscription's messages away from "
            "others for a while; collect into another --output to try"
        )
        raise CollectionError(message)
    return PreviewOptions(options, messages, args.json)


def run(options: PreviewOptions) -> int:
    """Print what each topic's first messages would become; return 1 if some are dead letters.

    Raises:
        CollectionError: the broker is away, or a topic is not there.
    """
    from pipeline.planning.joining import names_now  # noqa: PLC0415 - imports more than flags need
    from pipeline.planning.previewing import preview  # noqa: PLC0415 - as above

    asked, code = options.collect, 0
    assert not isinstance(asked.source, SubscriptionSettings)  # noqa: S101 - checked
    with closing(asked.source.connect()) as connection:
        with said_meanwhile(f"waiting for {asked.source.where} ..."):
            sources = connection.sources(names_now(asked, connection))
        for source in sources:
            found = preview(
                source,
                asked.source.reader(),
                options.messages,
                asked.rules,
                asked.schema,
                asked.interval,
            )
            text = _as_json(source.name, found) if options.as_json else None
            say(*([text] if text else _described(source.name, found, asked)))
            code = 1 if found.dead_letters else code
    return code


def _as_json(name: str, found: Preview) -> str:
    values: dict[str, Any] = {each.name: getattr(found, each.name) for each in fields(found)}
    values["times"] = None if found.times is None else [*map(format_instant, found.times)]
    return json.dumps({"topic": name, **values}, default=str)


def _short_instant(instant: datetime) -> str:
    text = format_instant(instant)
    return text.removesuffix("000Z") + "Z" if text.endswith("000Z") else text  # milliseconds


def _described(name: str, found: Preview, asked: CollectOptions) -> Iterator[str]:
    yield f"{name}: {found.messages:,} of {counted(found.available, 'message')}"
    if not found.messages:
        return
    yield f"  {counted(found.rows, 'row')}"
    if found.times is not None:
        first, last = map(_short_instant, found.times)
        windows = f"{counted(found.windows, 'window')} of {format_duration(asked.interval)}"
        yield f"  row times {first} to {last}, in {windows}, by --timestamp={asked.rules.row_time}"
    letters = sum(found.dead_letters.values())
    if letters:
        yield f"  {counted(letters, 'dead letter')}, the first at {found.example}"
    reasons = list(found.dead_letters.items())
    yield from (f"    {count:,}  {reason}" for reason, count in reasons[:_MOST_REASONS])
    if len(reasons) > _MOST_REASONS:
        yield f"    ... and {len(reasons) - _MOST_REASONS:,} more reasons"
    if found.schema:
        yield "  columns"
        width = max(map(len, found.schema))
        yield from (
            f"    {column:<{width}}  {type_text(type_)}" for column, type_ in found.schema.items()
        )
    if found.first is not None:
        text = json.dumps(found.first, default=str, ensure_ascii=False)
        yield f"  first row {text if len(text) <= _MOST_LETTERS else text[:_MOST_LETTERS] + ' ...'}"
