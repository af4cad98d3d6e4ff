"""Calls to a storage that go on at once where it is far."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from batch_collection.storage.fetching import both
from batch_collection.storage.gcs import GcsStorage
from batch_collection.storage.local import LocalStorage

if TYPE_CHECKING:
    from pathlib import Path

FAR = GcsStorage("bucket", "prefix")


def test_far_away_two_calls_go_on_at_once() -> None:
    """Each waits for the other to have begun."""
    together = threading.Barrier(2, timeout=60)
    assert sorted(both(FAR, together.wait, together.wait)) == [0, 1]


def test_on_a_disk_one_call_follows_the_other(tmp_path: Path) -> None:
    """In this thread, as a disk answers sooner than another begins."""
    found = both(LocalStorage(str(tmp_path)), threading.get_ident, threading.get_ident)
    assert found == (threading.get_ident(), threading.get_ident())


def test_the_first_calls_error_is_raised_when_both_are_over() -> None:
    """So nothing goes on behind the caller's back."""
    failed, over = threading.Event(), threading.Event()

    def failing() -> None:
        failed.set()
        message = "no answer"
        raise OSError(message)

    def other() -> None:
        assert failed.wait(60)
        over.set()
        message = "of the other"
        raise ValueError(message)

    with pytest.raises(OSError, match="no answer"):
        both(FAR, failing, other)
    assert over.is_set()
