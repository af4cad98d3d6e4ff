"""Checkpoints that the collector makes: there when they are due, and mended at its start."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.checkpoints.checkpoint import listing_path, read_checkpoint, summary_path
from batch_collection.checkpoints.ranges import Range
from batch_collection.inspection.status import status
from batch_collection.paths import is_checkpoint
from batch_collection.storage.opening import open_storage
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, check, entries_of, sending, strays_of
from tests.logs import batches_by_entries, spans

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

TEN = timedelta(seconds=10)
WHOLE = [Range(0, 2), Range(3, 5), Range(6, 8), Range(0, 5)]


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let checkpoints be of 3 and 6 entries."""
    with spans(3, 2):
        yield


@pytest.fixture
def collecting(embedded: EmbeddedBroker, tmp_path: Path) -> Collecting:
    """Return a collector of nine cycles, with dead letters and an interval without messages."""
    collecting = Collecting.of(Stream(embedded), tmp_path, "--interval=10s", "--batch_size=4")
    for number in range(8):
        stamp = at("10:30:00") + number * TEN
        rows = [sending(stamp, n % 4, id=10 * number + n) for n in range(6 * (number != 4))]
        letters = [Sending(b"{", stamp)] * (number % 3 == 1)
        collecting.streams[0].send(*rows, *letters)
        assert len(collecting.once(stamp + 1.2 * TEN)) == 1
    return collecting


def test_a_collector_makes_them_as_it_goes(collecting: Collecting) -> None:
    """Every so many cycles; what is read with them is what all the entries say."""
    storage, entries = open_storage(str(collecting.path)), entries_of(collecting.path)
    there = {path for path in storage.list("log") if is_checkpoint(path)}
    found = status(storage)

    assert len(entries) == 9
    assert there == {path for span in WHOLE for path in (summary_path(span), listing_path(span))}
    assert list(batch_collection.open(storage)) == batches_by_entries(storage, entries)
    with spans(levels=0):
        assert found == status(storage)
    assert (found.totals.dead_letters, found.totals.empty_windows) == (3, 1)
    assert batch_collection.open(storage).table().num_rows == found.totals.rows == 42
    letters = [m for m in collecting.streams[0].produced if m.value == b"{"]
    check(collecting.path, collecting.streams[0].produced, dead=((m[0], m[1]) for m in letters))
    assert strays_of(collecting.path) == []


def test_a_start_mends_what_lacks(collecting: Collecting) -> None:
    """What is gone or damaged is there again, and is what it was."""
    storage = open_storage(str(collecting.path))
    whole = {path: storage.read(path) for path in storage.list("log") if is_checkpoint(path)}
    storage.delete([summary_path(WHOLE[2])])
    storage.replace(summary_path(WHOLE[3]), b"{}")

    collecting.take_up(at("10:31:30"))

    assert {path: storage.read(path) for path in whole} == whole
    assert all(read_checkpoint(storage, span) for span in WHOLE)
