"""Collect what a Pub/Sub subscription delivers, on Dataflow: a row a message.

    python examples/pubsub_to_batches.py --subscription=projects/P/subscriptions/S \
      --output=gs://B/readings --runner=DataflowRunner --project=P --region=R \
      --temp_location=gs://B/tmp --setup_file=./setup.py

Messages are JSON objects, in windows by the time when they were published. Pub/Sub forgets a
message when it is in the state of the job, before it is in a batch: to end the job, drain it. Who
cancels it loses what it holds.
"""

from __future__ import annotations

import argparse
import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import apache_beam as beam
from apache_beam.io import PubsubMessage, ReadFromPubSub
from apache_beam.options.pipeline_options import PipelineOptions

from transforms.collect_batches import CollectBatches

if TYPE_CHECKING:
    from apache_beam.pvalue import PCollection


def collect(messages: PCollection[PubsubMessage], output: str) -> None:
    """Collect rows, and what is no JSON object with the reason beside them."""
    kept: dict[str, Any] = {"interval": timedelta(minutes=1), "batch_size": 10_000, "shards": 4}
    rows, failed = messages | "ToRow" >> beam.Map(to_row).with_exception_handling()
    refused = failed | "ToRefused" >> beam.Map(to_refused)
    _ = rows | "CollectRows" >> CollectBatches(output=output, **kept)
    _ = refused | "CollectRefused" >> CollectBatches(output=f"{output}-refused", **kept)


def to_row(message: PubsubMessage) -> dict[str, Any]:
    """Return the fields of a message, and its id, by which it is found again."""
    return {**json.loads(message.data), "message_id": message.message_id}


def to_refused(failed: tuple[PubsubMessage, tuple[type, str, list[str]]]) -> dict[str, str]:
    """Return what a message was, and why it is no row."""
    message, (_, reason, _) = failed
    content = message.data.decode(errors="backslashreplace")
    return {"content": content, "message_id": message.message_id, "reason": reason}


def main() -> None:
    """Submit the job; it goes on without this program."""
    parser = argparse.ArgumentParser(allow_abbrev=False)
    parser.add_argument("--subscription", required=True)
    parser.add_argument("--output", required=True)
    args, of_beam = parser.parse_known_args()
    pipeline = beam.Pipeline(options=PipelineOptions(of_beam, streaming=True))
    read = ReadFromPubSub(subscription=args.subscription, with_attributes=True)
    collect(pipeline | read, args.output)
    pipeline.run()


if __name__ == "__main__":
    main()
