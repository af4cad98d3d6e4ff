"""What is tried again, and when."""

from __future__ import annotations

from datetime import timedelta

import pytest

from batch_collection.errors import (
    DamagedFileError,
    FileGoneError,
    LogError,
    OtherCollectorError,
    SourceError,
    StoppedError,
    StorageError,
    WriteError,
)
from pipeline.running.policy import may_pass, pause_after

SECOND = timedelta(seconds=1)


def test_pauses_grow_to_half_a_minute() -> None:
    """And no further, however long the source is away."""
    pauses = [pause_after(tries) for tries in (0, 1, 2, 4, 5, 10_000)]
    assert pauses == [SECOND, 2 * SECOND, 4 * SECOND, 16 * SECOND, 30 * SECOND, 30 * SECOND]


@pytest.mark.parametrize(
    ("kind", "here", "here_once", "engine", "engine_once"),
    [
        (SourceError, True, True, True, True),
        (WriteError, True, False, True, False),
        (StorageError, False, False, True, True),
        (StoppedError, False, False, True, True),
        (FileNotFoundError, False, False, True, True),
        (DamagedFileError, False, False, False, False),
        (FileGoneError, False, False, False, False),
        (LogError, False, False, False, False),
        (OtherCollectorError, False, False, False, False),
        (None, False, False, False, False),
    ],
)
def test_what_may_pass_is_the_same_question_for_each_drive(
    kind: type[Exception] | None,
    here: bool,  # noqa: FBT001 - a table
    here_once: bool,  # noqa: FBT001
    engine: bool,  # noqa: FBT001
    engine_once: bool,  # noqa: FBT001
) -> None:
    """A person mends a storage here; on an engine nobody does, so it is waited for."""
    assert may_pass(kind, once=False, is_attended=True) == here
    assert may_pass(kind, once=True, is_attended=True) == here_once
    assert may_pass(kind, once=False, is_attended=False) == engine
    assert may_pass(kind, once=True, is_attended=False) == engine_once
