"""Where a program is asked over HTTP how it goes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import argparse

    from pipeline.options.flags import Flags

__all__ = ["Address", "address_of", "configure_http"]

_ADDRESS = re.compile(r"(?:(?P<host>\[[\da-fA-F:.%]+\]|[^\s:/@\[\]]*):)?(?P<port>[0-9]{1,5})")
_LOOPBACK = "127.0.0.1"
_MOST_PORT = 65_535


class Address(NamedTuple):
    """Where to listen."""

    host: str
    port: int


def configure_http(group: argparse._ActionsContainer, default: str | None = None) -> None:
    """Declare the flag; ``default`` says where it listens without it, None: nowhere."""
    group.add_argument(
        "--http",
        metavar="HOST:PORT",
        default=default,
        help="serve /ping, /ready, /metrics (Prometheus), /status.json and a page there; a PORT "
        f"alone is of this machine only (default: {default or 'nowhere'})",
    )


def address_of(flags: Flags) -> Address | None:
    """Return where to listen; None: nowhere, or a mistake was noted."""
    text = flags.args.http
    if text is None:
        return None
    found = _ADDRESS.fullmatch(text)
    if found is None or int(found["port"]) > _MOST_PORT:
        flags.errors.append(f"--http must be HOST:PORT or a port, as 127.0.0.1:8080, got {text!r}")
        return None
    host = (found["host"] or _LOOPBACK).strip("[]")
    return Address(host, int(found["port"]))
