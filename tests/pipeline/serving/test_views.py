"""What is served of a collection grows with its log, and counts all that was ever committed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import LogError
from batch_collection.inspection.below import collections_below
from batch_collection.inspection.status import status
from batch_collection.paths import entry_path
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from pipeline.serving import views
from pipeline.serving.root import Root
from pipeline.serving.views import CollectionView, logged
from tests.builders import Collector, at, dead_letter, message

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.inspection.status import Status
    from batch_collection.storage.contract import Storage


def test_a_view_takes_up_what_was_committed_since(storage: Storage) -> None:
    """One entry, or several at once; the same as who looks at all of it."""
    collector = Collector(storage)
    view = logged("topic", storage)
    view.refresh()
    assert (view.newest, view.sums.messages) == (None, 0)
    collector.collect(message(0), message(1), dead_letter(2), boundary="10:31:00")
    view.refresh()
    collector.collect(message(3, "10:31:00"), boundary="10:32:00")
    view.refresh()
    for offset in range(4, 7):
        collector.collect(message(offset, "10:30:00"), boundary="10:33:00")
    view.refresh()
    assert view.newest == collector.newest
    late = logged("topic", storage)
    late.refresh()
    assert view.sums == late.sums
    assert (view.sums.messages, view.sums.rows, view.sums.late_rows) == (7, 6, 3)
    assert view.sums.dead_letters == 1
    first, second = view.windows()
    assert (first.start, first.panes, first.files) == (at("10:30:00"), 4, 4)
    assert first.rows == {"early": 0, "on_time": 2, "late": 3}
    assert second.rows == {"early": 0, "on_time": 1, "late": 0}


def test_counts_do_not_shrink_when_windows_expire(storage: Storage) -> None:
    """As counters must not, whether the view was there before or comes after."""
    collector = Collector(storage)
    collector.collect(message(0), message(1), boundary="10:31:00")
    for offset in range(2, 5):
        collector.collect(message(offset, "10:35:00"), boundary="10:32:00")
    view = logged("topic", storage)
    view.refresh()
    before = view.sums
    expire(storage, at("10:32:00"), at("12:00:00"))
    view.refresh()
    assert view.sums == before
    collector.collect(message(5, "10:35:00"), boundary="10:36:00")
    view.refresh()
    late = logged("topic", storage)
    late.refresh()
    assert view.sums == late.sums
    assert view.sums.rows == 6
    assert status(storage).totals.rows == 4


def test_a_page_is_told_of_a_collection(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The status is made once an entry; windows of the last entries only."""
    monkeypatch.setattr(views, "_ENTRIES", 2)
    storage = LocalStorage(str(tmp_path / "topic"))
    collector = Collector(storage, batch_size=2)
    for minute in range(4):
        collector.collect(message(minute, f"10:3{minute}:00"), boundary=f"10:3{minute + 1}:00")
    collector.collect(message(4, "10:34:00"), message(5, "10:34:01"))
    asked: list[int] = []

    def counted(storage: Storage, last: int) -> Status:
        asked.append(last)
        return status(storage, last)

    monkeypatch.setattr(views, "status", counted)
    view = CollectionView("topic", storage, lambda _: collector.newest, lambda: 7)
    for _ in range(3):
        found = view.described()
    assert len(asked) == 1
    assert (found["name"], found["lag"], found["status"]["cycle"]) == ("topic", 7, 5)
    kept = [
        {"files": 1, "panes": 1, "early": 0, "on_time": 1, "late": 0},
        {"files": 1, "panes": 1, "early": 2, "on_time": 0, "late": 0},
    ]
    assert found["windows"] == [
        {
            "start": "2026-11-22T10:33:00Z",
            "end": "2026-11-22T10:34:00Z",
            "is_closed": True,
            **kept[0],
        },
        {
            "start": "2026-11-22T10:34:00Z",
            "end": "2026-11-22T10:35:00Z",
            "is_closed": False,
            **kept[1],
        },
    ]


def test_a_collection_that_is_not_there_yet_has_no_status(tmp_path: Path) -> None:
    """It is no error."""
    view = logged("topic", LocalStorage(str(tmp_path / "topic")))
    assert view.described() == {"name": "topic", "lag": None, "status": None, "windows": []}


def test_collections_are_looked_for_again(tmp_path: Path) -> None:
    """Those that come are found within seconds, and what is known of others stays."""
    clock = [0.0]
    root = Root(str(tmp_path), lambda: clock[0])
    assert root.views() == []
    assert root.reasons() == (f"there is no collection in {tmp_path} yet",)
    Collector(LocalStorage(str(tmp_path / "b"))).collect(message(0), boundary="10:31:00")
    (tmp_path / "no collection").mkdir()
    clock[0] = 6
    (first,) = root.views()
    assert root.reasons() == ()
    Collector(LocalStorage(str(tmp_path / "a"))).start()
    clock[0] = 12
    assert [view.name for view in root.views()] == ["a", "b"]
    assert root.views()[1] is first


def test_a_collection_itself_may_be_the_root(storage: Storage) -> None:
    """By the last part of its path."""
    Collector(storage).start()
    (found,) = collections_below(storage.uri)
    assert storage.uri.endswith(f"/{found}")


def test_what_can_not_be_read_is_an_error(tmp_path: Path) -> None:
    """Of the log; the next look may find it mended."""
    storage = LocalStorage(str(tmp_path / "topic"))
    Collector(storage).collect(message(0), boundary="10:31:00")
    content = storage.read(entry_path(1))
    storage.replace(entry_path(1), b"{")
    view = logged("topic", storage)
    with pytest.raises(LogError):
        view.refresh()
    storage.replace(entry_path(1), content)
    view.refresh()
    assert view.sums.rows == 1
