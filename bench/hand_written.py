"""A hand-written loop: a topic in, a Parquet file a minute out, offsets committed at the end.

    python -m bench.hand_written BOOTSTRAP_SERVERS TOPIC DIRECTORY

As one would write it for speed. A crash leaves half-written files, and a bad message ends it.
"""

from __future__ import annotations

import sys
from datetime import datetime, timezone
from io import BytesIO
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.json as pj
import pyarrow.parquet as pq
from confluent_kafka import Consumer, TopicPartition

__all__ = ["main"]

MINUTE = 60_000  # milliseconds


def main(servers: str, topic: str, directory: Path) -> None:
    """Collect what is there now."""
    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "hand-written",
            "enable.auto.commit": False,
            "fetch.queue.backoff.ms": 5,
        }
    )
    left, starts, ends = 0, [], []
    for number in consumer.list_topics(topic).topics[topic].partitions:
        low, high = consumer.get_watermark_offsets(TopicPartition(topic, number))
        starts.append(TopicPartition(topic, number, low))
        ends.append(TopicPartition(topic, number, high))
        left += high - low
    consumer.assign(starts)
    writers: dict[int, pq.ParquetWriter] = {}
    while left > 0:
        messages = consumer.consume(min(20_000, left), timeout=1)
        if not messages:
            continue
        left -= len(messages)
        rows = pj.read_json(BytesIO(b"\n".join([message.value() or b"" for message in messages])))
        minutes = np.array([message.timestamp()[1] for message in messages]) // MINUTE
        for minute in np.unique(minutes).tolist():
            part = rows.filter(pa.array(minutes == minute))
            if minute not in writers:
                begin = datetime.fromtimestamp(minute * 60, timezone.utc)
                path = directory / f"{begin:%Y%m%dT%H%M}.parquet"
                writers[minute] = pq.ParquetWriter(path, rows.schema, compression="zstd")
            writers[minute].write_table(part)
    for writer in writers.values():
        writer.close()
    consumer.commit(offsets=ends, asynchronous=False)
    consumer.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]))
