"""What taking a message from Kafka costs, with the columnar and with the portable reader.

    python -m bench.kafka_readers [--messages=2_000_000] [--rounds=3]

Needs Java and Maven for a real Kafka, which runs on the same cores. Nothing but reading is
measured: microseconds of CPU a message, of librdkafka's threads, too, and messages a second. The
readers read in turn; the median counts.
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

import pyarrow as pa

from bench.collecting import PARTITIONS, fill
from bench.kafka import real_kafka
from transforms.process.process import new_process
from transforms.sources.contract import Slice
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.reader import KafkaReader

if TYPE_CHECKING:
    from transforms.sources.kafka.reader_name import ReaderName

__all__ = ["Cost", "main", "measure"]

READERS: tuple[ReaderName, ...] = ("portable", "columnar")


class Cost(NamedTuple):
    """What a message cost."""

    cpu_microseconds: float
    microseconds: float


def measure(servers: str, topic: str, reader: ReaderName) -> Cost:
    """Read a topic once, by a client of its own."""
    config = {"bootstrap.servers": servers}
    ends = Broker(config).offsets(topic, range(PARTITIONS))
    slices = [Slice(topic, partition, *bounds) for partition, bounds in ends.items()]
    with new_process():
        began, worked = time.perf_counter(), time.process_time()
        batches = KafkaReader(config, reader).read(slices, skip_lost=False)
        messages = sum(each.num_rows for each in batches if isinstance(each, pa.RecordBatch))
        seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - worked
    assert messages == sum(each.end - each.start for each in slices)
    return Cost(1e6 * cpu_seconds / messages, 1e6 * seconds / messages)


def main() -> None:
    """Measure, and print a line a reader."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    with real_kafka("readers are") as broker:
        topic = fill(broker, args.messages)
        measure(broker.bootstrap_servers, topic, READERS[0])  # the broker reads its files
        costs: dict[ReaderName, list[Cost]] = {reader: [] for reader in READERS}
        for _ in range(args.rounds):
            for reader, found in costs.items():
                found.append(measure(broker.bootstrap_servers, topic, reader))
    for reader, found in costs.items():
        cpu, wall = (statistics.median(each) for each in zip(*found, strict=True))
        print(f"{reader:9} {cpu:.2f} microseconds of CPU a message, {1 / wall:.2f} M messages/s")


if __name__ == "__main__":
    main()
