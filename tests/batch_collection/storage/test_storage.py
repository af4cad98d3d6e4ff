"""The storage contract, as the local directory keeps it."""

from __future__ import annotations

import errno
import os
import re
import resource
from pathlib import Path
from typing import Any

import pytest

from batch_collection.errors import AlreadyExistsError, StorageError
from batch_collection.storage.known import STORAGES
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.toys import MemoryStorage


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


def test_files_that_are_written_together_are_durable(
    storage: LocalStorage, synced: list[str]
) -> None:
    """Each one's content, then once the names that lead to them."""
    contents = [(f"staging/7/{number}", b"content %d" % number) for number in range(3)]
    storage.write("staging/7/makes the folders").close()
    synced.clear()
    storage.write_all(contents)

    assert synced == ["0", "1", "2", "7", "staging", "collection"]
    assert [storage.read(path) for path, _ in contents] == [each for _, each in contents]


def test_of_files_that_cannot_be_written_together_no_part_is_left(storage: LocalStorage) -> None:
    """One has a name that is taken: that file stays as it is, the others are not there."""
    storage.write_all([("staging/7/taken", b"first")])
    with pytest.raises(StorageError, match=r"cannot write staging/7/taken: File exists"):
        storage.write_all([("staging/7/new", b"new"), ("staging/7/taken", b"second")])

    assert files(storage) == {"staging/7/taken"}
    assert storage.read("staging/7/taken") == b"first"


def test_files_are_created_together_but_for_those_that_are_there(
    storage: LocalStorage, synced: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Content before name; a draft that was swept is written again; no draft is left."""
    link = os.link
    taken: list[str] = []

    def taking(draft: Path, target: Path) -> None:
        if not taken:
            draft.unlink()
        taken.append(target.name)
        link(draft, target)
        synced.append(f"link {target.name}")

    storage.create("windows/1", b"there before")
    synced.clear()
    monkeypatch.setattr(os, "link", taking)

    assert storage.create_all([(f"windows/{n}", b"%d" % n) for n in range(3)]) == ["windows/1"]
    assert files(storage) == {"windows/0", "windows/1", "windows/2"}
    contents = [storage.read(f"windows/{n}") for n in range(3)]
    assert contents == [b"0", b"there before", b"2"]
    drafts = [n for n, name in enumerate(synced) if "~" in name]
    assert max(drafts[:3]) < synced.index("link 2") < synced.index("windows")
    assert synced.index("link 0") < len(synced) - 1 - synced[::-1].index("windows")


def test_moved_files_are_durable(storage: LocalStorage, synced: list[str]) -> None:
    """All folders that got one, even by somebody else's move."""
    for name in ("a", "b"):
        storage.write(f"staging/1/{name}").close()
    moves = [("staging/1/a", "data/x/a"), ("staging/1/b", "data/y/b")]
    storage.move(moves)
    synced.clear()
    storage.move(moves)

    assert sorted(synced) == ["collection", "data", "x", "y"]


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
        with pytest.raises(StorageError, match=re.escape("cannot write log/0.json: File too")):
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

    expected = "cannot write log/0.json: Operation not permitted"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.create("log/0.json", b"entry")


def test_a_file_where_a_folder_should_be_is_not_taken_for_a_lost_create(tmp_path: Path) -> None:
    """FileExistsError has two meanings; only one is AlreadyExistsError."""
    (tmp_path / "log").write_bytes(b"")
    storage = LocalStorage(str(tmp_path))

    expected = f"cannot write log/0.json: {tmp_path}/log is no folder"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.create("log/0.json", b"entry")


def test_a_folder_that_others_make_and_remove_meanwhile_is_made_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Making it says that it is there, and then it is not."""
    make, tries = os.mkdir, list[str]()

    def make_second(path: Any, *mode: int) -> None:
        tries.append(str(path))
        if len(tries) == 1:
            raise FileExistsError(errno.EEXIST, "File exists", str(path))
        make(path, *mode)

    monkeypatch.setattr(os, "mkdir", make_second)
    LocalStorage(str(tmp_path)).create("log/0.json", b"entry")
    assert tries[0] == tries[1]
    assert (tmp_path / "log" / "0.json").read_bytes() == b"entry"


def test_moving_leaves_no_empty_folder(storage: LocalStorage) -> None:
    """One folder a cycle would add up."""
    storage.write("staging/1/a").close()
    storage.move([("staging/1/a", "data/a")])

    assert not Path(storage.root, "staging/1").exists()


def test_deleting_takes_files_and_empty_folders(storage: LocalStorage) -> None:
    """What isn't there is no error; what else is in the folder stays."""
    for name in ("1/a", "2/b", "2/c"):
        storage.write(f"carry/{name}").close()
    storage.delete(["carry/1/a", "carry/2/b", "carry/3/d"])

    assert files(storage) == {"carry/2/c"}
    assert not Path(storage.root, "carry/1").exists()


def test_what_is_deleted_is_gone_for_good(storage: LocalStorage, synced: list[str]) -> None:
    """Also where another deleted it and died; one sync for all that was in a folder."""
    for name in ("1/a", "2/b", "2/c", "2/d"):
        storage.write(f"carry/{name}").close()
    synced.clear()
    storage.delete(["carry/1/a", "carry/2/b", "carry/2/c"])
    assert sorted(synced) == ["2", "carry"]

    synced.clear()
    storage.delete(["carry/1/a"])
    assert synced == ["carry"]


def test_open_storage_takes_a_path(tmp_path: Path) -> None:
    """Relative paths are settled once, against the directory of now."""
    assert open_storage(str(tmp_path)).uri == str(tmp_path)
    assert open_storage("collected").uri == str(Path.cwd() / "collected")


def test_open_storage_refuses_what_it_does_not_know() -> None:
    """A URL is not taken for a directory name."""
    with pytest.raises(StorageError, match=re.escape("unknown storage s3://")):
        open_storage("s3://bucket/x")


def test_open_storage_takes_what_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """By its scheme; errors name it beside the others."""
    monkeypatch.setitem(STORAGES, "memory", MemoryStorage)

    assert open_storage("memory://a/b") == MemoryStorage("memory://a/b")
    known = "give a local directory or gs://bucket/prefix, memory://bucket/prefix"
    with pytest.raises(StorageError, match=re.escape(f"unknown storage s3://; {known}")):
        open_storage("s3://bucket/x")
    with pytest.raises(StorageError, match="give memory://bucket/prefix as text: a Path drops"):
        open_storage(str(Path("memory://a/b")))


@pytest.mark.parametrize(
    "bucket", ["My-Bucket", "b", "a b", "-bucket", "bucket?x", "b" * 300, ".."]
)
def test_open_storage_takes_no_name_that_no_bucket_has(bucket: str) -> None:
    """The client answers some with a traceback."""
    with pytest.raises(
        StorageError, match=re.escape(f"{bucket!r}, which is no name of one; write")
    ):
        open_storage(f"gs://{bucket}/x")


def test_open_storage_takes_a_url_of_cloud_storage() -> None:
    """Nothing is asked of it; slashes at the end don't count."""
    assert open_storage("gs://bucket/some/prefix/").uri == "gs://bucket/some/prefix"
    assert open_storage("gs://bucket").uri == "gs://bucket"
    with pytest.raises(StorageError, match=re.escape("gs:///x names no bucket; write gs://bucket")):
        open_storage("gs:///x")
    with pytest.raises(StorageError, match="a Path drops a slash"):
        open_storage(str(Path("gs://bucket/x")))


@pytest.mark.parametrize("folder", ["staging", "carry", "log", "staging/0000000001"])
def test_a_file_behind_a_link_to_elsewhere_is_neither_deleted_nor_moved(
    storage: LocalStorage, tmp_path: Path, folder: str
) -> None:
    """It is somebody else's, whatever a file of the collection says."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "theirs").write_text("precious")
    link = Path(storage.root, folder)
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    expected = f"{folder} is a symbolic link, whose files are not the collection's"

    with pytest.raises(StorageError, match=re.escape(f"cannot delete {folder}/theirs: {expected}")):
        storage.delete([f"{folder}/theirs"])
    with pytest.raises(StorageError, match=re.escape(f"cannot move {folder}/theirs: {expected}")):
        storage.move([(f"{folder}/theirs", "data/theirs")])

    assert (elsewhere / "theirs").read_text() == "precious"


@pytest.mark.parametrize("folder", ["staging", "carry", "log"])
def test_nothing_is_written_behind_a_link_to_elsewhere(
    storage: LocalStorage, tmp_path: Path, folder: str
) -> None:
    """It could not be removed again; an entry is not even settled, after which files go."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    Path(storage.root).mkdir(exist_ok=True)
    Path(storage.root, folder).symlink_to(elsewhere)
    cure = (
        f"{folder} is a symbolic link, whose files are not the collection's; put the folder itself"
    )

    for write in (
        lambda: storage.create(f"{folder}/0", b"x"),
        lambda: storage.replace(f"{folder}/0", b"x"),
        lambda: storage.write(f"{folder}/0"),
        lambda: storage.settle("log/00000000000000000000.json"),
    ):
        with pytest.raises(StorageError, match=re.escape(cure)):
            write()

    assert list(elsewhere.iterdir()) == []


def test_what_is_no_regular_file_is_refused_at_once(storage: LocalStorage) -> None:
    """A pipe in the place of an entry would be read for ever."""
    storage.replace("log/0.json", b"")
    Path(storage.root, "log/0.json").unlink()
    os.mkfifo(Path(storage.root, "log/0.json"))

    for read in (storage.read, storage.open):
        with pytest.raises(StorageError, match=r"cannot read log/0\.json: it is no regular file"):
            read("log/0.json")
