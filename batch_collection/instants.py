"""Instants as texts, a whole column at once: the one way that they are read, wherever they stand.

An instant is RFC 3339: ``2026-11-22T10:30:00.123456Z``. Accepted as well, as people and databases
write it: ``t`` and ``z``, a space for the ``T``, no seconds, no minutes, a zone without a colon or
minutes, no zone (UTC), no time (midnight, UTC), any number of digits behind the point. It lies
within the years 1 to 9999, UTC, and is a time of everybody's day: no 24:00, no leap second.
"""

from __future__ import annotations

import re

import pyarrow as pa
import pyarrow.compute as pc

__all__ = ["FIRST", "INSTANT", "LAST", "exact_instants_of", "instants_of", "is_exact_instant"]

INSTANT = pa.timestamp("us", "UTC")

FIRST, LAST = -62_135_596_800_000_000, 253_402_300_799_999_999
"""The years 1 to 9999, in microseconds since the Unix epoch."""

_DAY = (
    r"(?:\d{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12]\d|3[01])|(?:0[469]|11)-(?:0[1-9]|[12]\d|30)|"
    r"02-(?:0[1-9]|1\d|2[0-8]))|"
    r"(?:\d\d(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29)"
)
_TIME = r"(?:[01]\d|2[0-3])(?::[0-5]\d(?::[0-5]\d(?:\.\d+)?)?)?"
_ZONE = r"(?:[Zz]|[+-](?:[01]\d|2[0-3])(?::?[0-5]\d)?)?"
_TEXT = rf"^{_DAY}(?:[Tt ]{_TIME}{_ZONE})?$"
_FINER = r"\.\d{6}\d*[1-9]"
_IS_TEXT, _IS_FINER = re.compile(_TEXT[:-1], re.ASCII), re.compile(_FINER, re.ASCII)
_MICRO = len("2026-11-22T10:30:00.123456")
_SOME = 8
_OUTER_YEARS = {"0000", "0001", "9999"}


def instants_of(texts: pa.StringArray) -> pa.Int64Array:
    """Return texts as microseconds since the Unix epoch, finer fractions rounded down.

    Null where a text is no instant.
    """
    texts = pc.if_else(pc.match_substring_regex(texts, _TEXT), texts, pa.scalar(None, pa.string()))
    try:
        texts[:_SOME].cast(INSTANT)  # Arrow goes on to the end after a text that it can't read
        micros = texts.cast(INSTANT).cast(pa.int64())
    except pa.ArrowInvalid:
        micros = _plain(texts).cast(INSTANT).cast(pa.int64())
    within = pc.and_(pc.greater_equal(micros, FIRST), pc.less_equal(micros, LAST))
    return pc.if_else(within, micros, pa.scalar(None, pa.int64()))


def exact_instants_of(texts: pa.StringArray) -> pa.TimestampArray:
    """Return texts as instants, null where one is none, or is finer than microseconds."""
    finer = pc.match_substring_regex(texts, _FINER)
    micros = pc.if_else(finer, pa.scalar(None, pa.int64()), instants_of(texts))
    return micros.cast(INSTANT)


def is_exact_instant(text: str) -> bool:
    """Tell of one text whether ``exact_instants_of`` reads it; a column of one would be slow."""
    if not _IS_TEXT.fullmatch(text) or _IS_FINER.search(text):
        return False
    return text[:4] not in _OUTER_YEARS or exact_instants_of(pa.array([text]))[0].is_valid


def _plain(texts: pa.StringArray) -> pa.StringArray:
    """Write instants the one way that Arrow reads: upper case, microseconds, time and zone."""
    texts = pc.ascii_upper(texts)
    start, rest = pc.utf8_slice_codeunits(texts, 0, _MICRO), pc.utf8_slice_codeunits(texts, _MICRO)
    cut = pc.binary_join_element_wise(start, pc.utf8_ltrim(rest, "0123456789"), "")
    texts = pc.if_else(pc.match_substring_regex(texts, r"\.\d{7}"), cut, texts)
    midnight = pc.binary_join_element_wise(texts, "T00", "")
    texts = pc.if_else(pc.equal(pc.binary_length(texts), len("2026-11-22")), midnight, texts)
    has_zone = pc.match_substring_regex(texts, r"[T ].*[Z+-]")
    return pc.if_else(has_zone, texts, pc.binary_join_element_wise(texts, "Z", ""))
