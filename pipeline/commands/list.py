"""``batch-collection list``: the collections in directories, a line each."""

from __future__ import annotations

import json
from collections import Counter
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
    from collections.abc import Sequence

    from batch_collection.inspection.status import Status
    from batch_collection.storage.contract import Storage
    from pipeline.planning.lag import Lags

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    parser.add_argument(
        "roots",
        metavar="ROOT",
        nargs="+",
        help="a directory that collections lie in, or a collection; as many as you like",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object a collection")
    configure_lag(parser)
    configure_config_file(parser)


def run(args: argparse.Namespace) -> int:
    """Print them; return 0, or 1 where one, or a directory, can't be read or holds none.

    Raises:
        CollectionError: flags are wrong, or no directory holds any.
    """
    flags = Flags(args)
    config = flags.lag_config()
    flags.done()
    storages, wrong = _collections(args.roots)
    if not storages:
        raise CollectionError(*wrong.values())
    waiting = "" if config is None else f"waiting for kafka at {config['bootstrap.servers']} ..."
    with said_meanwhile(waiting) if waiting else nullcontext(), lags_asked_of(config) as lags:
        found = [(name, _looked_up(storage, lags)) for name, storage in storages]
    if args.json:
        say(*(_as_json(name, each) for name, each in [*found, *wrong.items()]))
    else:
        say(*_table(found, datetime.now(timezone.utc)), *wrong.values())
    return 1 if wrong or any(isinstance(each, str) for _, each in found) else 0


def _collections(roots: Sequence[str]) -> tuple[list[tuple[str, Storage]], dict[str, str]]:
    """Return collections with their names, each once, and what is wrong with which directory.

    One whose name another has, too, goes by its whole path.
    """
    storages: dict[str, tuple[str, Storage]] = {}
    wrong: dict[str, str] = {}
    for root in roots:
        try:
            below = collections_below(root)
        except CollectionError as error:
            wrong[root] = str(error)
            continue
        if not below:
            wrong[root] = f"no collection in {root}; give the directory that --output named"
        for name, storage in below.items():
            storages.setdefault(storage.uri, (name, storage))
    names = Counter(name for name, _ in storages.values())
    found = storages.items()
    return [(name if names[name] == 1 else uri, each) for uri, (name, each) in found], wrong


def _looked_up(storage: Storage, lags: Lags) -> Status | str:
    """Return how it stands, or why that is not known."""
    try:
        return lags.status(storage, 1)
    except CollectionError as error:
        return str(error)


def _as_json(name: str, found: Status | str) -> str:
    if isinstance(found, str):
        return json.dumps({"name": name, "error": found})
    return json.dumps({"name": name, **found.plain()})


def _table(found: Sequence[tuple[str, Status | str]], now: datetime) -> list[str]:
    good = [(name, each) for name, each in found if not isinstance(each, str)]
    has_lag = any(each.lag is not None or each.lag_unknown for _, each in good)
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
        for name, each in good
    ]
    errors = [f"{name}: {each}" for name, each in found if isinstance(each, str)]
    unknown = {each.lag_unknown for _, each in good if each.lag_unknown}
    return [*aligned([head, *rows]), *errors, *(f"lag unknown: {why}" for why in sorted(unknown))]
