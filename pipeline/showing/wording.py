"""Numbers, durations and instants as people read them."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from batch_collection.errors import printable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batch_collection.log.entry import Source
    from transforms.process.events import Away, Back

__all__ = [
    "aligned",
    "called",
    "described_instant",
    "described_source",
    "humanised_bytes",
    "humanised_duration",
    "stream_name",
    "to_the_second",
]

_UNITS = ("B", "kB", "MB", "GB", "TB")
_THOUSAND = 1000


def aligned(rows: Sequence[Sequence[str]], side: Literal["<", ">"] = ">") -> list[str]:
    """Write cells in columns, as wide as each needs, on one side of them; a line for each row."""
    cells = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ("  ".join(f"{c:{side}{w}}" for c, w in zip(row, widths, strict=True)) for row in cells)
    return [f"  {line}".rstrip() for line in lines]


def to_the_second(instant: datetime) -> str:
    """Write an instant, UTC, for people: ``2026-11-22 10:30:00``."""
    return instant.replace(tzinfo=None).isoformat(" ", "seconds")  # %Y does not pad everywhere


def described_instant(instant: datetime) -> str:
    """Write an instant for people who may take it for their own time."""
    return f"{to_the_second(instant)} UTC"


def described_source(source: Source) -> str:
    """Write what a collection collects: ``kafka topic sensor``, ``pubsub subscription ...``."""
    return f"{source.kind} {source.stream} {source.topic}" if source.topic else source.kind


def stream_name(source: Source) -> str:
    """Return what a collection's stream is called, without a path to it."""
    return source.topic.rpartition("/")[2]


def called(event: Away | Back) -> str:
    """Name what an event is of, for a line about it: ``topic=sensor``, ``subscription=orders``."""
    return f"{event.stream}={event.topic}"


def humanised_bytes(count: float) -> str:
    """Write a size with three digits: ``293 B``, ``1.23 MB``."""
    unit = 0
    while count >= _THOUSAND and unit < len(_UNITS) - 1:
        count, unit = count / _THOUSAND, unit + 1
    form = ".3g" if round(count) < _THOUSAND else ".0f"
    return f"{count:{form}} {_UNITS[unit]}"


def humanised_duration(span: timedelta) -> str:
    """Write a duration with its two highest units: ``250ms``, ``2.1s``, ``3m 5s``, ``2d 4h``."""
    seconds = abs(span.total_seconds())
    sign = "-" if span < timedelta(0) else ""
    if seconds < 1:
        return f"{sign}{seconds * 1000:.0f}ms"
    if round(seconds, 1) < 60:  # noqa: PLR2004 - seconds a minute
        return f"{sign}{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (rest, "s")]
    first = next(place for place, (count, _) in enumerate(parts) if count)
    shown = [f"{count}{unit}" for count, unit in parts[first : first + 2] if count]
    return sign + " ".join(shown)
