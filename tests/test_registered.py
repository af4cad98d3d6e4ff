"""What is registered from outside, by one line each, is collected with and read like our own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.formats.known import FORMATS
from batch_collection.inspection.audit import audit
from batch_collection.storage.known import STORAGES
from batch_collection.storage.opening import open_storage
from pipeline import cli
from pipeline.options.sources import SOURCES
from tests import toy_decoder, toy_source
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, payloads_of, sending
from tests.toys import ArrowFile, MemoryStorage
from transforms.decoding.known import DECODERS

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """Register what nobody knows; each passes the suite of its contract, too."""
    monkeypatch.setitem(STORAGES, "memory", MemoryStorage)
    monkeypatch.setitem(FORMATS, "arrow", ArrowFile())
    monkeypatch.setitem(DECODERS, toy_decoder.NAME, toy_decoder.read_csv)
    monkeypatch.setattr("pipeline.options.sources.SOURCES", [*SOURCES, toy_source])


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


def test_source_decoder_format_and_storage_may_all_be_from_outside(tmp_path: Path) -> None:
    """Nothing of ours is left but what lies between them."""
    messages = [(at(f"10:30:0{n}"), b"a,%d\nb,%d" % (n, n)) for n in range(4)]
    toy_source.put(tmp_path, "stream", 0, *messages, (at("10:30:05"), b"no amount"))
    flags = ("--interval=10s", f"--input_format={toy_decoder.NAME}", "--output_format=arrow")
    where = (f"--folder={tmp_path}", "--streams=stream", "--output=memory://outside", "--once")

    assert cli.main(["collect", *where, *flags]) == 0

    assert audit(open_storage("memory://outside/stream")).findings == ()
    found = batch_collection.open("memory://outside/stream")
    rows = [(row["name"], row["amount"], row["_offset"]) for row in found.table().to_pylist()]
    assert sorted(rows) == sorted((name, n, n) for n in range(4) for name in "ab")
    assert [file.messages for file in found.newest.dead_letters] == [1]
