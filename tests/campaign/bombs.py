"""Messages made to exhaust whoever reads them.

``python -m tests.campaign.bombs NAME`` decodes one between two good messages, in a process of its
own, and prints what that took, as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from tests.decoding import LAW, decoded, errors

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BOMBS"]

MILLION = 1_000_000


def _keys(names: Callable[[int], str], count: int, value: bytes = b"1") -> bytes:
    return b"{%s}" % b",".join(b'"%s":%s' % (names(n).encode(), value) for n in range(count))


def _array(element: bytes, count: int) -> bytes:
    return b"[%s]" % b",".join([element] * count)


def _deep_columns() -> list[bytes]:
    """Make a thousand columns, each under ninety names of its own."""
    return [
        b"".join(b'{"k%d-%d":' % (level, column) for level in range(90)) + b"1" + b"}" * 90
        for column in range(1000)
    ]


def _keys_each(value: bytes) -> list[bytes]:
    """Make a thousand messages, each with a thousand names of its own."""
    return [_keys(lambda n, m=m: f"m{m}-{n}", 1000, value) for m in range(1000)]  # type: ignore[misc]


BOMBS: dict[str, Callable[[], list[bytes]]] = {
    "objects 100,000 deep": lambda: [b'{"a":' * 100_000 + b"1" + b"}" * 100_000],
    "objects a million deep": lambda: [b'{"a":' * MILLION],
    "arrays ten million deep": lambda: [b"[" * 10 * MILLION],
    "fifty levels, ten thousand times": lambda: [
        b'{"l":%s}' % _array(b"[" * 50 + b"]" * 50, 10_000)
    ],
    "a text of 10 MB": lambda: [b'{"s":"%s"}' % (b"x" * 10 * MILLION)],
    "a text of 10 MB, all escapes": lambda: [b'{"s":"%s"}' % (b"\\u00e4" * 2 * MILLION)],
    "a text of 10 MB of brackets": lambda: [b'{"s":"%s"}' % (b"[{" * 5 * MILLION)],
    "a text of 10 MB where a number belongs": lambda: [b'{"a":"%s"}' % (b"x" * 10 * MILLION)],
    "a key of 10 MB": lambda: [b'{"%s":1}' % (b"x" * 10 * MILLION)],
    "10 MB of blanks": lambda: [b" " * 10 * MILLION, b" " * 10 * MILLION + b"{}"],
    "a million keys": lambda: [_keys("k{}".format, MILLION)],
    "a million keys, one of them twice": lambda: [_keys(lambda n: f"k{max(n, 1)}", MILLION)],
    "a million keys, the last one twice": lambda: [
        _keys(lambda n: f"k{min(n, MILLION - 2)}", MILLION)
    ],
    "a million nulls": lambda: [_keys("k{}".format, MILLION, b"null")],
    "a million keys in a struct": lambda: [b'{"n":%s}' % _keys("k{}".format, MILLION)],
    "a million elements": lambda: [b'{"l":%s}' % _array(b"1", MILLION)],
    "a million wrong elements": lambda: [b'{"l":%s}' % _array(b'"[{"', MILLION)],
    "a million rows": lambda: [_array(b'{"a":1}', MILLION)],
    "a million rows and a null": lambda: [_array(b'{"a":1}', MILLION)[:-1] + b",null]"],
    "a million empty rows": lambda: [_array(b"{}", MILLION)],
    "a thousand new keys in each message": lambda: _keys_each(b"1"),
    "a thousand new nulls in each message": lambda: _keys_each(b"null"),
    "one new key in each message": lambda: [b'{"k%d":1}' % n for n in range(20_000)],
    "long names": lambda: [b'{"%s":1}' % (b"k%04d" % n * 2000) for n in range(500)],
    "deep columns": _deep_columns,
    "an integer of 100,000 digits": lambda: [b'{"a":%s}' % (b"7" * 100_000)] * 10,
    "a number of ten million digits": lambda: [
        b'{"%s":%s}' % (name, b"7" * 10 * MILLION) for name in (b"a", b"d")
    ],
    "a fraction of ten million digits": lambda: [b'{"d":0.%s}' % (b"7" * 10 * MILLION)],
    "an exponent of a million digits": lambda: [b'{"d":1e%s}' % (b"9" * MILLION)],
    "a chunk of numbers that a double would round": lambda: [b'{"d":9007199254740993}'] * 20_000,
    "a chunk of halves": lambda: [b'{"a":1', b'{"a":2}'] * 10_000,
}


def _peak() -> int:
    """Return the highest resident size of this process so far, in bytes."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def _main() -> None:
    values = BOMBS[sys.argv[1]]()
    size = sum(map(len, values))
    decoded(b'{"a":0}', pinned=LAW)  # imports are no part of it
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak so far
    before, began = _peak(), time.process_time()
    done = decoded(b'{"a":1}', *values, b'{"a":2}', pinned=LAW)
    took = {
        "bytes": size,
        "memory": _peak() - before,
        "seconds": time.process_time() - began,
        "neighbours": done.rows.column("offset").to_pylist()[:: done.rows.num_rows - 1],
        "messages": len(values) + 2,
        "dead_letters": done.dead_letters.num_rows,
        "longest_reason": max(map(len, errors(done).values()), default=0),
        "schema": len(json.dumps(done.schema)),
    }
    print(json.dumps(took))


if __name__ == "__main__":
    _main()
