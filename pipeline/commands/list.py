"""``batch-collection list``: the collections in a directory, a line each."""

from __future__ import annotations

import json
from contextlib import nullcontext
from datetime import datetime, timezone
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError
from batch_collection.inspection.below import collections_below
from pipeline.options.config_file import configure as configure_config_file
from pipeline.options.flags import Flags, configure_lag
from pipeline.planning.lag import lags_asked_of
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile
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
    from batch_collection.storage.contract import Storage
    from pipeline.planning.lag import Lags

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument("root", metavar="ROOT", help="the directory that collections lie in")
    parser.add_argument("--json", action="store_true", help="print one JSON object a collection")
    configure_lag(parser)
    configure_config_file(parser)


def run(args: argparse.Namespace) -> int:
    """Print them; return 0, or 1 where one can't be read.

    Raises:
        CollectionError: flags are wrong, there is none, or the directory can't be listed.
    """
    flags = Flags(args)
    config = flags.lag_config()
    flags.done()
    storages = collections_below(args.root)
    if not storages:
        message = f"no collection in {args.root}; give the directory that --output named"
        raise CollectionError(message)
    waiting = "" if config is None else f"waiting for kafka at {config['bootstrap.servers']} ..."
    with said_meanwhile(waiting) if waiting else nullcontext(), lags_asked_of(config) as lags:
        found = {name: _looked_up(storage, lags) for name, storage in storages.items()}
    if args.json:
        say(*(_as_json(name, each) for name, each in found.items()))
    else:
        say(*_table(found, datetime.now(timezone.utc)))
    return 1 if any(isinstance(each, CollectionError) for each in found.values()) else 0


def _looked_up(storage: Storage, lags: Lags) -> Status | CollectionError:
    try:
        return lags.status(storage, 1)
    except CollectionError as error:
        return error


def _as_json(name: str, found: Status | CollectionError) -> str:
    if isinstance(found, CollectionError):
        return json.dumps({"name": name, "error": str(found)})
    return json.dumps({"name": name, **found.plain()})


def _table(found: Mapping[str, Status | CollectionError], now: datetime) -> list[str]:
    good = {name: each for name, each in found.items() if not isinstance(each, CollectionError)}
    has_lag = any(each.lag is not None or each.lag_unknown for each in good.values())
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
        *(["lag"] if has_lag else []),
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
            *(["unknown" if each.lag is None else f"{sum(each.lag.values()):,}"] * has_lag),
        )
        for name, each in good.items()
    ]
    errors = [f"{name}: {each}" for name, each in found.items() if name not in good]
    unknown = {each.lag_unknown for each in good.values() if each.lag_unknown}
    return [*aligned([head, *rows]), *errors, *(f"lag unknown: {why}" for why in sorted(unknown))]
