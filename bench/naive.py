"""The naive pattern: message by message, a Parquet file for each 1,000 rows of a minute.

python -m bench.naive BOOTSTRAP_SERVERS TOPIC DIRECTORY
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from kafka import KafkaConsumer, TopicPartition

__all__ = ["main"]

MINUTE = 60_000  # milliseconds
ROWS = 1_000  # a file


def main(servers: str, topic: str, directory: Path) -> None:
    """Collect what is there now."""
    consumer = KafkaConsumer(bootstrap_servers=servers, group_id="naive", enable_auto_commit=False)
    partitions = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
    starts, ends = consumer.beginning_offsets(partitions), consumer.end_offsets(partitions)
    consumer.assign(partitions)
    consumer.seek_to_beginning()
    files = 0
    waiting: dict[int, list[Any]] = defaultdict(list)
    for _ in range(sum(ends.values()) - sum(starts.values())):
        message = next(consumer)
        minute = message.timestamp // MINUTE
        waiting[minute].append(json.loads(message.value))
        if len(waiting[minute]) == ROWS:
            write(directory, files, minute, waiting.pop(minute))
            files += 1
    for minute, rows in waiting.items():
        write(directory, files, minute, rows)
        files += 1
    consumer.commit()
    consumer.close()


def write(directory: Path, number: int, minute: int, rows: list[Any]) -> None:
    """Write rows of a minute to a file of their own."""
    begin = datetime.fromtimestamp(minute * 60, timezone.utc)
    path = directory / f"{begin:%Y%m%dT%H%M}-{number:06d}.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path, compression="zstd")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
