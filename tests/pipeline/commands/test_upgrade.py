"""``upgrade``: a collection of an older format goes on as it was begun, under the newest format."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

import batch_collection
from batch_collection.errors import LogError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import create_entry, digest
from batch_collection.log.entry import FORMAT, FORMS, Entry
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, check, dead_letters_of, entries_of

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

NAMED: Any = {"run": "r", "plan": "p", "host": "h", "pid": 1, "committed_at": at("04:40:00")} | {
    "cause": "interval"
}
TWICE: Any = [("trace", b"1"), ("trace", b"2")]


def value(number: int, clock: str) -> Sending:
    """Return a message with a header whose name stands twice."""
    return Sending(b'{"value": %d}' % number, at(clock), headers=TWICE)


@pytest.fixture
def older(embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collecting:
    """Begin a collection of format 1 with a batch, carry and a dead letter."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--metadata=full")
    stream.send(value(1, "04:30:00"), value(2, "04:30:11"), Sending(b"{", at("04:30:01")))
    with monkeypatch.context() as patch:
        patch.setattr("pipeline.planning.pins.FORMAT", 1)
        collecting.once(at("04:30:13"))
    assert {entry.format for entry in entries_of(collecting.path)} == {1}
    return collecting


def headers_of(path: Path) -> list[pa.DataType]:
    """Return the types of the headers in files, oldest file first."""
    schemas = [pq.read_schema(file) for file in sorted(path.rglob("*.parquet"))]
    return [schema.field("_headers").type for schema in schemas]


@pytest.mark.parametrize("upgraded", [False, True])
def test_an_older_collection_goes_on_as_it_was_begun(older: Collecting, upgraded: bool) -> None:  # noqa: FBT001
    """Its paths, its headers and its carry stay alike, whether it is upgraded or not."""
    if upgraded:
        assert cli.main(["upgrade", str(older.path)]) == 0
    (stream,) = older.streams
    stream.send(value(3, "04:30:12"), Sending(b"[", at("04:30:12"), headers=TWICE))

    older.once(at("04:30:23"))
    stream.send(value(4, "04:30:35"))
    older.once(at("04:30:36"))

    entries = entries_of(older.path)
    assert [entry.format for entry in entries[:2]] == [1, 1]
    assert {entry.format for entry in entries[2:]} == {FORMAT if upgraded else 1}
    assert {entry.form for entry in entries} == {FORMS[1]}
    files = [batch.path for batch in batch_collection.open(older.path)]
    assert all("/window_hour=04/" in file for file in files)
    assert headers_of(older.path / "data") == [pa.map_(pa.string(), pa.binary())] * 2
    (waiting,) = (older.path / file.path for file in entries[-1].carry)
    with pa.ipc.open_stream(waiting) as carry:
        assert carry.schema.field("headers").type == pa.map_(pa.string(), pa.binary())
    letters = dead_letters_of(older.path)
    assert [letter["headers"] for letter in letters.values()] == [None, TWICE]
    check(older.path, stream.produced, dead=list(letters))


def test_it_is_upgraded_once(older: Collecting, capsys: pytest.CaptureFixture[str]) -> None:
    """By an entry that reads nothing; the second time there is nothing to do."""
    before = entries_of(older.path)

    assert cli.main(["upgrade", str(older.path)]) == 0
    assert cli.main(["upgrade", str(older.path)]) == 0

    *same, entry = entries_of(older.path)
    first, _, second = capsys.readouterr().out.splitlines()
    assert same == before
    assert (entry.cause, entry.format, entry.is_maintenance) == ("upgrade", FORMAT, True)
    assert entry.carry == before[-1].carry
    assert first.startswith(f"cycle {entry.cycle}: {older.path} is of format {FORMAT} from now on")
    assert second == f"nothing to upgrade: {older.path} is of format {FORMAT} already"
    assert audit(LocalStorage(str(older.path))).findings == ()


def test_a_format_that_goes_back_is_found(older: Collecting) -> None:
    """Programs that know less refuse the log; so does an audit the entry of one."""
    cli.main(["upgrade", str(older.path)])
    storage, newest = LocalStorage(str(older.path)), entries_of(older.path)[-1]
    behind = newest.following(digest(newest.to_json()), **NAMED, format=1, headers="list")

    create_entry(storage, behind)

    found = [finding.partition(": ")[2] for finding in audit(storage).findings]
    assert found == [
        "the format went back, it was 2 before",
        "headers differs from that of the entry before",
    ]


def test_a_program_that_knows_less_says_update(
    older: Collecting, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As an older version does that meets the entry."""
    cli.main(["upgrade", str(older.path)])
    content = entries_of(older.path)[-1].to_json()
    monkeypatch.setattr("batch_collection.log.entry.FORMAT", FORMAT - 1)

    with pytest.raises(LogError, match=re.escape(f"format={FORMAT}, this version reads up to 1")):
        Entry.from_json(content)
