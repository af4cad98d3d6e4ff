"""That the measurement of Kafka's readers runs, and reads by the one that it names."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.collecting import fill
from bench.kafka_readers import READERS, measure
from tests.services.extension import needed

if TYPE_CHECKING:
    from tests.services.kafka import KafkaBroker


@pytest.mark.integration
@pytest.mark.slow
def test_each_reader_reads_all_and_has_a_cost(kafka: KafkaBroker) -> None:
    """A topic of the size that is measured, but short."""
    topic = fill(kafka, 9_000)
    for reader in READERS:
        cost = measure(kafka.bootstrap_servers, topic, needed(reader))
        assert cost.cpu_microseconds > 0
        assert cost.microseconds > 0
