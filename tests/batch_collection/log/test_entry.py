"""Log entries: their bytes and back."""

from __future__ import annotations

import json
import re
from dataclasses import MISSING
from dataclasses import fields as fields_of
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import LogError
from batch_collection.log.entry import (
    FORMAT,
    BatchFile,
    CarryFile,
    DeadLetterFile,
    Entry,
    Pane,
    PartitionRead,
    Source,
)
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, dead_letter, message

if TYPE_CHECKING:
    from pathlib import Path

INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis wants it naive
    timezones=st.just(timezone.utc),
)
COUNTS = st.integers(0, 2**63 - 1)
TEXTS = st.text(max_size=8)


def paths(folder: str) -> st.SearchStrategy[str]:
    """Return paths below a folder."""
    parts = st.text(max_size=8).filter(lambda part: not {"/", "\0"} & {*part}).map("x".__add__)
    return st.lists(parts, min_size=1, max_size=3).map(lambda found: "/".join([folder, *found]))


READS = st.builds(PartitionRead, *[COUNTS] * 9, max_time=st.none() | INSTANTS)


def tuples(strategy: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[object, ...]]:
    """Return short tuples."""
    return st.lists(strategy, max_size=3).map(tuple)


FILES = st.builds(
    BatchFile,
    *(paths("data"), paths("staging"), COUNTS, COUNTS, TEXTS, INSTANTS, INSTANTS),
    offsets=st.dictionaries(COUNTS, st.tuples(COUNTS, COUNTS, COUNTS), max_size=3),
)
PANES = st.builds(
    Pane,
    *(INSTANTS, INSTANTS, st.sampled_from(["early", "on_time", "late"]), COUNTS),
    files=tuples(FILES),
    earlier=tuples(COUNTS),
)
ENTRIES = st.builds(
    Entry,
    cycle=COUNTS,
    run=TEXTS,
    plan=TEXTS,
    previous=st.none() | TEXTS,
    host=TEXTS,
    pid=COUNTS,
    committed_at=INSTANTS,
    source=st.builds(Source, TEXTS, TEXTS, st.none() | TEXTS, st.none() | TEXTS),
    interval=st.timedeltas(timedelta(milliseconds=1), timedelta(days=100)),
    row_time=TEXTS,
    cause=TEXTS,
    boundary=st.none() | INSTANTS,
    reads=tuples(READS),
    panes=tuples(PANES),
    closed_empty=tuples(st.tuples(INSTANTS, INSTANTS)),
    open=st.dictionaries(INSTANTS, tuples(COUNTS), max_size=3),
    forgotten=st.none() | INSTANTS,
    unsure=st.none() | INSTANTS,
    carry=tuples(st.builds(CarryFile, paths("carry"), INSTANTS, COUNTS, COUNTS, COUNTS, TEXTS)),
    released=tuples(paths("carry")),
    dead_letters=tuples(
        st.builds(DeadLetterFile, paths("dead_letters"), paths("staging"), COUNTS, COUNTS, TEXTS)
    ),
    redriven=tuples(paths("dead_letters")),
    became=tuples(READS),
    pinned=tuples(TEXTS),
    dropped=st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=2), max_size=3),
    layout=TEXTS,
    headers=TEXTS,
    fold=TEXTS,
    format=st.integers(1, FORMAT),
    schema=st.dictionaries(TEXTS, TEXTS | st.lists(TEXTS, max_size=2), max_size=3),
)


@given(ENTRIES)
def test_entries_round_trip(entry: Entry) -> None:
    """Whatever is in them; and the same entry has the same bytes."""
    content = entry.to_json()

    assert Entry.from_json(content) == entry
    assert Entry.from_json(content).to_json() == content


KEPT = (
    *("source", "interval", "row_time", "start", "boundary", "open", "carry", "schema", "dropped"),
    *("forgotten", "unsure", "layout", "headers", "fold", "format"),
)
NEW = {
    **dict.fromkeys(("run", "plan", "host", "cause"), "new"),
    "pid": 7,
    "committed_at": datetime(2026, 11, 22, tzinfo=timezone.utc),
}


@given(ENTRIES)
def test_an_entry_that_follows_has_only_what_is_kept(entry: Entry) -> None:
    """Every field is carried over by name, said anew, or what it is in an entry of nothing."""
    after = entry.following("digest", **NEW)

    for field in fields_of(Entry):
        found = getattr(after, field.name)
        if field.name in KEPT:
            assert found == getattr(entry, field.name)
        elif field.name in NEW:
            assert found == NEW[field.name]
        elif field.name not in {"cycle", "previous", "reads"}:
            assert found == (field.default if field.default is not MISSING else {})
    assert (after.cycle, after.previous) == (entry.cycle + 1, "digest")
    assert [(read.partition, read.start, read.end) for read in after.reads] == [
        (read.partition, read.end, read.end) for read in entry.reads
    ]


@pytest.fixture
def fields(tmp_path: Path) -> dict[str, object]:
    """Return the JSON of an entry with a bit of everything."""
    collector = Collector(LocalStorage(str(tmp_path)))
    entry = collector.collect(
        message(0), dead_letter(1), message(2, "10:31:00"), boundary="10:31:00"
    )
    return dict(json.loads(entry.to_json()))


def test_an_entry_is_plain_json(fields: dict[str, object]) -> None:
    """Instants are RFC 3339, the interval is in seconds: any tool can read it."""
    assert fields["interval_seconds"] == 60.0
    assert fields["boundary"] == "2026-11-22T10:31:00Z"
    assert fields["format"] == 1


def test_a_subscription_is_called_one(fields: dict[str, object]) -> None:
    """And what the first version with Pub/Sub wrote of one is read."""
    path, topic = "projects/p/subscriptions/s", "projects/p/topics/t"
    plain = {"kind": "pubsub", "subscription": path, "topic": topic}
    older = {"kind": "pubsub", "topic": path, "topic_id": topic, "cluster_id": None}
    for source in (plain, older):
        entry = Entry.from_json(json.dumps({**fields, "source": source}).encode())
        assert entry.source == Source("pubsub", path, topic)
        assert json.loads(entry.to_json())["source"] == plain


def test_unknown_fields_are_ignored(fields: dict[str, object]) -> None:
    """A reader of today reads what a later version adds."""
    expected = Entry.from_json(json.dumps(fields).encode())
    fields["later"] = {"x": 1}
    fields["reads"] = [{**read, "later": 1} for read in fields["reads"]]  # type: ignore[attr-defined]
    fields["source"]["later"] = 1  # type: ignore[index]

    assert Entry.from_json(json.dumps(fields).encode()) == expected


def test_a_newer_format_is_refused(fields: dict[str, object]) -> None:
    """With the cure."""
    fields["format"] = 3

    with pytest.raises(LogError, match=re.escape("format=3, this version reads up to 2; update")):
        Entry.from_json(json.dumps(fields).encode())


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[]", b"{}", b'{"format": "1"}', b"\xff", b"null", b"[" * 9999]
)
def test_what_is_no_entry_is_said_to_be_none(content: bytes) -> None:
    """One clear error, whatever the bytes."""
    with pytest.raises(LogError, match="not a log entry"):
        Entry.from_json(content)


OUTSIDE = ["../a", "data/../../a", "/etc/a", "", "data", "data/", "log/a", "data//a", "data/./a", 7]


@pytest.mark.parametrize("path", OUTSIDE)
@pytest.mark.parametrize("name", ["path", "staged", "carry", "released", "letters", "redriven"])
def test_a_path_that_leads_out_of_its_folder_is_refused(
    fields: dict[str, Any], name: str, path: object
) -> None:
    """What it names would be moved, or deleted."""
    if name in {"path", "staged"}:
        fields["panes"][0]["files"][0][name] = path
    elif name in {"carry", "letters"}:
        fields["carry" if name == "carry" else "dead_letters"][0]["path"] = path
    else:
        fields[name] = [path]

    with pytest.raises(LogError, match=re.escape(f"it names {path!r}, which is no path below")):
        Entry.from_json(json.dumps(fields).encode())


def test_moves_name_every_file_to_publish(tmp_path: Path) -> None:
    """Batches and dead letters, staged path first."""
    entry = Collector(LocalStorage(str(tmp_path))).collect(
        message(0), dead_letter(1), boundary="10:31:00"
    )

    assert entry.moves == (
        (entry.files[0].staged, entry.files[0].path),
        (entry.dead_letters[0].staged, entry.dead_letters[0].path),
    )
