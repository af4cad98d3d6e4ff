"""Run a command, and say what it took, as one line of JSON.

    python -m bench.measured COMMAND...

It is a small process of its own: what a child's ``ru_maxrss`` says is never less than what its
parent held when it started it.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import NamedTuple

__all__ = ["Taken", "main"]


class Taken(NamedTuple):
    """Seconds from start to exit, of the clock and of CPUs; the peak of resident bytes.

    CPU seconds are of the process and those it has waited for.
    """

    seconds: float
    cpu_seconds: float
    peak_bytes: int


def main(command: list[str]) -> int:
    """Run a command to its end; return its exit code."""
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    unit = 1 if sys.platform == "darwin" else 1024
    taken = Taken(seconds, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)
    print(json.dumps(taken._asdict()))
    return os.waitstatus_to_exitcode(status)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
