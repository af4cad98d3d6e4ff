"""The audit's look at checkpoints: one that says other than the entries is found."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import pytest

from batch_collection.checkpoints.checkpoint import (
    Checkpoint,
    Checksum,
    checkpoint_of,
    listing_path,
    read_checkpoint,
    summary_path,
    write_checkpoint,
)
from batch_collection.checkpoints.making import keep_up, mend
from batch_collection.checkpoints.ranges import Range
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import read_entries
from batch_collection.paths import entry_path
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, dead_letter, message
from tests.logs import spans
from tests.storages import BusyStorage

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.storage.contract import Storage

ALL = 10**9
CURE = "remove it, and a collector makes it anew"
WHOLE = [Range(0, 1), Range(2, 3), Range(4, 5), Range(6, 7), Range(0, 3), Range(4, 7), Range(0, 7)]


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let checkpoints be of 2, 4 and 8 entries."""
    with spans():
        yield


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector of nine entries, with early, on-time and late panes, and dead letters."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2)
    collector.start()
    for cycle in range(8):
        clock = f"10:{30 + cycle}:10"
        letter = dead_letter(9 * cycle + 8) if cycle % 3 else message(9 * cycle + 8, "10:30:00")
        rows = [message(9 * cycle + number, clock) for number in range(4)]
        collector.collect(*rows, letter, boundary=f"10:{30 + cycle}:00")
    mend(collector.storage, 8, most=ALL)
    return collector


def findings(collector: Collector) -> list[str]:
    """Audit it."""
    return list(audit(collector.storage).findings)


def checkpoint(collector: Collector, span: Range) -> Checkpoint:
    """Return one that is there."""
    found = read_checkpoint(collector.storage, span)
    assert found is not None
    return found


def test_checkpoints_that_hold_are_no_finding(collector: Collector) -> None:
    """All seven of them are there."""
    assert [checkpoint(collector, span).summary.range for span in WHOLE] == WHOLE
    assert findings(collector) == []


def test_a_missing_checkpoint_is_no_finding(collector: Collector) -> None:
    """Nor is half of one: a collector was killed between the two files."""
    for span in WHOLE:
        collector.storage.delete([summary_path(span)])
        assert findings(collector) == []
        collector.storage.delete([listing_path(span)])
        assert findings(collector) == []


@pytest.mark.parametrize("span", [WHOLE[1], WHOLE[5], WHOLE[6]])
@pytest.mark.parametrize(
    "changes",
    [{"digest": "0" * 64}, {"previous": "0" * 64}, {"range": Range(0, 15)}, {"earliest_end": None}],
    ids=lambda changes: next(iter(changes)),
)
def test_a_wrong_summary_is_found(collector: Collector, span: Range, changes: Any) -> None:
    """With its cure, at every level, though its checksum is right."""
    right = checkpoint(collector, span)
    summary = replace(right.summary, **changes)
    collector.storage.replace(summary_path(span), summary.to_json())

    assert findings(collector) == [f"{summary_path(span)} does not agree with the entries; {CURE}"]


@pytest.mark.parametrize("name", ["messages", "rows", "late_rows", "files", "bytes", "lost"])
def test_wrong_sums_are_found(collector: Collector, name: str) -> None:
    """Any of them."""
    right = checkpoint(collector, WHOLE[1]).summary
    sums = right.sums._replace(**{name: getattr(right.sums, name) + 1})
    collector.storage.replace(summary_path(WHOLE[1]), replace(right, sums=sums).to_json())

    assert findings(collector) == [
        f"{summary_path(WHOLE[1])} does not agree with the entries; {CURE}"
    ]


def test_reasons_of_more_letters_than_there_are_are_found(collector: Collector) -> None:
    """They add up to the dead letters, or are not told."""
    right = checkpoint(collector, WHOLE[6]).summary
    assert right.reasons == {"not JSON": 4}
    collector.storage.replace(summary_path(WHOLE[6]), replace(right, reasons=None).to_json())
    assert findings(collector) == []

    wrong = replace(right, reasons={"not JSON": 5})
    collector.storage.replace(summary_path(WHOLE[6]), wrong.to_json())

    assert findings(collector) == [
        f"{summary_path(WHOLE[6])} does not agree with the entries; {CURE}"
    ]


@pytest.mark.parametrize("span", [WHOLE[1], WHOLE[6]])
def test_a_listing_that_lacks_a_batch_is_found(collector: Collector, span: Range) -> None:
    """Though both of its checksums are right."""
    right = checkpoint(collector, span)
    entries = tuple(read_entries(collector.storage, *span))
    short = (*entries[:-1], replace(entries[-1], panes=()))
    listing = checkpoint_of(span, short, right.summary.digest, None).listing
    checksum = Checksum(len(listing), crc32c(listing))
    wrong = Checkpoint(replace(right.summary, listing=checksum), listing)
    write_checkpoint(collector.storage, wrong)

    assert findings(collector) == [f"{listing_path(span)} does not agree with the entries; {CURE}"]


def test_a_damaged_checkpoint_is_found(collector: Collector) -> None:
    """Either file of it."""
    for path in (summary_path(WHOLE[0]), listing_path(WHOLE[2])):
        content = collector.storage.read(path)
        collector.storage.replace(path, content[:-3] + b"?" + content[-2:])
    collector.storage.delete([listing_path(WHOLE[3])])

    assert findings(collector) == [
        f"{summary_path(WHOLE[0])} is damaged, or of another version; {CURE}",
        f"{listing_path(WHOLE[2])} is not what {summary_path(WHOLE[2])} says; {CURE}",
        f"{listing_path(WHOLE[3])} is not what {summary_path(WHOLE[3])} says; {CURE}",
    ]


def test_a_checkpoint_of_no_range_is_found(collector: Collector) -> None:
    """Another span, or no name of ours at all."""
    names = ["log/checkpoint-1.json", summary_path(Range(1, 2)), listing_path(Range(1, 2))]
    for name in names:
        collector.storage.create(name, b"")

    assert sorted(findings(collector)) == sorted(
        f"{name} is of no range that has a checkpoint; {CURE}" for name in names
    )


def test_a_checkpoint_outlives_removed_entries(collector: Collector) -> None:
    """What the log alone can't show: that its newest entries were taken away."""
    for cycle in (8, 7):
        path = Path(collector.storage.uri, entry_path(cycle))
        path.unlink()

    found = findings(collector)

    for span in (Range(6, 7), Range(4, 7), Range(0, 7)):
        assert f"{summary_path(span)} is there, but not all entries that it was made of" in found


def test_an_edited_entry_is_found_beside_its_checkpoint(collector: Collector) -> None:
    """The checkpoint does not stand in for it."""
    path = Path(collector.storage.uri, entry_path(4))
    path.write_bytes(path.read_bytes().replace(b'"host": "test"', b'"host": "tset"'))

    expected = f"{entry_path(5)} does not follow the entry before it: one of them was changed"
    assert expected in findings(collector)


@pytest.mark.parametrize("every", range(1, 40, 5))
def test_checkpoints_made_while_it_is_audited_are_no_finding(
    collector: Collector, every: int
) -> None:
    """A collector goes on, and makes those that are due."""
    offset = iter(range(100, 1000))
    left = iter(range(12))

    def collect() -> None:
        if next(left, None) is not None:
            entry = collector.collect(message(next(offset), "10:50:00"))
            keep_up(collector.storage, entry.cycle)

    busy = BusyStorage(collector.storage, collect, every)

    assert audit(cast("Storage", busy)).findings == ()
