"""Messages that hypothesis makes, and what becomes of them in bad hands."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

__all__ = ["FRAGMENTS", "STEMS", "mutated"]

_NAMES = st.sampled_from(["a", "d", "s", "n", "l", "x", "new", "", "a.b", "\0", "_offset"])
_NUMBERS = st.integers(-(2**65), 2**65) | st.floats() | st.sampled_from([2**53 + 1, 2**63, 1e308])
_VALUES = st.recursive(
    st.none() | st.booleans() | _NUMBERS | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=8,
)
_GOOD = st.fixed_dictionaries(
    {},
    optional={
        "a": st.none() | st.integers(-(2**63), 2**63 - 1),
        "d": st.none() | st.floats(allow_nan=False, allow_infinity=False),
        "s": st.none() | st.text(st.characters(codec="utf-8"), max_size=8),
        "n": st.none() | st.fixed_dictionaries({}, optional={"x": st.none() | st.integers(0, 9)}),
        "l": st.none() | st.lists(st.none() | st.floats(-9, 9), max_size=3),
    },
)


def _written(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


STEMS: st.SearchStrategy[list[bytes]] = st.lists(
    (_GOOD | st.lists(_GOOD, max_size=3) | _VALUES).map(_written) | st.binary(max_size=12),
    min_size=1,
    max_size=8,
)
"""Messages, good and bad, to be mutated."""

FRAGMENTS = (
    *(b"", b"{", b"}", b"[", b"]", b",", b":", b'"', b"\\", b"\0", b"\n", b"\r\n", b"\t", b" "),
    *(b"}\n", b'{"v":', b'}\n{"v":', b',"v":', b',"w":{}', b'{"a":1}}\n{"v":{"a":2}', b"/**/"),
    *(b"null", b"true", b"NaN", b"-Infinity", b"Infinity", b"01", b"-0", b"-", b"1e999", b"1E+2"),
    *(b"1" * 20, b"9" * 5000, b"0." + b"1" * 5000, b"9223372036854775808", b"9007199254740993"),
    *(b"\xef\xbb\xbf", b"\xff\xfe", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\ud800"),
    *(b'"a":1,', b'"a":"x",', b'"new":1,', b'"\\u0061":2,', b'"_offset":1,', b'"s":"\\u0000",'),
    *(b"[" * 200, b"]" * 200, b'{"a":' * 200, b"{" * 3, b'[{"a":1},', b",null]", b"#", b"'"),
)


def mutated(message: bytes, rng: random.Random) -> bytes:
    """Return the message, changed in one to three ways."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        message = rng.choice(_MUTATIONS)(message, rng)
    return message


def _place(message: bytes, rng: random.Random) -> int:
    return rng.randint(0, len(message))


def _cut(message: bytes, rng: random.Random) -> bytes:
    return message[: _place(message, rng)]


def _removed(message: bytes, rng: random.Random) -> bytes:
    start, stop = sorted((_place(message, rng), _place(message, rng)))
    return message[:start] + message[stop:]


def _doubled(message: bytes, rng: random.Random) -> bytes:
    start, stop = sorted((_place(message, rng), _place(message, rng)))
    return message[:stop] + message[start:]


def _flipped(message: bytes, rng: random.Random) -> bytes:
    if not message:
        return message
    place = rng.randrange(len(message))
    return message[:place] + bytes([message[place] ^ 1 << rng.randrange(8)]) + message[place + 1 :]


def _filled(message: bytes, rng: random.Random) -> bytes:
    place = _place(message, rng)
    return message[:place] + rng.choice(FRAGMENTS) + message[place:]


def _random(message: bytes, rng: random.Random) -> bytes:
    place = _place(message, rng)
    return message[:place] + rng.randbytes(rng.randint(1, 4)) + message[place:]


def _another_key(message: bytes, rng: random.Random) -> bytes:
    """Give the first object one key more, which it may have already."""
    return message.replace(b"{", b"{" + rng.choice((b'"a":1,', b'"s":null,', b'"k":{},')), 1)


def _wrapped(message: bytes, rng: random.Random) -> bytes:
    levels = rng.choice((1, 1, 2, 50, 99, 101, 2000))
    opening, closing = rng.choice(((b"[", b"]"), (b'{"a":', b"}"), (b'{"n":{"x":', b"}}")))
    return opening * levels + message + closing * levels


def _twice(message: bytes, rng: random.Random) -> bytes:
    return message + rng.choice((b"", b"\n", b",", b"}\n", b'}\n{"v":')) + message


def _long(message: bytes, rng: random.Random) -> bytes:
    """Put a long text in it; seldom a megabyte."""
    size = 1_000_000 if rng.random() < 1 / 200 else rng.choice((10, 1000))
    return message.replace(b'"', b'"' + rng.choice((b"x", b"\\\\", b"\xc3\xa4")) * size, 1)


_MUTATIONS: tuple[Callable[[bytes, random.Random], bytes], ...] = (
    _cut,
    _removed,
    _doubled,
    _flipped,
    _filled,
    _filled,
    _filled,
    _random,
    _another_key,
    _wrapped,
    _twice,
    _long,
)
