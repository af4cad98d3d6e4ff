"""Instants, durations and the fixed windows they form.

Instants are aware UTC ``datetime``s, durations ``timedelta``s; in columns both are integers in
microseconds. A window is ``[start, end)``, one interval long; boundaries are multiples of the
interval since the Unix epoch.
"""

from __future__ import annotations

import re
from datetime import datetime, timedelta, timezone

__all__ = [
    "EPOCH",
    "boundary_at",
    "compact_instant",
    "format_duration",
    "format_instant",
    "from_microseconds",
    "microseconds",
    "parse_compact_instant",
    "parse_duration",
    "parse_instant",
    "window_start",
]

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_DURATION = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNITS = {"ms": 1_000, "s": 1_000_000, "m": 60_000_000, "h": 3_600_000_000, "d": 86_400_000_000}
_OUR_LENGTHS = {20, 27}  # of what format_instant writes: no regular expressions for those
_FRACTION = re.compile(r"(\.\d{6})\d+")


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
    """Return the last interval boundary that is at least ``grace`` before ``clock``."""
    return window_start(clock - grace, interval)


def format_instant(instant: datetime) -> str:
    """Write an instant as RFC 3339, UTC: ``2026-11-22T10:30:00Z``, a fraction if it has one."""
    text = instant.astimezone(timezone.utc).replace(tzinfo=None).isoformat()
    return text + "Z"


def parse_instant(text: str) -> datetime:
    """Read RFC 3339; a date, or a time without a zone, is taken as UTC.

    Raises:
        ValueError: it isn't one.
    """
    plain = text.strip()
    is_ours = len(plain) in _OUR_LENGTHS and plain[-1] == "Z"
    plain = plain if is_ours else _FRACTION.sub(r"\1", plain)
    plain = plain[:-1] + "+00:00" if plain[-1:] in {"Z", "z"} else plain
    try:
        instant = datetime.fromisoformat(plain if is_ours else _padded_fraction(plain))
        if instant.tzinfo is timezone.utc:
            return instant
        return instant.replace(tzinfo=instant.tzinfo or timezone.utc).astimezone(timezone.utc)
    except (ValueError, OverflowError) as error:
        message = f"not an instant: {text!r}; write it as 2026-11-22T10:30:00Z"
        raise ValueError(message) from error


def _padded_fraction(text: str) -> str:
    """Give a fraction of seconds six digits: Python 3.10 reads three or six only."""
    return re.sub(r"\.(\d{1,5})(?!\d)", lambda found: "." + found[1].ljust(6, "0"), text)


def parse_duration(text: str) -> timedelta:
    """Read ``10s``, ``1m``, ``1h30m``, ``250ms``, ``2d``.

    Raises:
        ValueError: it isn't one.
    """
    parts = _DURATION.findall(text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        message = f"not a duration: {text!r}; write it as 10s, 1m, 1h30m or 250ms"
        raise ValueError(message)
    try:
        return timedelta(microseconds=sum(float(number) * _UNITS[unit] for number, unit in parts))
    except OverflowError as error:
        message = f"too long a duration: {text!r}"
        raise ValueError(message) from error


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
