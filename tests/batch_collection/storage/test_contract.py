"""The storage contract, as every storage keeps it."""

from __future__ import annotations

import os
import re
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.errors import AlreadyExistsError, FileGoneError, StorageError
from batch_collection.storage.opening import open_storage

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

pytestmark = pytest.mark.parametrize("new_uri", ["local", "gcs", "newest", "memory"], indirect=True)


def test_a_storage_says_where_it_is(storage: Storage) -> None:
    """It is opened again by its URI; a file on a disk has its path there, and a handle."""
    storage.create("log/0.json", b"entry")
    again, path = open_storage(storage.uri), storage.local_path("log/0.json")

    assert (again.uri, again.read("log/0.json")) == (storage.uri, b"entry")
    assert storage.is_far == (path is None)
    if path is not None:
        assert path.read_bytes() == b"entry"
        with storage.open("log/0.json") as file:
            assert os.path.samestat(os.fstat(file.fileno()), path.stat())


def files(storage: Storage) -> set[str]:
    """Return all files there are, drafts too."""
    return set(storage.list(""))


def test_create_writes_a_whole_file_and_leaves_no_draft(storage: Storage) -> None:
    """What is created is all that lies there."""
    storage.create("log/0.json", b"entry")

    assert storage.read("log/0.json") == b"entry"
    assert files(storage) == {"log/0.json"}


def test_of_many_creates_exactly_one_wins(storage: Storage) -> None:
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


def test_replace_writes_over(storage: Storage) -> None:
    """The last content stays, whole, and no draft."""
    storage.replace("cursors/a.json", b"first, and longer")
    storage.replace("cursors/a.json", b"second")

    assert storage.read("cursors/a.json") == b"second"
    assert files(storage) == {"cursors/a.json"}


def test_parquet_and_arrow_write_into_a_sink(storage: Storage) -> None:
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


def test_a_sink_tells_where_it_is_and_closes_once(storage: Storage) -> None:
    """Closing again does nothing; writing then is refused."""
    sink = storage.write("staging/1/a")
    assert (sink.write(b"abc"), sink.tell(), sink.closed) == (3, 3, False)
    sink.flush()
    sink.close()
    sink.close()

    assert sink.closed
    with pytest.raises(ValueError, match="closed"):
        sink.write(b"d")


def test_a_sink_that_is_dropped_is_no_file(storage: Storage) -> None:
    """Garbage collection finishes nothing."""
    sink = storage.write("staging/1/a")
    sink.write(b"half")
    del sink

    assert files(storage) == set()


def test_a_missing_file_is_a_file_not_found_error(storage: Storage) -> None:
    """Reading and opening say so; its size is None."""
    with pytest.raises(FileNotFoundError):
        storage.read("log/0.json")
    with pytest.raises(FileNotFoundError):
        storage.open("log/0.json")
    assert storage.size("log/0.json") is None


def test_moving_again_changes_nothing(storage: Storage) -> None:
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


def test_moving_what_is_nowhere_is_refused(storage: Storage) -> None:
    """A committed file that is gone must not go unnoticed."""
    with pytest.raises(FileGoneError, match=re.escape("cannot move staging/1/a: it is gone")):
        storage.move([("staging/1/a", "data/a")])


def test_writers_and_deleters_of_one_folder_do_not_disturb_each_other(
    storage: Storage,
) -> None:
    """A folder removed as an empty one is made again by whoever needs it."""

    def write(number: int) -> None:
        storage.write(f"staging/1/{number}").close()
        storage.move([(f"staging/1/{number}", f"data/{number}")])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(write, range(200)))

    assert files(storage) == {f"data/{number}" for number in range(200)}


def test_listing_a_missing_folder_is_empty(storage: Storage) -> None:
    """Before the first cycle there are no folders."""
    assert list(storage.list("staging")) == []


def test_a_listing_may_begin_and_end_anywhere(storage: Storage) -> None:
    """At names that are there, and at others; both ends are included."""
    for name in ("a", "b", "b x", "c/x", "d"):
        storage.create(f"log/{name}", b"")

    assert set(storage.list("log", "log/b", "log/c")) == {"log/b", "log/b x"}
    assert set(storage.list("log", "log/a!", "log/b")) == {"log/b"}
    assert set(storage.list("log", "log/b#")) == {"log/c/x", "log/d"}
    assert set(storage.list("log", end="log/b")) == {"log/a", "log/b"}


def test_a_file_is_never_written_twice(storage: Storage) -> None:
    """Staged names are drawn at random; a clash is an error when it shows, not an overwrite."""
    with storage.write("staging/1/a") as sink:
        sink.write(b"first")

    with (
        pytest.raises(StorageError, match=re.escape("cannot write staging/1/a: File exists")),
        storage.write("staging/1/a") as sink,
    ):
        sink.write(b"second")
    assert storage.read("staging/1/a") == b"first"


def test_a_failed_write_leaves_nothing(storage: Storage) -> None:
    """An error in the block abandons the file."""

    def write_half() -> None:
        with storage.write("staging/1/a") as sink:
            sink.write(b"half")
            message = "no more"
            raise RuntimeError(message)

    with pytest.raises(RuntimeError, match="no more"):
        write_half()
    assert files(storage) == set()


def test_deleting_takes_what_is_there(storage: Storage) -> None:
    """What isn't there is no error."""
    for name in ("1/a", "2/b", "2/c"):
        storage.write(f"carry/{name}").close()
    storage.delete(["carry/1/a", "carry/2/b", "carry/3/d"])

    assert files(storage) == {"carry/2/c"}


def test_folders_are_those_of_the_root(storage: Storage) -> None:
    """None where nothing is; files don't count."""
    assert list(storage.folders()) == []
    for path in ("log/0.json", "data/x/a", "data/y/b", "readme"):
        storage.create(path, b"")

    assert sorted(set(storage.folders()) - {"staging"}) == ["data", "log"]


def test_a_file_that_is_open_stays_readable(storage: Storage) -> None:
    """Moved or deleted under its reader."""
    with storage.write("staging/1/a") as sink:
        sink.write(b"content")
    with storage.open("staging/1/a") as file:
        storage.move([("staging/1/a", "data/a")])
        storage.delete(["data/a"])
        assert (file.read(3), file.seek(0), file.read()) == (b"con", 0, b"content")


def test_a_listing_may_begin_at_a_name(storage: Storage) -> None:
    """It is given with those behind it, folders as they sort by their files; one that is gone, too.

    Nothing that only has that name in its front is taken for another folder's.
    """
    names = ["log/001.json", "log/002.json", "log/010.json", "log/checkpoint-1.json", "logs/1"]
    for name in names:
        storage.replace(name, b"1")
    assert sorted(storage.list("log", "log/002.json")) == names[1:4]
    assert sorted(storage.list("log", "log/003.json")) == names[2:4]
    assert list(storage.list("log", "log/d")) == []
    assert sorted(storage.list("log")) == names[:4]
