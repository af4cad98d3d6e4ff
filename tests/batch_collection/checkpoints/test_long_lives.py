"""A log of years: checkpoints, expiring and redriven dead letters, all of them together."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

import batch_collection
from batch_collection.checkpoints.making import mend
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.entry import PartitionRead
from batch_collection.log.expiry import first_cycle
from batch_collection.paths import checkpoint_range, is_checkpoint
from batch_collection.publishing.append import append, successor
from batch_collection.publishing.expire import expire
from tests.builders import Collector, at, dead_letter, message
from tests.logs import spans

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

MINUTES = 24


@pytest.fixture(autouse=True)
def small() -> Iterator[None]:
    """Let checkpoints be of 2, 4 and 8 entries."""
    with spans():
        yield


def lived(storage: Storage, redriven_in: tuple[int, ...]) -> Collector:
    """Collect a window a cycle, each with a dead letter; those of some cycles are redriven later.

    Every fifth cycle has a late row, two cycles late.
    """
    collector = Collector(storage, batch_size=3)
    entries: list[Entry] = []
    for minute in range(1, MINUTES):
        base = 10 * minute
        rows = [message(base + n, f"10:{minute:02d}:1{n}") for n in range(4)]
        late = [message(base + 5, f"10:{minute - 2:02d}:20")] if minute % 5 == 0 else []
        entries.append(
            collector.collect(*rows, *late, dead_letter(base + 8), boundary=f"10:{minute:02d}:00")
        )
        if minute in redriven_in:
            collector.newest = redrive(storage, entries[minute // 2])
        mend(storage, collector.newest.cycle if collector.newest else 0)
    return collector


def redrive(storage: Storage, of: Entry) -> Entry | None:
    """Take an entry's dead letters up again; they turn out to be empty arrays."""

    def taken_up(newest: Entry, digest: str) -> Entry:
        (letters,) = of.dead_letters
        became = PartitionRead(0, 0, newest.ends[0], messages=1, empty=1)
        return replace(
            successor(newest, digest, "redrive"), redriven=(letters.path,), became=(became,)
        )

    return append(storage, taken_up)


def told(storage: Storage) -> tuple[Any, ...]:
    """Return all that readers are told."""
    view = batch_collection.open(storage)
    return status(storage), [batch.id for batch in view], view.windows()


@pytest.mark.parametrize("redriven_in", [(), (9, 17)], ids=["as they were", "redriven"])
@pytest.mark.parametrize("before", [None, "10:08:00", "10:15:00"])
def test_checkpoints_tell_the_same_whatever_was_redriven_and_expired(
    storage: Storage, redriven_in: tuple[int, ...], before: str | None
) -> None:
    """With them and without; the audit is clean, and goes on so when more is collected."""
    collector = lived(storage, redriven_in)
    if before is not None:
        expire(storage, at(before), at("12:00:00"))
        collector.collect(message(400, "10:24:01"), dead_letter(401), boundary="10:24:00")
        mend(storage, collector.newest.cycle if collector.newest else 0)
    with_checkpoints, files = told(storage), [*filter(is_checkpoint, storage.list("log"))]

    assert audit(storage).findings == ()
    assert len(files) > 6
    assert all((checkpoint_range(path) or (0, 0))[1] >= first_cycle(storage) for path in files)
    totals = with_checkpoints[0].totals
    assert (totals.redriven, totals.empty) == (len(redriven_in), len(redriven_in))
    storage.delete(files)
    assert told(storage) == with_checkpoints
    assert audit(storage).findings == ()


def test_a_redrive_outlives_the_entries_whose_dead_letters_it_took_up(storage: Storage) -> None:
    """Its own entry stays when theirs are folded, and is folded later; nothing is amiss."""
    collector = lived(storage, (9, 17))
    for before in ("10:07:00", "10:12:00", "10:21:00"):
        expire(storage, at(before), at("12:00:00"))
        assert audit(storage).findings == ()
        assert status(storage).totals.redriven == 2
        assert status(storage).totals.dead_letters == MINUTES - 1 - 2
    assert collector.newest is not None
    assert first_cycle(storage) > 20
