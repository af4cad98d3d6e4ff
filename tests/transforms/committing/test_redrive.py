"""The entry of a redrive, whatever was committed while it was at work."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.log.entry import BatchFile, DeadLetterFile, Entry, PartitionRead
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, at
from tests.transforms.test_read_dead_letters import redrive_plan
from transforms.committing.redrive import redriven
from transforms.elements.failure import OUTRUN, Failure
from transforms.elements.report import Report, WrittenBatch

if TYPE_CHECKING:
    from pathlib import Path

OLD = DeadLetterFile("dead_letters/window_date=2026-11-22/old.parquet", "staging/old", 3, 1, "0")
NEW = DeadLetterFile(
    "dead_letters/window_date=2026-11-22/20261122T103000Z-0000001001-00-token.parquet",
    "staging/0000001001/20261122T103000Z-0000001001-00-token.parquet",
    *(1, 1, "0"),
)
NAME = "20261122T103000Z-0000001001-00-0000-token.parquet"


@pytest.fixture
def newest(tmp_path: Path) -> Entry:
    """Give an entry with a boundary."""
    return replace(Collector(LocalStorage(str(tmp_path))).start(), boundary=at("10:31:00"))


def written(start: str) -> WrittenBatch:
    """Give a staged batch of two rows."""
    begin = at(start)
    path = f"data/window_date=2026-11-22/window_hour=10/{NAME}"
    offsets = {0: (0, 1, 2)}
    file = BatchFile(path, f"staging/0000001001/{NAME}", 2, 1, "0", begin, begin, offsets)
    return WrittenBatch(begin, "early", 0, file)


def made(newest: Entry, start: str = "10:30:00", **changes: Any) -> Entry | Failure:
    """Commit a redrive of three messages behind an entry: two rows, and a dead letter."""
    plan = redrive_plan("collected", OLD)
    report = Report(
        *(plan, 0, "attempt"),
        read=True,
        cut=True,
        reads=(PartitionRead(0, 0, 3, messages=3),),
        decoded=(PartitionRead(0, 0, 3, 3, 2, dead_letters=1, max_time=at("10:30:09")),),
        batches=(written(start),),
        dead_letters=(NEW,),
        schema=changes.pop("schema", {}),
    )
    return redriven(plan, newest, "digest", changes.pop("since", ()), [report])


@pytest.mark.parametrize("start", ["10:30:00", "10:31:00"])
def test_files_get_the_cycle_and_panes_the_timing_of_the_commit(newest: Entry, start: str) -> None:
    """Whatever they were when they were staged; where they are staged stays."""
    newest = replace(newest, cycle=41)

    entry = made(newest, start)

    assert isinstance(entry, Entry)
    assert (entry.cycle, entry.previous, entry.cause) == (42, "digest", "redrive")
    (pane,), (letters,) = entry.panes, entry.dead_letters
    assert pane.timing == ("late" if start == "10:30:00" else "early")
    assert entry.open == ({} if start == "10:30:00" else {at(start): (42,)})
    assert pane.files[0].path.endswith("/20261122T103000Z-0000000042-00-0000-token.parquet")
    assert letters.path.endswith("/20261122T103000Z-0000000042-00-token.parquet")
    assert (pane.files[0].staged, letters.staged) == (f"staging/0000001001/{NAME}", NEW.staged)


def test_what_became_of_the_messages_is_told_apart_from_what_was_read(newest: Entry) -> None:
    """Nothing was read; the boundary stands."""
    entry = made(newest)

    assert isinstance(entry, Entry)
    assert entry.became == (PartitionRead(0, 0, 3, 3, 2, dead_letters=1),)
    assert entry.redriven == (OLD.path,)
    assert entry.reads == (PartitionRead(0, 0, 0),)
    assert (entry.boundary, entry.closed_empty) == (newest.boundary, ())


def test_another_type_of_now_begins_it_again(newest: Entry) -> None:
    """With the types of both."""
    found = made(replace(newest, schema={"a": "double"}), schema={"a": "int64", "b": "bool"})

    assert isinstance(found, Failure)
    assert (found.kind, found.schema) == ("SchemaChange", {"a": "double", "b": "bool"})


def test_a_file_that_somebody_else_has_redriven_begins_it_again(newest: Entry) -> None:
    """Without that file."""
    found = made(newest, since=(replace(newest, redriven=(OLD.path,)),))

    assert isinstance(found, Failure)
    assert found.kind == OUTRUN


@pytest.mark.parametrize(("cycle", "is_in_time"), [(999, True), (1000, False)])
def test_a_redrive_is_committed_before_the_cycle_it_is_staged_under(
    newest: Entry,
    cycle: int,
    is_in_time: bool,  # noqa: FBT001
) -> None:
    """From then on its files may be swept."""
    assert isinstance(made(replace(newest, cycle=cycle)), Entry if is_in_time else Failure)
