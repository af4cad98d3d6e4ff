"""What tests of views share: what there is of the collection that a test file has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import batch_collection

if TYPE_CHECKING:
    from batch_collection.collection import Collection
    from tests.tables import TableCollector


@pytest.fixture
def view(collector: TableCollector) -> Collection:
    """Return what there is."""
    return batch_collection.open(collector.storage)
