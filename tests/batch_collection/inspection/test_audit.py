"""Audit: every damage is found, and a collection that is well is said to be."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any, cast

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import example, given, settings

from batch_collection.errors import LogError
from batch_collection.inspection.audit import PUBLISHING, audit
from batch_collection.log.chain import check_link
from batch_collection.log.entries import read_entry
from batch_collection.log.entry import PartitionRead, Source
from batch_collection.paths import entry_path, manifest_path
from batch_collection.publishing.append import append, successor
from batch_collection.publishing.manifest import manifest_of
from batch_collection.publishing.publish import publish, unpublished
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import format_instant
from pipeline.showing.verdict import verdict
from tests.builders import TOPIC, Collector, at, dead_letter, message, tombstone
from tests.damage import forge
from tests.lives import LIVES, Life, Step, panes_by_window
from tests.logs import spans
from tests.storages import BusyStorage, file_crc32c

if TYPE_CHECKING:
    from batch_collection.log.entry import BatchFile, CarryFile, DeadLetterFile, Entry
    from batch_collection.storage.contract import Storage
    from tests.builders import Message


START = (PartitionRead(0, 7, 7), PartitionRead(1, 0, 0))


SUBSCRIPTION = Source("pubsub", "projects/p/subscriptions/s")


def named(id_: str, one: Message) -> Message:
    """Return a message with an id."""
    return replace(one, id=id_)


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with all kinds of things behind it, three entries after the first."""
    return filled(Collector(LocalStorage(str(tmp_path / "collection"))))


def filled(collector: Collector) -> Collector:
    """Collect early, on-time and late panes, arrays over windows, dead letters, carry."""
    collector.start((0, 1))
    collector.collect(
        message(0, "10:30:00", "10:30:59", "10:31:00"),
        *(message(offset, "10:30:10") for offset in range(1, 8)),
        dead_letter(8),
        tombstone(9),
        message(0, partition=1),
    )
    collector.collect(message(10, "10:31:20"), boundary="10:31:00")
    collector.collect(
        message(11, "10:30:20"), message(12, "10:32:20"), dead_letter(13), boundary="10:32:00"
    )
    return collector


def findings(collector: Collector) -> list[str]:
    """Audit it."""
    return list(audit(collector.storage).findings)


def on_disk(collector: Collector, path: str) -> Path:
    """Return where a file lies."""
    return Path(collector.storage.uri, path)


def entry_of(collector: Collector, cycle: int) -> Entry:
    """Return an entry."""
    return read_entry(collector.storage, cycle)


@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
@pytest.mark.parametrize("metadata", ["position", "none"])
@pytest.mark.parametrize("source", [TOPIC, SUBSCRIPTION])
def test_a_sound_collection_has_no_findings(
    tmp_path: Path, file_format: str, metadata: str, source: Source
) -> None:
    """In all formats; without metadata columns offsets or ids can't be checked, and it says so."""
    collector = Collector(
        LocalStorage(str(tmp_path)), format=file_format, metadata=metadata, source=source
    )
    found = audit(filled(collector).storage)

    assert found.findings == ()
    assert (found.counts.entries, found.counts.rows, found.counts.carried_rows) == (4, 13, 1)
    assert (found.counts.messages, found.counts.dead_letters) == (15, 2)
    assert found.counts.positions_checked == (metadata == "position")
    assert found.counts.has_ids == (source == SUBSCRIPTION)
    place = ("offset", "_offset") if source == TOPIC else ("message id", "_message_id")
    told = "{0}s not checked, some files have no {1}"
    told = "every {0} in one place" if metadata == "position" else told
    assert verdict(found)[-1].endswith(told.format(*place))


def test_an_entry_that_is_not_published_yet_is_no_finding(collector: Collector) -> None:
    """Its files lie where they were staged, its manifests are to come: for some minutes."""
    entry = collector.collect(
        message(14, "10:32:30"), dead_letter(15), boundary="10:33:00", published=False
    )
    found = audit(collector.storage, entry.committed_at + PUBLISHING)
    assert (found.findings, found.counts.unpublished_files) == ((), 2)

    later = audit(collector.storage, entry.committed_at + 2 * PUBLISHING)
    (finding,) = later.findings
    assert finding == (
        f"{entry_path(entry.cycle)}: committed, not visible: files=2, such as "
        f"{entry.files[0].path}; start its collector, which moves them there"
    )
    publish(collector.storage, entry)
    assert findings(collector) == []


def test_a_file_that_is_moved_by_a_copy_is_visible_before_the_other_is_deleted(
    collector: Collector,
) -> None:
    """As in a bucket: for a while it is at both of its names."""
    entry = collector.collect(message(14, "10:32:30"), boundary="10:33:00", published=False)
    (file,) = entry.files
    publish(collector.storage, entry)
    collector.storage.replace(file.staged, collector.storage.read(file.path))
    assert unpublished(collector.storage, entry) == ()
    collector.storage.delete([file.path])
    assert unpublished(collector.storage, entry) == (file.path,)


@pytest.mark.parametrize("every", range(1, 60))
def test_a_collector_that_goes_on_writing_is_no_finding(collector: Collector, every: int) -> None:
    """Whenever it commits and publishes, and carry that was just named is removed."""
    assert collector.newest is not None
    offset = iter(range(14, 1000))
    left = iter(range(20))

    def collect() -> None:
        if next(left, None) is not None:
            late, now = message(next(offset), "10:30:30"), message(next(offset), "10:40:00")
            collector.collect(late, now, dead_letter(next(offset)))

    busy = BusyStorage(collector.storage, collect, every)

    assert audit(cast("Storage", busy)).findings == ()
    assert busy.calls > 20


@pytest.mark.parametrize("every", range(1, 30))
def test_an_entry_published_while_it_is_audited_is_no_finding(
    collector: Collector, every: int
) -> None:
    """Files move from staged to visible under the audit."""
    entry = collector.collect(
        message(14, "10:32:30"), dead_letter(15), boundary="10:33:00", published=False
    )
    busy = BusyStorage(collector.storage, lambda: publish(collector.storage, entry), every)

    assert audit(cast("Storage", busy), entry.committed_at).findings == ()


def test_there_must_be_a_collection(tmp_path: Path) -> None:
    """An empty folder is none."""
    with pytest.raises(LogError, match="no collection in"):
        audit(LocalStorage(str(tmp_path)))


# files


def test_a_deleted_file_is_found(collector: Collector) -> None:
    """By name, and nothing else is said."""
    path = entry_of(collector, 1).files[0].path
    on_disk(collector, path).unlink()

    assert findings(collector) == [f"{path} is missing"]


def test_a_deleted_dead_letter_file_is_found(collector: Collector) -> None:
    """Dead letters are kept as well as rows."""
    path = entry_of(collector, 1).dead_letters[0].path
    on_disk(collector, path).unlink()

    assert findings(collector) == [f"{path} is missing"]


@pytest.mark.parametrize("place", [0, 100, -1])
def test_a_flipped_byte_is_found(collector: Collector, place: int) -> None:
    """Wherever it is."""
    file = entry_of(collector, 1).files[0]
    content = bytearray(on_disk(collector, file.path).read_bytes())
    content[place] ^= 1
    on_disk(collector, file.path).write_bytes(content)

    (finding,) = findings(collector)
    assert finding.startswith(f"{file.path} has {file.bytes} bytes with crc32c=")
    assert finding.endswith(f"the log says {file.bytes} with {file.crc32c}")


def test_a_file_replaced_by_another_is_found(collector: Collector) -> None:
    """Even by one of the same collection."""
    first, second, *_ = entry_of(collector, 1).files
    on_disk(collector, first.path).write_bytes(on_disk(collector, second.path).read_bytes())

    (finding,) = findings(collector)
    assert finding.startswith(f"{first.path} has ")


@pytest.mark.parametrize("folder", ["data", "dead_letters", "windows"])
def test_an_added_file_is_found(collector: Collector, folder: str) -> None:
    """Nothing lies among the data that no entry names."""
    path = f"{folder}/window_date=2026-11-22/extra.parquet"
    on_disk(collector, path).parent.mkdir(parents=True, exist_ok=True)
    on_disk(collector, path).write_bytes(b"")

    assert findings(collector) == [f"{path} is in no entry"]


def test_a_staged_file_of_a_past_cycle_is_no_batch(collector: Collector) -> None:
    """A file of an older entry that lies where it was staged is not visible: found."""
    file = entry_of(collector, 1).files[0]
    on_disk(collector, file.staged).parent.mkdir(parents=True)
    on_disk(collector, file.path).rename(on_disk(collector, file.staged))

    assert findings(collector) == [
        f"{file.path} is committed, not visible: it lies at {file.staged}"
    ]


def test_lost_carry_is_found(collector: Collector) -> None:
    """Rows that wait are as much a promise as batches."""
    (carry,) = entry_of(collector, 3).carry
    on_disk(collector, carry.path).unlink()

    assert findings(collector) == [f"{carry.path} is missing, rows that wait were in it"]


def test_changed_carry_is_found(collector: Collector) -> None:
    """By its checksum."""
    (carry,) = entry_of(collector, 3).carry
    on_disk(collector, carry.path).write_bytes(b"x")

    assert findings(collector) == [f"{carry.path} is not what the log says: it was changed"]


def test_a_missing_manifest_is_found(collector: Collector) -> None:
    """Once the next entry is there, it must be."""
    path = manifest_path(at("10:30:00"), 1)
    on_disk(collector, path).unlink()

    assert findings(collector) == [f"{path} is missing"]


def test_an_edited_manifest_is_found(collector: Collector) -> None:
    """It is derived from the log, and must say the same."""
    path = manifest_path(at("10:30:00"), 1)
    manifest = json.loads(on_disk(collector, path).read_bytes())
    on_disk(collector, path).write_text(json.dumps({**manifest, "rows": 7}))

    assert findings(collector) == [f"{path} does not agree with {entry_path(2)}"]


def test_a_torn_manifest_is_found(collector: Collector) -> None:
    """As is one that is no JSON at all."""
    path = manifest_path(at("10:30:00"), 1)
    on_disk(collector, path).write_bytes(b'{"rows"')

    assert findings(collector) == [f"{path} is no manifest: it was cut short or changed"]


# the log


def test_an_edited_entry_is_found(collector: Collector) -> None:
    """The next one's hash tells, whatever was changed."""
    path = on_disk(collector, entry_path(1))
    path.write_bytes(path.read_bytes().replace(b'"host": "test"', b'"host": "tset"'))

    assert findings(collector) == [
        f"{entry_path(2)} does not follow the entry before it: one of them was changed"
    ]


def test_an_edited_first_entry_is_found(collector: Collector) -> None:
    """Its successor knows its hash."""
    path = on_disk(collector, entry_path(0))
    path.write_bytes(path.read_bytes() + b"\n")

    assert findings(collector) == [
        f"{entry_path(1)} does not follow the entry before it: one of them was changed"
    ]


def test_a_newest_entry_edited_in_its_numbers_is_found(collector: Collector) -> None:
    """No hash tells yet, the files do."""
    path = on_disk(collector, entry_path(3))
    path.write_bytes(path.read_bytes().replace(b'"rows": 1,', b'"rows": 2,', 1))

    assert findings(collector)


@pytest.mark.parametrize("cycle", [0, 1, 2])
def test_a_removed_entry_is_found(collector: Collector, cycle: int) -> None:
    """A hole in the numbers; what it named is in no entry any more."""
    on_disk(collector, entry_path(cycle)).unlink()

    assert f"{entry_path(cycle)} is missing, though later entries are there" in findings(collector)


def test_a_removed_newest_entry_is_found(collector: Collector) -> None:
    """By the files that it had published."""
    files = entry_of(collector, 3).files
    on_disk(collector, entry_path(3)).unlink()

    found = findings(collector)
    assert {f"{file.path} is in no entry" for file in files} <= set(found)


def test_two_entries_swapped_are_found(collector: Collector) -> None:
    """Each knows its number."""
    first, second = (on_disk(collector, entry_path(cycle)) for cycle in (1, 2))
    one, other = first.read_bytes(), second.read_bytes()
    first.write_bytes(other)
    second.write_bytes(one)

    found = findings(collector)
    assert f"{entry_path(1)} holds the entry of cycle=2" in found
    assert f"{entry_path(2)} holds the entry of cycle=1" in found


def test_an_entry_that_is_none_is_found(collector: Collector) -> None:
    """Torn, or of another program."""
    on_disk(collector, entry_path(1)).write_bytes(b"{")

    assert any(f"{entry_path(1)}: not a log entry" in finding for finding in findings(collector))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"row_time": "field:t"}, "row_time differs from that of the entry before"),
        (
            {"boundary": at("10:29:00")},
            "the boundary went back, it was 2026-11-22T10:31:00Z before",
        ),
        ({"panes": ()}, "2 waiting and 2 new rows became 0 in batches and 1 waiting"),
        ({"reads": ()}, "partition=1 is not in the reads any more"),
    ],
)
def test_entries_that_do_not_fit_are_found(
    collector: Collector, changes: dict[str, Any], expected: str
) -> None:
    """A chain of hashes that is whole proves nothing about what stands in it."""
    forge(collector, 3, **changes)

    assert f"{entry_path(3)}: {expected}" in findings(collector)


@pytest.mark.parametrize(
    ("cycle", "changes", "said"),
    [
        (1, {"interval": timedelta(seconds=10), "row_time": "field:ts", "reads": START}, None),
        (1, {"source": Source("kafka", "other"), "reads": START}, "source differs"),
        (1, {}, "it begins the collection anew, and collects something"),
        (2, {"reads": START}, "it begins the collection anew, though the entry before it holds"),
    ],
)
def test_only_a_collection_that_holds_nothing_is_begun_anew(
    collector: Collector, cycle: int, changes: dict[str, Any], said: str | None
) -> None:
    """Then all but its source may be pinned again, and reading may start elsewhere."""
    before, entry = entry_of(collector, cycle - 1), entry_of(collector, cycle)
    if changes:
        nothing: dict[str, Any] = dict.fromkeys(("panes", "carry", "dead_letters"), ())
        entry = replace(entry, **nothing, **changes)
    found = list(check_link(replace(entry, cause="start"), before))
    told = [] if said is None else [f"{entry_path(cycle)}: {said}"]
    assert [finding[: len(told[0])] if told else finding for finding in found] == told


def test_reads_that_do_not_meet_are_found(collector: Collector) -> None:
    """A gap between two entries is a loss."""
    first, second = entry_of(collector, 3).reads
    forge(collector, 3, reads=(replace(first, start=12), second))

    expected = "partition=0 is read from offset=12, but the entry before ended at 11"
    assert f"{entry_path(3)}: {expected}" in findings(collector)


def test_more_messages_than_offsets_are_found(collector: Collector) -> None:
    """Each offset is one message at most."""
    first, second = entry_of(collector, 3).reads
    forge(collector, 3, reads=(replace(first, messages=4), second))

    expected = "partition=0 has more messages than offsets"
    assert f"{entry_path(3)}: {expected}" in findings(collector)


# rows


def test_a_row_in_two_places_is_found(collector: Collector) -> None:
    """The same message collected twice, with the files it may be in."""
    collector.collect(message(1, "10:33:10"), boundary="10:34:00")
    again = collector.newest
    assert again is not None

    (finding,) = [one for one in findings(collector) if "more than one place" in one]
    assert finding.startswith("partition=0: rows of offsets 1 to 1 are in more than one place: see")
    assert again.files[-1].path in finding


def test_a_message_that_is_row_and_dead_letter_is_found(collector: Collector) -> None:
    """It is one or the other."""
    collector.collect(dead_letter(1))

    assert any("rows of offsets 1 to 1 are in more than" in one for one in findings(collector))


@pytest.mark.parametrize("metadata", ["position", "none"])
def test_an_id_in_two_places_is_found(tmp_path: Path, metadata: str) -> None:
    """Each way, at whatever address; without metadata those that wait and dead letters tell it."""
    collector = Collector(LocalStorage(str(tmp_path)), metadata=metadata, source=SUBSCRIPTION)
    first = collector.collect(
        named("7", message(0, "10:30:00")),
        named("8", message(1, "10:30:10", "10:30:20")),  # rows of an array share theirs
        named("a", message(2, "10:32:10")),  # waits
        named("07", dead_letter(3)),
        named("x", message(4, "10:30:40")),
        boundary="10:31:00",
    )
    again = collector.collect(
        named("7", message(5, "10:30:00")),
        named("a", dead_letter(6)),
        named("07", message(7, "10:32:10")),
        named("y", message(8, "10:30:40")),
        named(f"{2**64}", message(9, "10:30:40")),
        boundary="10:31:00",
    )

    found = findings(collector)

    (waits,), (letters,), (before,) = again.carry, again.dead_letters, first.dead_letters
    expected: dict[str, list[BatchFile | CarryFile | DeadLetterFile]] = {
        "7": [first.files[0], again.files[0]],
        "'a'": [waits, letters],
        "'07'": [waits, before],
    }
    if metadata == "none":
        del expected["7"]
    assert len(found) == len(expected)
    for id_, files in expected.items():
        told = f"rows of message id {id_} are in more than one place: see "
        (finding,) = (each for each in found if each.startswith(told))
        assert {file.path for file in files} <= {*finding.removeprefix(told).split(", ")}


def test_columns_that_messages_gave_are_no_positions(tmp_path: Path) -> None:
    """Without metadata they may have any name."""
    collector = Collector(LocalStorage(str(tmp_path)), metadata="none")
    given = {"_partition": 7, "_offset": 7, "_message_id": "7"}
    rows = [replace(message(each), columns=given) for each in range(4)]
    collector.collect(*rows, boundary="10:31:00")

    found = audit(collector.storage)

    assert found.findings == ()
    assert not found.counts.positions_checked


@pytest.mark.parametrize("source", [TOPIC, SUBSCRIPTION])
def test_rows_that_are_nowhere_are_found_by_their_number(tmp_path: Path, source: Source) -> None:
    """Where files do not tell their positions, rows are counted, as the log says they came."""
    metadata = "position" if source == SUBSCRIPTION else "none"
    collector = filled(Collector(LocalStorage(str(tmp_path)), metadata=metadata, source=source))
    entry = entry_of(collector, 1)
    pane = entry.panes[0]
    forge(collector, 1, panes=(replace(pane, rows=4, files=pane.files[:1]),))
    on_disk(collector, pane.files[1].path).unlink()

    found = findings(collector)
    assert any(
        one.startswith("partition=0: ") and "rows should be in batches" in one for one in found
    )


def test_a_message_that_is_nowhere_is_found(collector: Collector) -> None:
    """Counted in the reads, in no file."""
    entry = entry_of(collector, 1)
    pane = entry.panes[0]
    forge(collector, 1, panes=(replace(pane, rows=4, files=pane.files[:1]),))
    on_disk(collector, pane.files[1].path).unlink()

    found = findings(collector)
    assert any("messages should be in batches, carry or dead letters" in one for one in found)


def test_an_array_message_that_is_torn_is_found(tmp_path: Path) -> None:
    """Its second row is there, its first is not; its message is counted all the same."""
    collector = Collector(LocalStorage(str(tmp_path)))
    entry = collector.collect(message(0, "10:30:00", "10:31:00"), boundary="10:32:00")
    first, second = entry.panes
    forge(collector, 1, panes=(replace(first, rows=0, files=()), second))

    assert "partition=0: some rows of offsets 0 to 0 are nowhere" in findings(collector)


def test_dead_letters_that_are_not_there_are_found(collector: Collector) -> None:
    """The account says more than the files hold."""
    first, second = entry_of(collector, 1).reads
    forge(collector, 1, reads=(replace(first, dead_letters=2), second))

    assert "partition=0: 2 dead letters are there, the log says 3" in findings(collector)


def test_offsets_outside_the_reads_are_found(collector: Collector) -> None:
    """A file may hold only what was read by then."""
    entry = collector.collect(message(14, "10:32:30"), boundary="10:33:00")
    first, second = entry.reads
    forge(collector, 4, reads=(replace(first, end=first.start, messages=0), second))

    path = entry.files[0].path
    expected = f"{path} holds offsets 12 to 14 of partition=0, read were 0 to 13"
    assert expected in findings(collector)


def test_a_partition_that_was_never_read_is_found(collector: Collector) -> None:
    """A file of a topic's other partition."""
    entry = collector.collect(message(0, "10:33:10", partition=7), boundary="10:34:00")

    expected = f"{entry.files[-1].path} holds partition=7, which was never read"
    assert expected in findings(collector)


def test_rows_of_another_window_are_found(collector: Collector) -> None:
    """By the row times that the entry gives."""
    pane = entry_of(collector, 1).panes[0]
    file = replace(pane.files[0], max_time=at("10:31:00"))
    forge(collector, 1, panes=(replace(pane, files=(file, *pane.files[1:])),))

    expected = f"{file.path} holds row times from 2026-11-22T10:30:00Z to 2026-11-22T10:31:00Z"
    assert any(one.startswith(expected) for one in findings(collector))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"rows": 5}, "has 4 rows, the log says 5"),
        ({"offsets": {0: (0, 99, 4)}}, "holds other offsets than the log says"),
    ],
)
def test_a_file_that_differs_from_its_entry_is_found(
    collector: Collector, changes: dict[str, Any], expected: str
) -> None:
    """Rows and offsets are counted in the file itself."""
    pane = entry_of(collector, 1).panes[0]
    file = replace(pane.files[0], **changes)
    forge(collector, 1, panes=(replace(pane, files=(file, *pane.files[1:])),))

    assert f"{file.path} {expected}" in findings(collector)


def test_a_pane_whose_rows_do_not_add_up_is_found(collector: Collector) -> None:
    """Its files are what counts."""
    pane = entry_of(collector, 1).panes[0]
    forge(collector, 1, panes=(replace(pane, rows=9),))

    expected = f"{entry_path(1)}: window 2026-11-22T10:30:00Z has 9 rows, its files have others"
    assert expected in findings(collector)


def test_a_file_that_is_no_parquet_is_found(collector: Collector) -> None:
    """Even when size and checksum are those of the log."""
    pane = entry_of(collector, 1).panes[0]
    path = pane.files[0].path
    on_disk(collector, path).write_bytes(b"no parquet")
    size, checksum = file_crc32c(collector.storage, path)
    file = replace(pane.files[0], bytes=size, crc32c=checksum)
    forge(collector, 1, panes=(replace(pane, files=(file, *pane.files[1:])),))

    assert any(one.startswith(f"{path} cannot be read: ") for one in findings(collector))


def test_carry_with_other_rows_is_found(collector: Collector) -> None:
    """Rows are counted there, too."""
    (carry,) = entry_of(collector, 3).carry
    forge(collector, 3, carry=(replace(carry, rows=2),))

    assert f"{carry.path} has 1 rows, the log says 2" in findings(collector)


def test_dead_letters_with_other_rows_are_found(collector: Collector) -> None:
    """And there."""
    (letters,) = entry_of(collector, 1).dead_letters
    forge(collector, 1, dead_letters=(replace(letters, messages=2),))

    assert f"{letters.path} has 1 messages, the log says 2" in findings(collector)


def test_carry_that_is_no_arrow_is_found(collector: Collector) -> None:
    """Even when size and checksum are those of the log."""
    (carry,) = entry_of(collector, 3).carry
    on_disk(collector, carry.path).write_bytes(b"no arrow")
    size, checksum = file_crc32c(collector.storage, carry.path)
    forge(collector, 3, carry=(replace(carry, bytes=size, crc32c=checksum),))

    assert any(one.startswith(f"{carry.path} cannot be read: ") for one in findings(collector))


def test_a_dead_letter_file_without_offsets_is_found(collector: Collector) -> None:
    """A file of another kind in its place."""
    (letters,) = entry_of(collector, 1).dead_letters
    pq.write_table(pa.table({"error": ["x"]}), on_disk(collector, letters.path))
    size, checksum = file_crc32c(collector.storage, letters.path)
    forge(collector, 1, dead_letters=(replace(letters, bytes=size, crc32c=checksum),))

    assert any(one.startswith(f"{letters.path} cannot be read: ") for one in findings(collector))


# dead letters that were redriven


def redriven(collector: Collector, **changes: Any) -> Entry:
    """Commit what a redrive of the first dead letter to a dead letter again would."""
    before = collector.newest
    assert before is not None
    (first,) = read_entry(collector.storage, 1).dead_letters
    (again,) = collector.plan(dead_letter(8)).dead_letters
    became = PartitionRead(0, 8, 9, messages=1, dead_letters=1)

    def made(newest: Entry, digest_: str) -> Entry:
        entry = replace(successor(newest, digest_, "redrive"), dead_letters=(again,))
        return replace(entry, **{"redriven": (first.path,), "became": (became,), **changes})

    entry = append(collector.storage, made)
    assert entry is not None
    collector.newest = entry
    return entry


def test_a_message_of_a_redriven_file_is_where_the_redrive_put_it(collector: Collector) -> None:
    """The old file is gone, the new one holds it, and the counts are those of before."""
    before = audit(collector.storage).counts
    redriven(collector)

    found = audit(collector.storage)

    assert found.findings == ()
    assert found.counts.dead_letters == before.dead_letters == 2


def test_a_redriven_file_that_is_still_there_is_found(collector: Collector) -> None:
    """Once a later entry says that its removal was to be done."""
    (first,) = read_entry(collector.storage, 1).dead_letters
    content = collector.storage.read(first.path)
    redriven(collector)
    collector.storage.replace(first.path, content)
    assert findings(collector) == []  # the last entry's publishing may be under way

    append(collector.storage, lambda newest, digest_: successor(newest, digest_, "pin"))
    collector.storage.replace(first.path, content)

    (finding,) = findings(collector)
    assert finding == f"{first.path} was redriven by {entry_path(4)}, but is still there"


def test_a_redrive_of_what_was_not_there_is_found(collector: Collector) -> None:
    """Nor may one be redriven twice."""
    redriven(collector, redriven=("dead_letters/none.parquet",))

    found = "\n".join(findings(collector))

    assert "dead_letters/none.parquet was redriven, but was not there" in found
    assert "0 messages were redriven, it tells of 1" in found
    assert "rows of offsets 8 to 8 are in more than one place" in found


def test_a_redrive_that_lost_a_message_is_found(collector: Collector) -> None:
    """What became of the messages is counted against the files that there are."""
    redriven(collector, dead_letters=())

    found = "\n".join(findings(collector))

    assert "partition=0: 13 messages should be in batches, carry or dead letters, 12 are" in found


def test_dead_letters_that_are_redriven_during_an_audit_are_not_missed(
    collector: Collector,
) -> None:
    """Whatever the moment."""
    k, acted = 0, True
    source = collector.storage
    while acted:
        target = Collector(LocalStorage(f"{source.uri}-{k}"))
        shutil.copytree(source.uri, target.storage.uri)
        target.newest = read_entry(target.storage, 3)
        calls = iter(range(10_000))

        def act() -> None:
            if next(calls) == k:  # noqa: B023
                redriven(target)  # noqa: B023

        assert audit(cast("Storage", BusyStorage(target.storage, act, 1))).findings == ()
        acted = target.newest.cycle == 4
        k += 1
    assert k > 20


# windows that an earlier version closed without their early panes


@pytest.mark.parametrize(
    ("on_time", "said"),
    [
        ((-1,), "windows/20261123T070000Z.r1.json lacks"),
        ((), "log/00000000000000000002.json says that it"),
    ],
)
def test_early_panes_that_an_earlier_version_forgot_are_found(
    tmp_path: Path, on_time: tuple[int, ...], said: str
) -> None:
    """Told apart from damage; a late row brings a revision with all files, and the finding goes."""
    life = Life.begun(LocalStorage(str(tmp_path)), 1)
    life.live([Step(1, (30,), forgetful=True), Step(31, on_time, forgetful=True), Step(1)])

    (found,) = audit(life.storage).findings
    assert found.startswith(f"window 2026-11-23T07:00:00Z: {said}")
    assert "early panes of it, of cycle=1; an earlier version forgot them: their rows" in found

    life.cycle(Step(0, (-2,)))
    assert life.manifests() == life.files_by_window()
    assert audit(life.storage).findings == ()


@settings(max_examples=15, deadline=None)
@given(LIVES(may_forget=True))
@example([Step(None, (29,), True), Step(29, (0,), True), Step(1, (), True), Step(None, (-1,))])  # noqa: FBT003
def test_windows_with_panes_that_no_manifest_names_are_found_all(steps: list[Step]) -> None:
    """Whatever an earlier version did; this one mends each window that it gives anything."""
    with TemporaryDirectory() as folder, spans():
        life = Life.begun(LocalStorage(folder), 1)
        life.live(steps)

        by_log, manifests = life.files_by_window(), life.manifests()
        wrong = {start for start, files in by_log.items() if manifests.get(start) != files}
        found = audit(life.storage).findings
        forgetful = sum(step.forgetful for step in steps)
        panes = panes_by_window(life.entries)
        assert all(entry.cycle <= forgetful for start in wrong for entry, _ in panes[start])
        assert [each.partition(": ")[0] for each in found] == [
            f"window {format_instant(start)}" for start in sorted(wrong)
        ]


def test_early_panes_that_an_entry_does_not_name_are_found(tmp_path: Path) -> None:
    """No version of a collection of this format forgets them: somebody has changed the log."""
    life = Life.begun(LocalStorage(str(tmp_path)))
    life.live([Step(1, (30,)), Step(31, (-1,)), Step(1)])
    entry = life.entries[2]
    pane = replace(entry.panes[0], earlier=())
    forge(Collector(life.storage, newest=life.newest), 2, panes=(pane,))
    manifest = json.dumps(manifest_of(entry, pane, 1, [])).encode()
    life.storage.replace(manifest_path(pane.window_start, 1), manifest)

    (found,) = audit(life.storage).findings
    assert found == (
        "window 2026-11-23T07:00:00Z: windows/20261123T070000Z.r1.json lacks files, but the log "
        "has early panes of it, of cycle=1"
    )


def test_a_window_with_rows_that_is_said_empty_is_found(tmp_path: Path) -> None:
    """The ranges of empty windows are held against the panes."""
    life = Life.begun(LocalStorage(str(tmp_path)))
    life.live([Step(1, (-1,)), Step(1, (-1,)), Step(1)])
    (pane,) = life.entries[2].panes
    collector = Collector(life.storage, newest=life.newest)
    forge(collector, 2, closed_empty=((pane.window_start, pane.window_end),))

    (found,) = audit(life.storage).findings
    assert found == (
        "log/00000000000000000002.json: window 2026-11-22T01:00:00Z had rows and is said empty"
    )


def test_an_open_window_that_is_said_empty_is_found(tmp_path: Path) -> None:
    """It may have rows already, or get some."""
    life = Life.begun(LocalStorage(str(tmp_path)))
    life.live([Step(1, (3,)), Step(1), Step(3)])
    (pane,) = life.entries[1].panes
    assert pane.timing == "early"
    collector = Collector(life.storage, newest=life.newest)
    forge(collector, 2, closed_empty=((pane.window_start, pane.window_end),))

    (found,) = audit(life.storage).findings
    window = format_instant(pane.window_start)
    assert found == f"log/00000000000000000002.json: window {window} is open and is said empty"
