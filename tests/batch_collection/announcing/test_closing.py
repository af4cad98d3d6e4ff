"""What an entry closes, and when that is visible."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from batch_collection.announcing import closing as closings
from batch_collection.announcing.closing import (
    Window,
    closings_of,
    manifest_seen,
    newest_manifest,
    visible_boundary,
)
from batch_collection.errors import DamagedFileError, ExpiredError
from batch_collection.log.expiry import newest_expiry
from batch_collection.paths import manifest_path
from batch_collection.publishing.expire import expire
from batch_collection.publishing.publish import publish
from tests.builders import Collector, at, message

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry
    from batch_collection.log.expiry import Expiry
    from batch_collection.storage.contract import Storage


def never() -> bool:
    """Do not wait."""
    return True


def seen(storage: Storage, entry: Entry) -> list[tuple[str, int, int, int]]:
    """Return what is visible of what an entry closes."""
    found = [manifest_seen(storage, each, never) for each in closings_of(entry)]
    return [(each.path, each.revision, each.rows, each.files) for each in found if each]


def test_closings_stand_by_window_and_early_panes_close_nothing(storage: Storage) -> None:
    """One whose rows all came early is closed by a pane without files; an empty one by none."""
    collector = Collector(storage, batch_size=2)
    early = collector.collect(message(0, "10:31:00"), message(1, "10:31:10"))
    assert [pane.timing for pane in early.panes] == ["early"]
    assert closings_of(early) == ()
    closing = collector.collect(message(2, "10:30:00"), boundary="10:33:00")
    assert [(each.number, each.pane.window_start) for each in closings_of(closing)] == [
        (0, at("10:30:00")),
        (1, at("10:31:00")),
    ]
    assert seen(storage, closing) == [
        ("windows/20261122T103000Z.r1.json", 1, 1, 1),
        ("windows/20261122T103100Z.r1.json", 1, 2, 1),
    ]


def test_late_rows_are_revisions_of_their_own(storage: Storage) -> None:
    """Each with all rows that the window has since."""
    collector = Collector(storage)
    first = collector.collect(message(0), boundary="10:31:00")
    second = collector.collect(message(1, "10:30:10"), boundary="10:32:00")
    third = collector.collect(message(2, "10:30:20"), message(3, "10:32:00"), boundary="10:33:00")
    assert [seen(storage, entry) for entry in (first, second, third)] == [
        [("windows/20261122T103000Z.r1.json", 1, 1, 1)],
        [("windows/20261122T103000Z.r2.json", 2, 2, 2)],
        [
            ("windows/20261122T103000Z.r3.json", 3, 3, 3),
            ("windows/20261122T103200Z.r1.json", 1, 1, 1),
        ],
    ]
    newest = newest_manifest(storage, Window(at("10:30:00"), at("10:31:00")))
    assert newest is not None
    assert newest.revision == 3
    assert newest_manifest(storage, Window(at("10:31:00"), at("10:32:00"))) is None


def test_what_is_committed_is_not_visible_before_it_is_published(storage: Storage) -> None:
    """The wait is asked meanwhile; up to the entry before all is visible."""
    collector = Collector(storage)
    collector.collect(message(0), boundary="10:31:00")
    entry = collector.collect(message(1, "10:31:00"), boundary="10:32:00", published=False)
    (closing,) = closings_of(entry)
    assert visible_boundary(storage, entry) == at("10:31:00")
    assert manifest_seen(storage, closing, never) is None
    asked = []

    def published_meanwhile() -> bool:
        asked.append(1)
        if len(asked) == 2:
            publish(storage, entry)
        return False

    found = manifest_seen(storage, closing, published_meanwhile)
    assert found is not None
    assert (found.rows, len(asked)) == (1, 2)
    assert visible_boundary(storage, entry) == at("10:32:00")


def test_stubs_of_what_expired_are_looked_for_once_a_look(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a window looks again and again, in a bucket by a request each."""
    collector = Collector(storage)
    entry = collector.collect(message(0), boundary="10:31:00", published=False)
    looked, waited = list[str](), list[int]()

    def counting(of: Storage) -> Expiry | None:
        looked.append(of.uri)
        return newest_expiry(of)

    def twice() -> bool:
        waited.append(len(looked))
        return len(waited) == 2

    monkeypatch.setattr(closings, "newest_expiry", counting)
    (closing,) = closings_of(entry)
    assert manifest_seen(storage, closing, twice) is None
    assert waited == [1, 2]


def test_files_that_moved_without_their_manifest_are_not_visible_yet(storage: Storage) -> None:
    """A collector that died in between publishes the rest at its next start."""
    collector = Collector(storage)
    entry = collector.collect(message(0), boundary="10:31:00", published=False)
    storage.move(entry.moves)
    assert visible_boundary(storage, entry) is None
    publish(storage, entry)
    assert visible_boundary(storage, entry) == at("10:31:00")


def test_a_manifest_that_somebody_removed_is_an_error_and_no_wait(storage: Storage) -> None:
    """The entry behind shows that it was there; damaged is as good as removed."""
    collector = Collector(storage)
    entry = collector.collect(message(0), boundary="10:31:00")
    collector.collect(boundary="10:32:00")
    (closing,) = closings_of(entry)
    path = manifest_path(at("10:30:00"), 1)
    storage.replace(path, b"{")
    with pytest.raises(DamagedFileError, match=r"windows/20261122T103000Z\.r1\.json .*audit"):
        manifest_seen(storage, closing, pytest.fail)
    storage.delete([path])
    with pytest.raises(DamagedFileError):
        manifest_seen(storage, closing, pytest.fail)


def test_what_was_expired_is_said_and_late_rows_after_that_are_found(storage: Storage) -> None:
    """Their revision has the number of the cycle."""
    collector = Collector(storage)
    entry = collector.collect(message(0), boundary="10:31:00")
    collector.collect(message(1, "10:31:00"), boundary="10:32:00")
    expire(storage, at("10:31:00"), at("12:00:00"))
    (closing,) = closings_of(entry)
    with pytest.raises(ExpiredError, match="window 2026-11-22T10:30:00Z was expired"):
        manifest_seen(storage, closing, pytest.fail)
    late = collector.collect(message(2, "10:30:10"), boundary="10:33:00")
    assert seen(storage, late) == [("windows/20261122T103000Z.r3.json", 3, 1, 1)]
    assert visible_boundary(storage, late) == at("10:33:00")
