"""What is registered from outside, by one line each, is collected with and read like our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.formats.known import FORMATS
from batch_collection.inspection.audit import audit
from batch_collection.storage.known import STORAGES
from batch_collection.storage.opening import open_storage
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, payloads_of, sending
from tests.toys import ArrowFile, MemoryStorage

if TYPE_CHECKING:
    from transforms.sources.kafka.embedded import EmbeddedBroker


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register what nobody knows; each passes the suite of its contract, too."""
    monkeypatch.setitem(STORAGES, "memory", MemoryStorage)
    monkeypatch.setitem(FORMATS, "arrow", ArrowFile())


def test_a_topic_is_collected_and_read_with_all_that_is_registered(
    embedded: EmbeddedBroker,
) -> None:
    """Over two cycles, with rows that wait, files of several windows and a dead letter."""
    stream = Stream(embedded)
    uri = f"memory://collected/{stream.name}"
    flags = ("--interval=10s", "--batch_size=3", "--output_format=arrow")
    collecting = Collecting.of(stream, "memory://collected", *flags)
    stream.send(*(sending(at(f"10:30:0{n}"), n % 4, id=n) for n in range(8)))
    collecting.once(at("10:30:09"))
    stream.send(Sending(b"{", at("10:30:12")), sending(at("10:30:13"), id=8))
    collecting.once(at("10:30:22"))

    found = batch_collection.open(uri)

    assert audit(open_storage(uri)).findings == ()
    batches = list(found)
    assert [batch.rows for batch in batches] == [3, 3, 2, 1]
    assert {batch.path.partition(".")[2] for batch in batches} == {"feather"}
    rows = payloads_of(found.table())
    assert sorted(row["id"] for row in rows.values()) == list(range(9))
    assert payloads_of(*(batch.table() for batch in batches)) == rows
    assert payloads_of(*found.to_arrow_batches(4, shuffle=7)) == rows
