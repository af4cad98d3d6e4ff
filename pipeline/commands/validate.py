"""``batch-collection validate``: whether ``collect`` could begin; nothing is collected."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.windows import format_duration
from pipeline.options import collect
from pipeline.options.engine import pass_on
from pipeline.showing.lines import say
from pipeline.showing.patience import said_meanwhile

if TYPE_CHECKING:
    import argparse

    from pipeline.options.collect import CollectOptions

__all__ = ["check", "configure", "pass_on", "run"]


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags: those of ``collect``."""
    collect.configure(parser)


def check(args: argparse.Namespace) -> CollectOptions:
    """Turn flags into options, as ``collect`` does.

    Raises:
        CollectionError: all that is wrong, one line each.
    """
    return collect.check(args)


def run(options: CollectOptions) -> int:
    """Print a line for each thing that was tried; return 0, or 2 if a collector could not begin."""
    from pipeline.planning.validating import checks  # noqa: PLC0415 - imports Beam

    say(f"ok      flags: {_flags(options)}")
    found = checks(options)
    code = 0
    while True:
        with said_meanwhile(f"waiting for {options.source.where} ..."):
            tried = next(found, None)
        if tried is None:
            return code
        say(f"{'ok' if tried.is_good else 'FAILED':<6}  {tried.what}: {tried.said}")
        code = code if tried.is_good else 2


def _flags(options: CollectOptions) -> str:
    files = f"at most {options.batch_size:,} rows a file"
    return f"windows of {format_duration(options.interval)}, {files}, into {options.output}"
