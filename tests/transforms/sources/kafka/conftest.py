"""Both readers, for tests that each of them is to pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.services.extension import needed

if TYPE_CHECKING:
    from transforms.sources.kafka.reader_name import ReaderName


@pytest.fixture(params=["columnar", "portable"])
def reader(request: pytest.FixtureRequest) -> ReaderName:
    """Give each reader in turn."""
    return needed(request.param)


@pytest.fixture(params=["auto", pytest.param("portable", marks=pytest.mark.faults)])
def reader_flag(request: pytest.FixtureRequest) -> str:
    """Give the flag of a reader; of what is not taken by itself in ``make faults`` only."""
    return f"--reader={request.param}"
