"""The hand-written loop in two processes, each with half of the partitions.

    python -m bench.two_loops BOOTSTRAP_SERVERS TOPIC DIRECTORY

The loop is ``hand_written.py`` as it is; each process writes into a folder of its own.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from confluent_kafka import Consumer

from bench import hand_written

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["main"]

PROCESSES = 2


class _OfSome(Consumer):
    """Sees every second partition of a topic."""

    number = 0

    def list_topics(self, *args: Any, **options: Any) -> Any:
        found = super().list_topics(*args, **options)
        for topic in found.topics.values():
            partitions = {
                number: each
                for number, each in topic.partitions.items()
                if number % PROCESSES == self.number
            }
            topic.partitions = partitions
        return found


def main(arguments: Sequence[str]) -> int:
    """Start the processes, or be one of them; return whether one has failed."""
    servers, topic, directory, *number = arguments
    if number:
        _OfSome.number = int(number[0])
        vars(hand_written)["Consumer"] = _OfSome
        hand_written.main(servers, topic, Path(directory))
        return 0
    processes = []
    for each in range(PROCESSES):
        folder = Path(directory) / str(each)
        folder.mkdir()
        command = [sys.executable, "-m", "bench.two_loops", servers, topic, str(folder), str(each)]
        processes.append(subprocess.Popen(command))  # noqa: S603 - this program
    codes = [process.wait() for process in processes]
    return int(any(codes))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
