"""Instants, durations and the fixed windows they form.

Instants are aware UTC ``datetime``s, durations ``timedelta``s; in columns both are integers in
microseconds. A window is ``[start, end)``, one interval long; boundaries are multiples of the
interval since the Unix epoch.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

import pyarrow as pa

from batch_collection.instants import instants_of

__all__ = [
    "EPOCH",
    "FIRST_INSTANT",
    "LAST_INSTANT",
    "TooLongError",
    "boundary_at",
    "compact_instant",
    "format_duration",
    "format_instant",
    "from_microseconds",
    "microseconds",
    "parse_compact_instant",
    "parse_duration",
    "parse_instant",
    "utc_now",
    "window_start",
]


def utc_now() -> datetime:
    """Return the clock."""
    return datetime.now(timezone.utc)


EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
FIRST_INSTANT = datetime.min.replace(tzinfo=timezone.utc)
LAST_INSTANT = datetime.max.replace(tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d|w|y)", re.ASCII)
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_UNITS |= {"w": 7 * _UNITS["d"], "y": 365 * _UNITS["d"]}
_OURS = re.compile(r"\d{4}-\d\d-\d\dT(?:[01]\d|2[0-3]):\d\d:\d\d(?:\.\d{6})?Z", re.ASCII)
"""What ``format_instant`` writes: a log has many, so no column for each."""
_LONGEST = timedelta(days=365_000)


class TooLongError(ValueError):
    """A text is a duration, but one that leads beyond the calendar."""


def microseconds(moment: datetime | timedelta) -> int:
    """Return an instant (since the Unix epoch) or a duration in microseconds, exactly."""
    span = moment - EPOCH if isinstance(moment, datetime) else moment
    return span // _MICROSECOND


def from_microseconds(value: int) -> datetime:
    """Return the instant ``value`` microseconds after the Unix epoch.

    Raises:
        OverflowError: it lies outside the years 1 to 9999.
    """
    return EPOCH + timedelta(microseconds=value)


def window_start(instant: datetime, interval: timedelta) -> datetime:
    """Return the start of the window that ``instant`` belongs to."""
    return instant - (instant - EPOCH) % interval


def boundary_at(clock: datetime, grace: timedelta, interval: timedelta) -> datetime:
    """Return the last interval boundary that is at least ``grace`` before ``clock``.

    If that is before the year 1, it is the first boundary in it.
    """
    span = clock - EPOCH - grace
    first = -((EPOCH - FIRST_INSTANT) // interval * interval)
    return EPOCH + max(span - span % interval, first)


def format_instant(instant: datetime) -> str:
    """Write an instant as RFC 3339, UTC: ``2026-11-22T10:30:00Z``, a fraction if it has one."""
    text = instant.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    return text + "Z"


def parse_instant(text: str) -> datetime:
    """Read RFC 3339, as columns of texts are read (``instants``), a finer fraction rounded down.

    Raises:
        ValueError: it isn't one.
    """
    plain = text.strip()
    if _OURS.fullmatch(plain):
        try:
            return datetime.fromisoformat(plain[:-1] + "+00:00")
        except ValueError:
            pass
    micros = instants_of(pa.array([plain], pa.string()))[0].as_py()
    if micros is None:
        message = f"not an instant: {text!r}; write it as 2026-11-22T10:30:00Z"
        raise ValueError(message)
    return from_microseconds(micros)


def parse_duration(text: str) -> timedelta:
    """Read ``10s``, ``1m``, ``1h30m``, ``250ms``, ``2d``, ``4w``; ``1y``, which is 365 days.

    Raises:
        TooLongError: it is more than 1,000 years.
        ValueError: it isn't one.
    """
    parts = _DURATION.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        message = f"not a duration: {text!r}; write it as 10s, 1m, 1h30m or 250ms"
        raise ValueError(message)
    micros = sum(float(number) * _UNITS[unit] for number, unit in parts)
    if micros > _LONGEST / _MICROSECOND:  # before or behind now there must be a date
        message = f"too long a duration: {text!r}; write at most {_LONGEST.days // 365}y"
        raise TooLongError(message)
    return timedelta(microseconds=micros)


def format_duration(span: timedelta) -> str:
    """Write a duration as ``parse_duration`` reads it: ``1m``, ``90s``, ``250ms``."""
    whole = microseconds(span)
    for unit in ("d", "h", "m", "s"):
        if whole and whole % _UNITS[unit] == 0:
            return f"{whole // _UNITS[unit]}{unit}"
    return f"{whole / _UNITS['ms']:.3f}".rstrip("0").rstrip(".") + "ms"


def compact_instant(instant: datetime) -> str:
    """Write an instant as file names have it: ``20261122T103000Z``, a fraction if it has one."""
    fraction = f".{instant.microsecond:06d}" if instant.microsecond else ""
    return f"{instant.year:04d}{instant:%m%dT%H%M%S}{fraction}Z"  # %Y does not pad everywhere


def parse_compact_instant(text: str) -> datetime:
    """Read what ``compact_instant`` wrote."""
    form = "%Y%m%dT%H%M%S.%fZ" if "." in text else "%Y%m%dT%H%M%SZ"
    return datetime.strptime(text, form).replace(tzinfo=timezone.utc)
