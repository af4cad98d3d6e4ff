"""What streams are called, and how instants are written, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_collection.log.entry import Source
from batch_collection.windows import FIRST_INSTANT, LAST_INSTANT
from pipeline.showing.wording import (
    described_instant,
    described_source,
    stream_name,
    to_the_second,
)
from tests.builders import at

if TYPE_CHECKING:
    from datetime import datetime


def test_a_stream_is_called_by_its_name_and_told_by_its_kind() -> None:
    """The path of a subscription is long, and its last part is what its collection is called."""
    topic = Source("kafka", "sensor")
    subscription = Source("pubsub", "projects/p/subscriptions/orders")
    assert [stream_name(each) for each in (topic, subscription)] == ["sensor", "orders"]
    assert described_source(topic) == "kafka topic sensor"
    assert described_source(subscription) == "pubsub subscription projects/p/subscriptions/orders"
    assert described_source(Source("beam", "")) == "beam"


@pytest.mark.parametrize(
    ("instant", "text"),
    [
        (FIRST_INSTANT, "0001-01-01 00:00:00"),
        (at("10:30:00.999999"), "2026-11-22 10:30:00"),
        (LAST_INSTANT, "9999-12-31 23:59:59"),
    ],
)
def test_instants_are_as_wide_in_every_year(instant: datetime, text: str) -> None:
    """Fractions are left out, and the year 1 has four digits."""
    assert to_the_second(instant) == text
    assert described_instant(instant) == f"{text} UTC"
