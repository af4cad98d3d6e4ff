"""Folders are synced after what was put into them, however many ask at once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from batch_collection.storage import syncing
from batch_collection.storage.syncing import sync_folder

if TYPE_CHECKING:
    from pathlib import Path


def test_no_sync_that_had_begun_before_covers_a_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that come while one goes on share the next one."""
    begun, go = threading.Semaphore(0), threading.Semaphore(0)
    seen: list[int] = []
    asked: list[int] = []

    def sync(_: str) -> None:
        seen.append(len(asked))
        begun.release()
        assert go.acquire(timeout=20)

    def ask(number: int) -> bool:
        asked.append(number)
        place = len(asked)
        sync_folder("folder")
        return any(count >= place for count in seen)

    monkeypatch.setattr(syncing, "_sync", sync)
    with ThreadPoolExecutor(6) as pool:
        first = pool.submit(ask, 0)
        assert begun.acquire(timeout=20)
        others = [pool.submit(ask, number) for number in range(1, 6)]
        while len(asked) < 6:
            time.sleep(0.01)
        time.sleep(0.2)  # time to wait for the next one together
        go.release(10)
        assert all(each.result(20) for each in (first, *others))
    assert seen[0] == 1
    assert len(seen) < 6


def test_a_sync_that_fails_fails_for_all_that_it_was_to_cover(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one may work."""
    tries = iter([OSError("full"), None])

    def sync(_: str) -> None:
        if error := next(tries):
            raise error

    with pytest.raises(FileNotFoundError):
        sync_folder(str(tmp_path / "gone"))
    monkeypatch.setattr(syncing, "_sync", sync)
    with pytest.raises(OSError, match="full"):
        sync_folder(str(tmp_path))
    sync_folder(str(tmp_path))
