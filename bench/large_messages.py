"""How much memory large messages take, with no flag that bounds it.

    python -m bench.large_messages [--messages=40] [--megabytes=10] [FLAGS...]

Needs Java and Maven for a real Kafka. The collector is a process of its own, which flags that are
not known here go to.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
from typing import TYPE_CHECKING

from confluent_kafka import Producer

from bench.child import python
from bench.collecting import show_target, target
from bench.kafka import real_kafka
from bench.measured import Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["main"]

PARTITIONS = 4
MOST_MEGABYTES = 600


def fill(broker: KafkaBroker, messages: int, size: int) -> str:
    """Make a topic of messages that can't be compressed; return its name."""
    topic = broker.create_topic("large", PARTITIONS, **{"max.message.bytes": 2 * size})
    producer = Producer(
        {"bootstrap.servers": broker.bootstrap_servers, "message.max.bytes": 2 * size}
    )
    rng = random.Random(messages)  # noqa: S311 - a fixed one is what is wanted
    for number in range(messages):
        text = rng.randbytes(size // 2).hex()
        producer.produce(topic, f'{{"id":{number},"text":"{text}"}}', partition=number % PARTITIONS)
        producer.flush()
    return topic


def collected(broker: KafkaBroker, topic: str, flags: Sequence[str]) -> Taken:
    """Collect all of it into one window."""
    with tempfile.TemporaryDirectory() as folder:
        where = [f"--bootstrap_servers={broker.bootstrap_servers}", f"--topics={topic}"]
        command = [*where, f"--output={folder}", "--interval=1h", "--once", "--flush", *flags]
        said = python("-m", "bench.measured", sys.executable, "-m", "pipeline", *command)
        python("-m", "pipeline", "audit", f"{folder}/{topic}")
    return Taken(**json.loads(said.splitlines()[-1]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=40)
    parser.add_argument("--megabytes", type=int, default=10)
    given, flags = parser.parse_known_args(arguments)
    with real_kafka("large messages are") as broker:
        topic = fill(broker, given.messages, given.megabytes * 1_000_000)
        taken = collected(broker, topic, flags)
    what = f"MB at the most, {given.messages} messages of {given.megabytes} MB"
    print(f"{taken.seconds:.1f} s, {taken.cpu_seconds:.1f} s of CPU")
    show_target(target(what, taken.peak_bytes / 1e6, most=MOST_MEGABYTES))
    return 0


if __name__ == "__main__":
    sys.exit(main())
