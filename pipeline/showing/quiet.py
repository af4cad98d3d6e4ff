"""What libraries say, kept to what a user can act on."""

from __future__ import annotations

import logging
import warnings

__all__ = ["keep_quiet"]


def keep_quiet(handler: logging.Handler) -> None:
    """Let ``handler`` have the warnings; called before Beam is imported, which warns meanwhile."""
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("apache_beam").setLevel(logging.ERROR)
    logging.getLogger().addFilter(_is_no_wish)
    warnings.filterwarnings("ignore", "You are using a (non-supported )?Python", FutureWarning)


def _is_no_wish(record: logging.LogRecord) -> bool:
    """Tell what Beam says to the root logger where extras for BigQuery are not installed."""
    return not str(record.msg).startswith("apitools not found")
