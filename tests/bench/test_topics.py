"""The measurement of many small topics, with a few."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.topics import measure
from tests.collecting import entries_of

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker


def test_each_cycle_collects_what_was_sent_before_it(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Of every topic, in a process of its own; the first one is measured, too."""
    taken = measure(embedded, str(tmp_path), topics=2, messages=4, cycles=1)
    assert len(taken.cycles) == len(taken.cpu) == 2
    collections = sorted(tmp_path.iterdir())
    assert len(collections) == 2
    for collection in collections:
        read = [sum(each.messages for each in entry.reads) for entry in entries_of(collection)]
        assert [count for count in read if count] == [4, 4]
