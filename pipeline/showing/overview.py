"""What there is, for who calls the program for the first time."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["overview"]


def overview(commands: Mapping[str, str]) -> list[str]:
    """List commands, a line each, and two examples."""
    width = max(map(len, commands))
    return [
        "Collects topics of Kafka and subscriptions of Pub/Sub in batch files, each message once.",
        "",
        "usage: batch-collection COMMAND [FLAGS]; without a command it collects",
        "",
        "commands:",
        *(f"  {name:<{width}}  {says}" for name, says in commands.items()),
        "",
        "examples:",
        "  batch-collection demo",
        (
            "  batch-collection collect --bootstrap_servers=localhost:9092 --topics=orders "
            "--output=collected"
        ),
        "",
        "batch-collection help COMMAND explains one.",
    ]
