"""A decoder that keeps a core busy, as one of a user's may.

    python -m bench.engines.decoder MESSAGES

decodes so many in a loop, and prints the seconds.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import pyarrow as pa

__all__ = ["decode", "main"]

_STEPS = 400  # about 20 microseconds
_MESSAGES = 10_000  # of a chunk


def decode(messages: pa.Table) -> pa.Table:
    """Return a row of each message, which is JSON, after some work in Python's own loop."""
    return pa.Table.from_pylist([_row(value) for value in messages.column("value").to_pylist()])


def _row(value: bytes) -> dict[str, Any]:
    mixed = 0
    for step in range(_STEPS):
        mixed = (mixed * 31 + step) % 1_000_003
    return {"id": json.loads(value)["id"], "mixed": mixed}


def main(messages: int) -> None:
    """Decode, and print how long it took."""
    chunk = pa.table({"value": [b'{"id":%d}' % number for number in range(_MESSAGES)]})
    began = time.perf_counter()
    for _ in range(-(-messages // _MESSAGES)):
        decode(chunk)
    print(time.perf_counter() - began)


if __name__ == "__main__":
    main(int(sys.argv[1]))
