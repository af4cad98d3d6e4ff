"""What streams are called, for people."""

from __future__ import annotations

from batch_collection.log.entry import Source
from pipeline.showing.wording import described_source, stream_name


def test_a_stream_is_called_by_its_name_and_told_by_its_kind() -> None:
    """The path of a subscription is long, and its last part is what its collection is called."""
    topic = Source("kafka", "sensor")
    subscription = Source("pubsub", "projects/p/subscriptions/orders")
    assert [stream_name(each) for each in (topic, subscription)] == ["sensor", "orders"]
    assert described_source(topic) == "kafka topic sensor"
    assert described_source(subscription) == "pubsub subscription projects/p/subscriptions/orders"
    assert described_source(Source("beam", "")) == "beam"
