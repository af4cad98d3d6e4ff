"""The brokers that tests read from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipeline.embedded import EmbeddedBroker
from tests.services.kafka import KafkaBroker, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Start a real broker for all tests; skip, saying why, where it can't be had."""
    try:
        broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    except UnavailableError as error:
        pytest.skip(str(error))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """Start librdkafka's mock cluster for all tests."""
    with EmbeddedBroker() as broker:
        yield broker
