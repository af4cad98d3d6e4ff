"""Messages to try a collector on."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from random import Random

__all__ = ["sample_message"]


def sample_message(count: int, clock: Callable[[], float], random: Random) -> bytes:
    """Return one message: a JSON array of ``count`` records, values from 0 to 100.

    ``clock`` tells seconds since the Unix epoch.
    """
    made = [
        {"timestamp": round(clock(), 3), "value": round(random.uniform(0, 100), 2)}
        for _ in range(count)
    ]
    return json.dumps(made).encode()
