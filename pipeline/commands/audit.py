"""``batch-collection audit``: whether a collection is what its log says."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING

from batch_collection.inspection.audit import audit
from batch_collection.storage.opening import open_storage
from pipeline.options.flags import configure_path
from pipeline.showing.lines import say
from pipeline.showing.verdict import verdict

if TYPE_CHECKING:
    import argparse

__all__ = ["configure", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    configure_path(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Print one line a finding, and a verdict; return 1 if there is a finding, else 0.

    Raises:
        CollectionError: there is no collection.
    """
    found = audit(open_storage(args.path))
    say(*([json.dumps(asdict(found))] if args.json else verdict(found)))
    return 1 if found.findings else 0
