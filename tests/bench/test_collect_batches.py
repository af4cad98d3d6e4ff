"""That the measurement of CollectBatches runs and checks what was collected."""

from __future__ import annotations

import re

import pytest

from bench import collect_batches


def test_all_ways_collect_the_same_rows(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each way has its rate and its ratio to Beam's own, and each kind of entry its own."""
    monkeypatch.setattr(collect_batches, "CHUNK", 50)
    monkeypatch.setattr(collect_batches, "ROUNDS", 1)

    collect_batches.run(rows=100, panes=32)

    said = capsys.readouterr().out
    assert re.findall(r"(?m)^(\w+, [\w ]+?) +[\d,]+ rows/s +[\d.]+$", said) == [
        "dictionaries, WriteToParquet",
        "dictionaries, windows alone",
        "dictionaries, CollectBatches",
        "tables, WriteToParquetBatched",
        "tables, CollectBatches",
    ]
    assert re.findall(r"(?m)^16 shards, +(\d+) panes an entry: [\d,]+ entries/s$", said) == [
        "1",
        "16",
    ]


def test_rows_that_are_missing_end_the_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no result."""
    monkeypatch.setattr(collect_batches, "CHUNK", 50)

    with pytest.raises(AssertionError):
        collect_batches.seconds_of("tables, CollectBatches", 75)
