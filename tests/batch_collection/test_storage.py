"""The storage contract, as the local directory keeps it."""

from __future__ import annotations

import errno
import os
import re
import resource
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.errors import AlreadyExistsError, StorageError
from batch_collection.storage import LocalStorage, open_storage


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    """Return a directory that isn't there yet."""
    return LocalStorage(str(tmp_path / "collection"))


@pytest.fixture
def synced(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return what gets synced from now on, by name."""
    done: list[str] = []
    fsync = os.fsync

    def syncing(handle: int) -> None:
        fsync(handle)
        done.append(Path(f"/proc/self/fd/{handle}").readlink().name)

    monkeypatch.setattr(os, "fsync", syncing)
    return done


def files(storage: LocalStorage) -> set[str]:
    """Return all files there are, drafts too."""
    return set(storage.list(""))


def test_create_writes_a_whole_file_and_leaves_no_draft(storage: LocalStorage) -> None:
    """What is created is all that lies there."""
    storage.create("log/0.json", b"entry")

    assert storage.read("log/0.json") == b"entry"
    assert files(storage) == {"log/0.json"}


def test_of_many_creates_exactly_one_wins(storage: LocalStorage) -> None:
    """Threads that race get one winner, whose content stays."""

    def create(number: int) -> int | None:
        try:
            storage.create("log/0.json", str(number).encode())
        except AlreadyExistsError:
            return None
        return number

    with ThreadPoolExecutor(16) as pool:
        winners = [number for number in pool.map(create, range(32)) if number is not None]

    assert [str(number).encode() for number in winners] == [storage.read("log/0.json")]
    assert files(storage) == {"log/0.json"}


def test_a_create_whose_draft_was_taken_writes_it_again(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sweep that takes a living draft away costs a retry, no more."""
    link = os.link
    taken: list[Path] = []

    def taking(draft: Path, target: Path) -> None:
        if not taken:
            taken.append(draft)
            draft.unlink()
        link(draft, target)

    monkeypatch.setattr(os, "link", taking)
    storage.create("log/0.json", b"entry")

    assert storage.read("log/0.json") == b"entry"
    assert taken


def test_a_name_appears_only_after_its_content_is_synced(
    storage: LocalStorage, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content, name, then the folders up to the root: else a power cut leaves an empty entry."""
    link = os.link

    def linking(draft: Path, target: Path) -> None:
        link(draft, target)
        synced.append("link")

    storage.create("log/0.json", b"makes the folders")
    synced.clear()
    monkeypatch.setattr(os, "link", linking)
    storage.create("log/1.json", b"entry")

    assert synced[0].startswith("log~1.json~")
    assert synced[1:] == ["link", "log", "collection"]


def test_a_lost_create_syncs_the_name_that_won(storage: LocalStorage, synced: list[str]) -> None:
    """Whoever adopts another's entry acts on it: it must not vanish in a power cut."""
    storage.create("log/0.json", b"theirs")
    synced.clear()
    with pytest.raises(AlreadyExistsError):
        storage.create("log/0.json", b"ours")

    assert synced[-2:] == ["log", "collection"]


def test_a_closed_sink_is_durable(storage: LocalStorage, synced: list[str]) -> None:
    """The content first, then the names that lead to it."""
    sink = storage.write("staging/1/a")
    synced.clear()
    sink.close()

    assert synced == ["a", "1", "staging", "collection"]


def test_moved_files_are_durable(storage: LocalStorage, synced: list[str]) -> None:
    """All folders that got one, even by somebody else's move."""
    for name in ("a", "b"):
        storage.write(f"staging/1/{name}").close()
    moves = [("staging/1/a", "data/x/a"), ("staging/1/b", "data/y/b")]
    storage.move(moves)
    synced.clear()
    storage.move(moves)

    assert sorted(synced) == ["collection", "data", "x", "y"]


def test_replace_writes_over(storage: LocalStorage) -> None:
    """The last content stays, whole, and no draft."""
    storage.replace("cursors/a.json", b"first, and longer")
    storage.replace("cursors/a.json", b"second")

    assert storage.read("cursors/a.json") == b"second"
    assert files(storage) == {"cursors/a.json"}


def test_parquet_and_arrow_write_into_a_sink(storage: LocalStorage) -> None:
    """Sinks are files as pyarrow wants them."""
    table = pa.table({"a": [1, 2, 3]})
    with storage.write("staging/1/a.parquet") as sink, pq.ParquetWriter(sink, table.schema) as out:
        out.write_table(table)
    with storage.write("carry/1/a.arrow") as sink, pa.ipc.new_file(sink, table.schema) as stream:
        stream.write_table(table)

    with storage.open("staging/1/a.parquet") as source:
        assert pq.read_table(source).equals(table)
    with storage.open("carry/1/a.arrow") as source:
        assert pa.ipc.open_file(source).read_all().equals(table)


def test_a_sink_tells_where_it_is_and_closes_once(storage: LocalStorage) -> None:
    """Closing again does nothing; writing then is refused."""
    sink = storage.write("staging/1/a")
    assert (sink.write(b"abc"), sink.tell(), sink.closed) == (3, 3, False)
    sink.flush()
    sink.close()
    sink.close()

    assert sink.closed
    with pytest.raises(ValueError, match="closed"):
        sink.write(b"d")


def test_a_failed_write_leaves_nothing_and_waits_for_no_disk(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error in the block abandons the file."""
    synced: list[int] = []

    def write_half() -> None:
        with storage.write("staging/1/a") as sink:
            monkeypatch.setattr(os, "fsync", synced.append)
            sink.write(b"half")
            message = "no more"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="no more"):
        write_half()

    assert files(storage) == set()
    assert synced == []


def test_a_sink_that_is_dropped_is_no_file(storage: LocalStorage) -> None:
    """Garbage collection finishes nothing."""
    sink = storage.write("staging/1/a")
    sink.write(b"half")
    del sink

    assert files(storage) == set()


def test_a_file_is_never_written_twice(storage: LocalStorage) -> None:
    """Staged names are drawn at random; a clash is an error, not an overwrite."""
    storage.write("staging/1/a").close()

    with pytest.raises(StorageError, match=re.escape("cannot write staging/1/a: File exists")):
        storage.write("staging/1/a")


def test_a_full_disk_is_one_clear_line(storage: LocalStorage) -> None:
    """The error names the path; nothing is left of the file."""
    sink = storage.write("staging/1/a")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
    try:
        with pytest.raises(StorageError, match=re.escape("cannot write staging/1/a: File too")):
            sink.write(bytes(100_000))
        sink.abandon()
        with pytest.raises(StorageError, match=re.escape("cannot create log/0.json: File too")):
            storage.create("log/0.json", bytes(100_000))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert files(storage) == set()


def test_a_forbidden_link_is_one_clear_line(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system without hard links, or rights, is named as such."""

    def refuse(*_: Any) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)

    expected = "cannot create log/0.json: Operation not permitted"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.create("log/0.json", b"entry")


def test_a_file_where_a_folder_should_be_is_not_taken_for_a_lost_create(tmp_path: Path) -> None:
    """FileExistsError has two meanings; only one is AlreadyExistsError."""
    (tmp_path / "log").write_bytes(b"")
    storage = LocalStorage(str(tmp_path))

    expected = f"cannot create log/0.json: {tmp_path}/log is no folder"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.create("log/0.json", b"entry")


def test_a_missing_file_is_a_file_not_found_error(storage: LocalStorage) -> None:
    """Reading and opening say so; its size is None."""
    with pytest.raises(FileNotFoundError):
        storage.read("log/0.json")
    with pytest.raises(FileNotFoundError):
        storage.open("log/0.json")
    assert storage.size("log/0.json") is None


def test_moving_again_changes_nothing(storage: LocalStorage) -> None:
    """A publish that stopped half-way is done again from the start."""
    for name in ("a", "b"):
        with storage.write(f"staging/1/{name}") as sink:
            sink.write(name.encode())
    moves = [("staging/1/a", "data/x/a"), ("staging/1/b", "data/y/b")]
    storage.move(moves[:1])
    storage.move(moves)
    storage.move(moves)

    assert files(storage) == {"data/x/a", "data/y/b"}
    assert storage.read("data/x/a") == b"a"


def test_moving_leaves_no_empty_folder(storage: LocalStorage) -> None:
    """One folder a cycle would add up."""
    storage.write("staging/1/a").close()
    storage.move([("staging/1/a", "data/a")])

    assert not Path(storage.root, "staging/1").exists()


def test_moving_what_is_nowhere_is_refused(storage: LocalStorage) -> None:
    """A committed file that is gone must not go unnoticed."""
    with pytest.raises(StorageError, match=re.escape("cannot move staging/1/a: it is gone")):
        storage.move([("staging/1/a", "data/a")])


def test_deleting_takes_files_and_empty_folders(storage: LocalStorage) -> None:
    """What isn't there is no error; what else is in the folder stays."""
    for name in ("1/a", "2/b", "2/c"):
        storage.write(f"carry/{name}").close()
    storage.delete(["carry/1/a", "carry/2/b", "carry/3/d"])

    assert files(storage) == {"carry/2/c"}
    assert not Path(storage.root, "carry/1").exists()


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(
    storage: LocalStorage,
) -> None:
    """A folder removed as an empty one is made again by whoever needs it."""

    def write(number: int) -> None:
        storage.write(f"staging/1/{number}").close()
        storage.move([(f"staging/1/{number}", f"data/{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))

    assert files(storage) == {f"data/{number}" for number in range(200)}


def test_listing_a_missing_folder_is_empty(storage: LocalStorage) -> None:
    """Before the first cycle there are no folders."""
    assert list(storage.list("staging")) == []


def test_open_storage_takes_a_path(tmp_path: Path) -> None:
    """Relative paths are settled once, against the directory of now."""
    assert open_storage(str(tmp_path)).uri == str(tmp_path)
    assert open_storage("collected").uri == str(Path.cwd() / "collected")


def test_open_storage_refuses_what_it_does_not_know() -> None:
    """A URL is not taken for a directory name."""
    with pytest.raises(StorageError, match=re.escape("unknown storage s3://")):
        open_storage("s3://bucket/x")
