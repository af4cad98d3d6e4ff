"""``batch-collection list``: the collections in a directory, a line each."""

from __future__ import annotations

import json
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from batch_collection.inspection.below import collections_below
from batch_collection.inspection.status import status
from pipeline.showing.lines import say
from pipeline.showing.wording import (
    aligned,
    described_instant,
    humanised_bytes,
    humanised_duration,
    stream_name,
)

if TYPE_CHECKING:
    import argparse
    from collections.abc import Mapping

    from batch_collection.inspection.status import Status

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("root", metavar="ROOT", help="the directory that collections lie in")
    parser.add_argument("--json", action="store_true", help="print one JSON object a collection")


def run(args: argparse.Namespace) -> int:
    """Print them; return 0, or 1 where one can't be read.

    Raises:
        CollectionError: there is none, or the directory can't be listed.
    """
    storages = collections_below(args.root)
    if not storages:
        message = f"no collection in {args.root}; give the directory that --output named"
        raise CollectionError(message)
    found: dict[str, Status | CollectionError] = {}
    for name, storage in storages.items():
        try:
            found[name] = status(storage, 1)
        except CollectionError as error:
            found[name] = error
    if args.json:
        say(*(_as_json(name, each) for name, each in found.items()))
    else:
        say(*_table(found, datetime.now(timezone.utc)))
    return 1 if any(isinstance(each, CollectionError) for each in found.values()) else 0


def _as_json(name: str, found: Status | CollectionError) -> str:
    if isinstance(found, CollectionError):
        return json.dumps({"name": name, "error": str(found)})
    return json.dumps({"name": name, **found.plain()})


def _table(found: Mapping[str, Status | CollectionError], now: datetime) -> list[str]:
    head = (
        "name",
        "source",
        "rows",
        "files",
        "size",
        "dead letters",
        "cycle",
        "closed up to",
        "last commit",
    )
    rows = [
        (
            name,
            stream_name(each.source),
            f"{each.totals.rows:,}",
            f"{each.totals.files:,}",
            humanised_bytes(each.totals.bytes),
            f"{each.totals.dead_letters:,}",
            f"{each.cycle}",
            described_instant(each.boundary) if each.boundary else "nothing yet",
            f"{humanised_duration(now - each.committed_at)} ago",
        )
        for name, each in found.items()
        if not isinstance(each, CollectionError)
    ]
    errors = [
        f"{name}: {each}" for name, each in found.items() if isinstance(each, CollectionError)
    ]
    return [*aligned([head, *rows]), *errors]
