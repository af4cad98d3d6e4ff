"""That the measurement of engines runs and measures what it says."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batch_collection.log.entry import PartitionRead
from bench.engines import __main__ as engines
from bench.engines.decoder import decode
from bench.engines.managers import speed
from bench.engines.started import DIRECT, FLINK, PRISM
from bench.engines.visible import waits
from tests.builders import at, first_entry
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from tests.services.kafka import KafkaBroker


def test_the_decoder_gives_a_row_of_each_message() -> None:
    """In their order, so that each is told from the others."""
    messages = pa.table({"value": [b'{"id":1}', b'{"id":0}']})
    assert decode(messages)["id"].to_pylist() == [1, 0]


def test_speed_is_that_behind_the_first_cycle_and_before_the_last_that_read() -> None:
    """What a job takes to start, and to end, is not in it."""
    counts = {"10:30:00": 0, "10:31:00": 500, "10:31:02": 300, "10:31:04": 100, "10:45:00": 0}
    entries = [
        first_entry(committed_at=at(clock), reads=(PartitionRead(0, 0, count, messages=count),))
        for clock, count in counts.items()
    ]
    assert speed(entries) == 100


def test_a_part_that_nobody_knows_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is started."""
    with pytest.raises(SystemExit):
        engines.main(["--only=rows,cows"])
    assert "unknown --only=cows; use some of: rows, visible, managers" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.integration
def test_engines_that_are_not_here_are_left_out(
    kafka: KafkaBroker, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the reason; the others are measured."""

    def missing(*_: object, **__: object) -> None:
        text = "not today"
        raise UnavailableError(text)

    started = sys.modules["bench.engines.started"]
    monkeypatch.setattr(started, "prism_binary", missing)
    monkeypatch.setattr(started, "flink_jars", missing)
    engines.show_rows(kafka, 400)
    first, *others = capsys.readouterr().out.splitlines()
    assert first.startswith(f"rows      {DIRECT}")
    assert "400 messages in" in first
    assert others == [f"not today; {engine} is left out" for engine in (PRISM, FLINK)]


@pytest.mark.slow
@pytest.mark.integration
def test_windows_are_visible_behind_their_end_and_the_grace(kafka: KafkaBroker) -> None:
    """Of messages that come meanwhile, all of which are there in the end."""
    found = waits(kafka, 2, ("--grace=1500ms",))
    assert found
    assert all(wait > 1.5 for wait in found)
