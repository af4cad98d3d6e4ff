"""The local drive where the source of one topic of several is away."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from pipeline.local import _Pause
from tests.builders import at
from tests.collecting import Collecting, Stream, check, entries_of, sending
from tests.services.mock_cluster import MockCluster

if TYPE_CHECKING:
    from pathlib import Path

SECOND = timedelta(seconds=1)


def test_a_topic_whose_source_is_away_keeps_no_other_from_being_collected(tmp_path: Path) -> None:
    """Said once and again when it is back; its windows are as if it had never been away."""
    with MockCluster(brokers=2) as broker:
        orphan, other = Stream(broker, partitions=2), Stream(broker, partitions=2)
        collecting = Collecting((orphan, other), tmp_path, ("--interval=10s",))
        before: list[int] = []

        def arrive(now: datetime) -> None:
            if now == at("10:30:14"):
                broker.lead(orphan.name, 1, -1)
            if now == at("10:30:25"):
                before.extend(len(entries_of(tmp_path / each.name)) for each in (orphan, other))
                broker.lead(orphan.name, 1, 2)

        for stream in (orphan, other):
            stream.send(*(sending(at("10:30:01") + n * SECOND, n % 2, id=n) for n in range(30)))
        collecting.run(at("10:30:12"), at("10:31:03"), arrive)

        told = [note.partition(";")[0] for note in collecting.recorder.notes]
        assert told[0].startswith(f"topic={orphan.name} has no leader for partition=1: ")
        assert told[1:] == [f"the source is back: topic={orphan.name}"]
        assert before[0] < before[1]
        for stream in (orphan, other):
            check(tmp_path / stream.name, stream.produced)
            assert entries_of(tmp_path / stream.name)[-1].boundary == at("10:31:00")


def test_a_clock_that_is_set_back_ends_a_pause() -> None:
    """It would else last as long as the clock was set back."""
    pause = _Pause(at("10:30:00"), 2 * SECOND)
    held = [clock for clock in range(-3, 4) if pause.holds(at("10:30:00") + clock * SECOND)]
    assert held == [0, 1]
