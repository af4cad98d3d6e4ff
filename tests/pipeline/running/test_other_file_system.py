"""A collection on two file systems: refused before anything is committed."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import StorageError
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from pipeline.cli import main
from tests.builders import at
from tests.collecting import Collecting, Stream, check, sending

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.storage.contract import Storage
    from transforms.sources.kafka.embedded import EmbeddedBroker

FOLDERS = ["data", "dead_letters", "ids", "windows"]


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """Return a folder on another file system; skip where there is none."""
    memory = Path("/dev/shm")  # noqa: S108 - where a second file system can be had without root
    if not memory.is_dir() or memory.stat().st_dev == tmp_path.stat().st_dev:
        pytest.skip("the memory of this machine is no other file system")
    with TemporaryDirectory(dir=memory) as folder:
        yield Path(folder)


def files(collection: Path) -> dict[str, bytes]:
    """Return all files and their content."""
    storage = LocalStorage(str(collection))
    return {path: storage.read(path) for path in storage.list("")}


def told(collection: Path, folder: str) -> str:
    """Return what is said of a folder that lies elsewhere."""
    return re.escape(
        f"{collection}/{folder} and {collection}/staging lie on different file systems"
    )


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_collection_is_not_begun_in_folders_of_two_file_systems(
    embedded: EmbeddedBroker, tmp_path: Path, elsewhere: Path, folder: str
) -> None:
    """There is no entry, so that another ``--output`` or the folder's own place is all it needs."""
    stream = Stream(embedded)
    stream.send(*(sending(at("10:30:01"), n % 4, id=n) for n in range(8)))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    collecting.path.mkdir()
    link = collecting.path / folder
    link.symlink_to(elsewhere)
    with pytest.raises(StorageError, match=told(collecting.path, folder)):
        collecting.once(at("10:30:12"))
    assert files(collecting.path) == {}
    assert list(elsewhere.iterdir()) == []
    link.unlink()
    collecting.once(at("10:30:12"))
    check(collecting.path, stream.produced)


def test_a_folder_that_was_moved_away_is_found_at_the_next_start(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    elsewhere: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """By the collector and by a redrive: nothing is committed that could not become visible."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    collecting.once(at("10:30:02"))
    stream.send(*(sending(at("10:30:01"), n % 4, id=n) for n in range(8)))
    collecting.once(at("10:30:12"))
    stream.send(*(sending(at("10:30:15"), n % 4, id=n) for n in range(8)))
    own = collecting.path / "data"
    shutil.move(own, elsewhere / "data")
    own.symlink_to(elsewhere / "data")
    before = files(collecting.path)
    with pytest.raises(StorageError, match=told(collecting.path, "data")):
        collecting.once(at("10:30:22"))
    assert main(["redrive", str(collecting.path)]) == 2
    assert re.match(f"error: {told(collecting.path, 'data')}", capsys.readouterr().err)
    assert files(collecting.path) == before
    own.unlink()
    shutil.move(elsewhere / "data", own)
    collecting.once(at("10:30:22"))
    check(collecting.path, stream.produced)


def test_a_look_whether_files_can_be_moved_leaves_nothing(new_uri: Callable[[], str]) -> None:
    """Whatever folders there are; twice, and on every storage."""
    storage: Storage = open_storage(new_uri())
    storage.replace("data/a/b", b"1")
    storage.replace("log/a", b"1")
    before = {*storage.folders()}
    for _ in range(2):
        storage.check_moves()
    assert sorted(storage.list("")) == ["data/a/b", "log/a"]
    assert {*storage.folders()} == before
    root = storage.local_path("")
    assert root is None or not any(path.name == ".probe" for path in root.glob("**/*"))


def test_what_an_earlier_look_has_left_is_no_trouble(tmp_path: Path) -> None:
    """It was killed in the middle."""
    (tmp_path / "data/.probe").mkdir(parents=True)
    (tmp_path / "staging/.probe").mkdir(parents=True)
    LocalStorage(str(tmp_path)).check_moves()
    assert not any(path.name == ".probe" for path in tmp_path.glob("**/*"))


@pytest.mark.parametrize("what", ["link", "file"])
def test_a_folder_that_is_none_is_found(tmp_path: Path, what: str) -> None:
    """A link that leads nowhere, or a file in its place."""
    path = tmp_path / "data"
    if what == "link":
        path.symlink_to(tmp_path / "nowhere")
    else:
        path.write_bytes(b"")
    with pytest.raises(StorageError, match=re.escape(f"cannot move files from staging to {path}")):
        LocalStorage(str(tmp_path)).check_moves()
