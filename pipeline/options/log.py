"""How a program logs on standard error."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from pipeline.options.flags import Flags

if TYPE_CHECKING:
    import argparse

__all__ = ["FORMATS", "LEVELS", "configure_log", "log_flags"]

FORMATS = ("text", "json")
LEVELS = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


def configure_log(group: argparse._ActionsContainer) -> None:
    """Declare the flags."""
    group.add_argument(
        "--log_format",
        metavar="|".join(FORMATS),
        default="text",
        help="how standard error is written: lines for people, or one JSON object a line "
        "(default: text)",
    )
    group.add_argument(
        "--log_level",
        metavar="|".join(LEVELS),
        default="info",
        help="what is less important is not said; cycles with dead letters are warnings, those "
        "that had nothing to do debug (default: info)",
    )
    group.add_argument(
        "--quiet", action="store_true", help="say warnings and errors only: --log_level=warning"
    )


def log_flags(args: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """Return what ``LogForm.use`` is given, and mistakes; of commands without the flags, too."""
    if not hasattr(args, "log_format"):
        return {"as_json": False, "level": logging.INFO}, []
    flags = Flags(args)
    form, level = flags.choice("log_format", FORMATS), flags.choice("log_level", LEVELS)
    flags.check(
        not args.quiet or level == "info", "--quiet goes without --log_level; leave one of both out"
    )
    if args.quiet:
        level = "warning"
    elif getattr(args, "verbose", False) and level == "info":  # cycles that had nothing to do
        level = "debug"
    return {"as_json": form == "json", "level": LEVELS.get(level, logging.INFO)}, flags.errors
