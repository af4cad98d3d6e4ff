"""What a test of a collector shows when that takes too long."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests import collecting
from tests.collecting import CollectorProcess, Stream, run_command

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

_STACKS = r"(?s)takes longer than 2 s.*most recent call first.*File "


def test_a_collector_that_takes_too_long_says_where_it_is(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether a test waits for its end, or watches it: with the stacks of its threads."""
    monkeypatch.setattr(collecting, "_MOST_SECONDS", 2)
    stream = Stream(embedded)
    with pytest.raises(pytest.fail.Exception, match=_STACKS):
        run_command([stream], tmp_path / "one")
    with (
        CollectorProcess([stream], tmp_path / "two") as collector,
        pytest.raises(pytest.fail.Exception, match=_STACKS),
    ):
        collector.end(2)
