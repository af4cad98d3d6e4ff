"""One way to collect what waits in a subscription, in a process of its own.

    python -m bench.pulled WAY ENDPOINT SUBSCRIPTION DIRECTORY MESSAGES

Prints how many messages it took and for how long, from its first request to the last answer to an
acknowledgement, as JSON: what it takes to start is left out. The loops are as one would write them
for speed: plain requests, one file, and nothing for crashes, messages that come again, windows or
bad bytes. Ours ends with the cycle in which nine tenths are durable, since for what is left it may
wait a minute, as for all that comes slowly.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pyarrow.json as pj
import pyarrow.parquet as pq

from pipeline.options.collect import check, configure
from pipeline.options.flags import Parser
from pipeline.planning.opening import collect_tasks, open_topics
from pipeline.running.local import LocalDrive
from transforms.process.events import CycleCommitted
from transforms.process.process import new_process
from transforms.sources.pubsub.client import Client, request

if TYPE_CHECKING:
    from collections.abc import Sequence

    from transforms.process.events import Event

__all__ = ["WAYS", "Pulled"]

WAYS = {
    "ours": "batch-collection",
    "holding": "loop that holds leases",
    "telling": "loop that acknowledges",
}
_PULLED = 1_000
_LEASE_SECONDS, _EXTEND_SECONDS = 120, 40
_CYCLES = 10  # at most: so pulling and what is done with messages are measured beside each other


class Pulled(NamedTuple):
    """So many messages in so many seconds."""

    messages: int
    seconds: float


def ours(endpoint: str, path: str, directory: Path, messages: int) -> int:
    """Collect as the command line does; return how many messages are in the log."""
    parser = Parser()
    configure(parser)
    flags = [
        f"--input_subscription={path}",
        f"--output={directory}",
        f"--batch_size={messages // _CYCLES}",
    ]
    options = check(parser.parse_args([*flags, f"--pubsub_endpoint={endpoint}"]))
    enough = messages - messages // _CYCLES
    with new_process() as process, closing(options.source.connect()) as connection:
        (topic,) = open_topics(options, connection)

        def watch(event: Event) -> None:
            if isinstance(event, CycleCommitted) and event.entry.ends[0] >= enough:
                process.stop.set()

        process.observers.append(watch)
        LocalDrive([topic], collect_tasks(options, is_here=True)).run()
        return topic.newest.ends[0]


def loop(endpoint: str, path: str, directory: Path, messages: int, *, holds: bool) -> int:
    """Pull, parse and write; acknowledge each answer, or hold leases until the file is there."""
    client = Client(endpoint)
    asked = request("PullRequest", subscription=path, max_messages=_PULLED)
    leases: list[str] = []
    writer: pq.ParquetWriter | None = None
    left, extended = messages, time.perf_counter()
    while left > 0:
        received = client.pull(asked, timeout=90).received_messages
        left -= len(received)
        came = [each.ack_id for each in received]
        if not came:
            continue
        rows = pj.read_json(BytesIO(b"\n".join([each.message.data for each in received])))
        if writer is None:
            writer = pq.ParquetWriter(directory / "rows.parquet", rows.schema, compression="zstd")
        writer.write_table(rows)
        if not holds:
            _acknowledge(client, path, came)
            continue
        leases += came
        _extend(client, path, came)
        if time.perf_counter() - extended > _EXTEND_SECONDS:
            extended = time.perf_counter()
            _extend(client, path, leases)
    if writer is not None:
        writer.close()
    _acknowledge(client, path, leases)
    client.close()
    return messages


def _extend(client: Client, path: str, leases: Sequence[str]) -> None:
    fields = {"subscription": path, "ack_deadline_seconds": _LEASE_SECONDS}
    for start in range(0, len(leases), _PULLED):
        part = leases[start : start + _PULLED]
        client.modify(request("ModifyAckDeadlineRequest", ack_ids=part, **fields), timeout=30)


def _acknowledge(client: Client, path: str, leases: Sequence[str]) -> None:
    for start in range(0, len(leases), _PULLED):
        part = leases[start : start + _PULLED]
        asked = request("AcknowledgeRequest", subscription=path, ack_ids=part)
        client.acknowledge(asked, timeout=30)


def main(way: str, endpoint: str, path: str, directory: Path, messages: int) -> None:
    """Collect so many messages, and print what it took."""
    given = (endpoint, path, directory, messages)
    began = time.perf_counter()
    count = ours(*given) if way == "ours" else loop(*given, holds=way == "holding")
    print(json.dumps(Pulled(count, time.perf_counter() - began)._asdict()))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], sys.argv[3], Path(sys.argv[4]), int(sys.argv[5]))
