"""Publishing: again, at once, late, and after a crash at any point of it."""

from __future__ import annotations

import json
import os
import re
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.errors import FileGoneError, LogError, StorageError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import create_entry, newest_entry, read_entry
from batch_collection.paths import draft_path, entry_path, manifest_path, staged_path
from batch_collection.publishing.publish import left_over, publish, sweep
from batch_collection.storage.opening import open_storage
from tests.builders import Collector, at, dead_letter, message
from tests.storages import Died, DyingStorage

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.storage.contract import Storage


@pytest.fixture
def collector(storage: Storage) -> Collector:
    """Return a collector with an early pane, carry and a dead letter behind it."""
    collector = Collector(storage, batch_size=2)
    collector.collect(*(message(offset) for offset in range(5)), dead_letter(5))
    return collector


def files(collector: Collector) -> dict[str, bytes]:
    """Return all files and their content."""
    storage = collector.storage
    return {path: storage.read(path) for path in storage.list("")}


def manifest(collector: Collector, revision: int) -> dict[str, Any]:
    """Return a manifest of the first window."""
    content = collector.storage.read(manifest_path(at("10:30:00"), revision))
    return dict(json.loads(content))


def leave(collector: Collector, path: str) -> str:
    """Leave a file behind, as a crashed process does."""
    with collector.storage.write(path) as sink:
        sink.write(b"left")
    return path


def test_publishing_moves_everything_and_leaves_only_what_readers_and_the_next_cycle_need(
    collector: Collector,
) -> None:
    """Batches, dead letters, manifests are visible; the carry of before is gone."""
    before = {file.path for file in collector.newest.carry} if collector.newest else set()
    entry = collector.collect(message(6, "10:31:10"), boundary="10:31:00")
    found = files(collector)

    assert {path for _, path in entry.moves} <= set(found)
    assert not any(path.startswith("staging/") for path in found)
    assert {path for path in found if path.startswith("carry/")} == {f.path for f in entry.carry}
    assert before
    assert not before & set(found)


def test_a_crash_at_any_point_of_publishing_is_repaired(
    new_uri: Callable[[], str],
) -> None:
    """Whoever publishes again ends with the same files, whatever was done already."""
    k, dead = 0, True
    while dead:
        storage = open_storage(new_uri())
        collector = Collector(storage, batch_size=2)
        collector.collect(*(message(offset) for offset in range(5)), dead_letter(5))
        entry = collector.collect(
            message(6), message(7, "10:32:00"), boundary="10:31:00", published=False
        )
        dying = DyingStorage(storage, k)
        try:
            publish(dying, entry)
            dead = False
        except Died:
            publish(storage, entry)
        assert audit(storage).findings == ()
        assert list(storage.list("staging")) == []
        assert {*storage.list("carry")} == {file.path for file in entry.carry}
        assert len(list(storage.list("windows"))) == 1
        k += 1

    assert k >= 9


def test_a_crash_at_any_point_of_a_cycle_leaves_nothing_stray(
    new_uri: Callable[[], str],
) -> None:
    """A new process publishes the newest entry, sweeps, and collects what is not in it."""
    k, dead = 0, True
    while dead:
        storage = open_storage(new_uri())
        dying = DyingStorage(storage)
        collector = Collector(dying, batch_size=2)
        collector.collect(*(message(offset) for offset in range(5)))
        dying.k, survivor = dying.points + k, deepcopy(collector)
        late = [message(5), dead_letter(6), message(7, "10:31:00")]
        try:
            collector.collect(*late, boundary="10:31:00")
            dead = False
        except Died:
            survivor.storage = storage
            survivor.newest = newest_entry(storage)
            assert survivor.newest is not None
            publish(storage, survivor.newest)
            sweep(storage, survivor.newest)
            if survivor.newest.cycle == 1:
                survivor.collect(*late, boundary="10:31:00")
                sweep(storage, survivor.newest)
        found = audit(storage)
        assert found.findings == ()
        assert found.counts.rows + found.counts.carried_rows == 7
        assert list(storage.list("staging")) == []
        k += 1

    assert k > 20


def test_two_may_publish_one_entry_at_once(collector: Collector) -> None:
    """Each ends well, and each file is there once."""
    for number in range(20):
        messages = [message(6 + 2 * number, f"10:{31 + number}:00"), message(7 + 2 * number)]
        entry = collector.collect(*messages, boundary=f"10:{31 + number}:00", published=False)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(publish, [collector.storage] * 4, [entry] * 4))

    assert audit(collector.storage).findings == ()
    assert manifest(collector, 20)["revision"] == 20
    assert list(collector.storage.list("staging")) == []


def test_a_late_publish_of_an_old_entry_does_no_harm(collector: Collector) -> None:
    """A process that comes back after newer entries were published changes nothing."""
    collector.collect(message(6), message(7, "10:31:30"), boundary="10:31:00")
    collector.collect(message(8, "10:30:30"), message(9, "10:32:30"), boundary="10:32:00")
    before = files(collector)

    for cycle in range(4):
        publish(collector.storage, read_entry(collector.storage, cycle))

    assert files(collector) == before
    assert any(path.startswith("carry/") for path in before)


def test_carry_that_is_named_again_outlives_the_publishing_of_its_own_entry(
    collector: Collector,
) -> None:
    """An unchanged carry file belongs to all entries that name it, also to late publishers."""
    assert collector.newest is not None
    carry = collector.newest.carry
    plan = collector.plan(message(6, "10:31:00"))
    entry = create_entry(collector.storage, _keeping(plan, carry))
    publish(collector.storage, entry)
    publish(collector.storage, read_entry(collector.storage, 1))

    assert carry
    assert all(collector.storage.size(file.path) for file in carry)


def _keeping(entry: Any, carry: Any) -> Any:
    """Name carry again instead of releasing it."""
    from dataclasses import replace  # noqa: PLC0415

    return replace(entry, carry=(*entry.carry, *carry), released=())


def test_a_committed_file_that_is_gone_stops_the_publishing(collector: Collector) -> None:
    """Going on would make the loss look like a complete cycle."""
    entry = collector.collect(message(6), message(7), published=False)
    collector.storage.delete([entry.files[0].staged])

    with pytest.raises(StorageError, match="it is gone"):
        publish(collector.storage, entry)


@pytest.mark.parametrize("count", [3, 20])
def test_a_visible_file_that_is_gone_is_told_of_when_its_entry_is_published_again(
    storage: Storage, count: int
) -> None:
    """A few files are asked for, many are listed; the others stay as they are."""
    collector = Collector(storage, batch_size=1)
    entry = collector.collect(*(message(offset) for offset in range(count)))
    publish(storage, entry)
    gone = entry.files[count // 2].path
    storage.delete([gone])
    before = files(collector)

    with pytest.raises(FileGoneError, match=re.escape(f"it is gone, and {gone} is not there")):
        publish(storage, entry)
    publish(storage, entry, without_gone=True)
    assert files(collector) == before


def test_what_a_crash_left_half_moved_is_moved_and_nothing_else(storage: Storage) -> None:
    """Whether what is left over was listed before or not."""
    for number, left in enumerate((None, left_over)):
        collector = Collector(open_storage(f"{storage.uri}/{number}"), batch_size=1)
        here = collector.storage
        entry = collector.collect(*(message(offset) for offset in range(6)), published=False)
        here.move(entry.moves[:3])
        publish(here, entry, left=None if left is None else left(here))

        assert {visible for _, visible in entry.moves} <= set(files(collector))
        assert not any(path.startswith("staging/") for path in files(collector))


def test_names_that_a_crash_left_unsynced_on_a_disk_are_synced_by_the_next_publishing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is seen where it belongs may be back where it was when the power fails."""
    collector = Collector(open_storage(str(tmp_path)), batch_size=1)
    entry = collector.collect(message(1))
    synced, sync = set(), os.fsync

    def note(handle: int) -> None:
        synced.add(Path(f"/dev/fd/{handle}").resolve())
        sync(handle)

    monkeypatch.setattr(os, "fsync", note)
    publish(collector.storage, entry, left=left_over(collector.storage))

    assert (tmp_path / entry.files[0].path).parent in synced


def test_publishing_removes_what_other_attempts_of_its_cycle_staged(collector: Collector) -> None:
    """A bundle done twice stages twice; the entry names one."""
    entry = collector.collect(message(6), message(7), published=False)
    left = [leave(collector, "staging/0000000002/x"), leave(collector, "carry/0000000002/x")]
    other = leave(collector, "staging/0000000003/x")
    publish(collector.storage, entry)

    assert not set(left) & set(files(collector))
    assert other in files(collector)


def test_a_closed_window_has_a_manifest_of_all_its_files(collector: Collector) -> None:
    """Early and on-time files, in the order they came."""
    early = collector.newest
    entry = collector.collect(message(6), boundary="10:31:00")
    assert early is not None

    assert manifest(collector, 1) == {
        "format": 1,
        "window_start": "2026-11-22T10:30:00Z",
        "window_end": "2026-11-22T10:31:00Z",
        "revision": 1,
        "cycle": 2,
        "timing": "on_time",
        "rows": 6,
        "files": [{"path": f.path, "rows": f.rows} for f in (*early.files, *entry.files)],
    }


def test_a_late_pane_makes_a_new_revision(collector: Collector) -> None:
    """The old one stays, the new one holds all."""
    collector.collect(message(6), boundary="10:31:00")
    collector.collect(message(7), boundary="10:32:00")

    assert (manifest(collector, 1)["rows"], manifest(collector, 2)["rows"]) == (6, 7)
    assert manifest(collector, 2)["files"][:-1] == manifest(collector, 1)["files"]
    assert manifest(collector, 2)["timing"] == "late"


def test_a_window_that_closes_without_new_rows_has_a_manifest(storage: Storage) -> None:
    """All its rows were in early panes."""
    collector = Collector(storage, batch_size=2)
    collector.collect(message(0), message(1))
    collector.collect(boundary="10:31:00")

    assert manifest(collector, 1)["rows"] == 2


TORN = [b"", b"{", b'{"cycle": 1}', b"[" * 100_000, b"\xff\xfe", b"null", b'{"format": "1"}']
WRONG = [{"cycle": "2"}, {"files": [{"path": 1, "rows": 1}]}, {"files": 3}, {"revision": None}]


def with_revisions(storage: Storage, *, closed_by_rows: bool = True) -> Collector:
    """Give the window 10:30 three manifests, the last one by the newest entry."""
    collector = Collector(storage, batch_size=2)
    collector.collect(message(0), message(1), message(2, "10:31:10"))
    collector.collect(*[message(3)][: int(closed_by_rows)], boundary="10:31:00")
    collector.collect(message(4), boundary="10:32:00")
    collector.collect(message(5), message(6, "10:33:20"), boundary="10:33:00")
    return collector


def manifests(collector: Collector) -> dict[str, bytes]:
    """Return all manifests."""
    storage = collector.storage
    return {path: storage.read(path) for path in storage.list("windows")}


@pytest.mark.parametrize("content", TORN + WRONG, ids=range(len(TORN + WRONG)))
def test_a_damaged_manifest_is_made_again(collector: Collector, content: Any) -> None:
    """By the log, at the next publishing of its entry; the audit finds it until then."""
    entry = collector.collect(message(6), boundary="10:31:00")
    before, path = manifests(collector), manifest_path(at("10:30:00"), 1)
    if isinstance(content, dict):
        content = json.dumps(manifest(collector, 1) | content).encode()
    collector.storage.replace(path, content)
    assert audit(collector.storage).findings == (
        f"{path} is no manifest: it was cut short or changed",
    )
    publish(collector.storage, entry)
    assert manifests(collector) == before


@pytest.mark.parametrize("closed_by_rows", [True, False])
def test_whichever_manifests_are_removed_or_torn_each_comes_back_whole(
    new_uri: Callable[[], str], *, closed_by_rows: bool
) -> None:
    """None comes back with the last pane alone, wherever the others stand."""
    collector = with_revisions(open_storage(new_uri()), closed_by_rows=closed_by_rows)
    storage, newest, before = collector.storage, collector.newest, manifests(collector)
    paths = [manifest_path(at("10:30:00"), revision) for revision in (1, 2, 3)]
    assert newest is not None
    assert manifest(collector, 3)["rows"] == 4 + closed_by_rows
    for damage in product(("keep", "remove", "tear"), repeat=3):
        for path, what in zip(paths, damage, strict=True):
            if what == "remove":
                storage.delete([path])
            elif what == "tear":
                storage.replace(path, before[path][:-9])
        publish(storage, newest)
        assert manifests(collector) == before


@pytest.mark.parametrize("removed", [(1,), (2,), (3,), (1, 2), (2, 3), (1, 2, 3)])
def test_a_late_row_brings_back_what_was_removed_before(
    storage: Storage, removed: tuple[int, ...]
) -> None:
    """Its own manifest names all files, under the number that comes next."""
    collector = with_revisions(storage)
    before = manifests(collector)
    storage.delete([manifest_path(at("10:30:00"), revision) for revision in removed])
    collector.collect(message(7), boundary="10:34:00")
    assert before.items() <= manifests(collector).items()
    assert manifest(collector, 4)["rows"] == 6
    assert audit(storage).findings == ()


def test_a_late_row_of_a_window_that_was_empty_needs_no_log(storage: Storage) -> None:
    """Its manifest is the first one; of the log nothing is read but for the stubs."""
    collector = Collector(storage)
    collector.collect(message(0, "10:30:10"), boundary="10:32:00")
    entry = collector.collect(message(1, "10:31:10"), boundary="10:33:00", published=False)
    storage.delete([entry_path(cycle) for cycle in range(2)])
    publish(storage, entry)
    content = json.loads(storage.read(manifest_path(at("10:31:00"), 1)))
    assert (content["rows"], content["timing"]) == (1, "late")


def test_a_manifest_of_a_newer_version_is_left_alone(collector: Collector) -> None:
    """It is not torn."""
    entry = collector.collect(message(6), boundary="10:31:00")
    path = manifest_path(at("10:30:00"), 1)
    newer = json.dumps(manifest(collector, 1) | {"format": 2}).encode()
    collector.storage.replace(path, newer)
    with pytest.raises(LogError, match="manifest of format=2, this version reads up to 1; update"):
        publish(collector.storage, entry)
    assert collector.storage.read(path) == newer
    (finding,) = audit(collector.storage).findings
    assert finding.startswith(f"{path}: manifest of format=2")


def test_sweeping_removes_what_crashed_collectors_left(collector: Collector) -> None:
    """Of all cycles that have an entry."""
    before = files(collector)
    for path in ("staging/0000000000/x", "staging/0000000001/y", "carry/0000000001/z"):
        leave(collector, path)
    assert collector.newest is not None
    sweep(collector.storage, collector.newest)

    assert files(collector) == before


def test_sweeping_leaves_a_cycle_without_an_entry(collector: Collector) -> None:
    """It may belong to a living collector that commits in a moment."""
    assert collector.newest is not None
    plan = collector.plan(message(6), message(7))
    before = files(collector)
    sweep(collector.storage, collector.newest)

    assert files(collector) == before
    assert plan.files
    assert plan.carry


def test_sweeping_late_leaves_the_carry_of_newer_entries(collector: Collector) -> None:
    """A process that believes an old entry to be the newest takes nothing that is named."""
    old = collector.newest
    assert old is not None
    new = collector.collect(message(6, "10:31:00"), boundary="10:31:00")
    sweep(collector.storage, old)

    assert new.carry
    assert audit(collector.storage).findings == ()


def test_sweeping_before_publishing_takes_nothing_that_is_committed(collector: Collector) -> None:
    """Callers publish first; one that forgets loses nothing."""
    entry = collector.collect(message(6), message(7), published=False)
    sweep(collector.storage, entry)
    publish(collector.storage, entry)

    assert audit(collector.storage).findings == ()


def test_sweeping_removes_a_draft_only_once_its_file_is_there(collector: Collector) -> None:
    """A living create may be about to link it; one whose file is there can only lose."""
    storage = collector.storage
    dead = leave(collector, draft_path(entry_path(1), "00000001"))
    living = leave(collector, draft_path(entry_path(2), "00000002"))
    newest = newest_entry(storage)
    assert newest is not None
    sweep(storage, newest)

    assert dead not in files(collector)
    assert living in files(collector)


def test_a_reader_may_open_a_staged_file_that_is_being_published(collector: Collector) -> None:
    """What is open stays readable when it moves."""
    entry = collector.collect(message(6), message(7), published=False)
    (staged, visible), *_ = entry.moves
    with collector.storage.open(staged) as file:
        publish(collector.storage, entry)
        assert file.read() == collector.storage.read(visible)
    assert staged == staged_path(2, visible)
