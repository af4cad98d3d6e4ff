"""Large files in Cloud Storage: what is fetched of them, and what becomes of a file that moves."""

from __future__ import annotations

import io
import random
import re
import uuid
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import pyarrow as pa
import pytest

import batch_collection
from batch_collection.errors import DamagedFileError, ExpiredError, FileGoneError, StorageError
from batch_collection.log.batch import opened
from batch_collection.log.entries import create_entry
from batch_collection.publishing.expire import expire
from batch_collection.publishing.publish import publish
from batch_collection.storage import gcs_client
from batch_collection.storage.contract import PartedStorage
from batch_collection.storage.opening import open_storage
from tests.builders import first_entry
from tests.services.faults import FAULTS, FaultProxy
from tests.services.gcs import BUCKET
from tests.tables import FIRST, MINUTE, TableCollector

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path
    from typing import Any

    from batch_collection.collection import Collection
    from batch_collection.storage.contract import Storage
    from tests.services.gcs import FakeGcs

FILES, GROUPS, GROUP_ROWS = 6, 4, 250
FOOTER = 64 << 10
"""Bytes that Arrow asks for to find a footer."""
CONTENT = random.Random(1).randbytes(300_000)
NAMES = ("data/a.parquet", "staging/1/a.parquet")


@pytest.fixture
def proxy(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stand between the client and the server; files are large above 256 KiB."""
    with FaultProxy(gcs) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setattr("batch_collection.log.batch._IN_ONE", 256 << 10)
        yield proxy


@pytest.fixture
def storage(proxy: FaultProxy) -> Storage:
    """Return an empty storage behind the proxy."""
    assert proxy
    return open_storage(f"gs://{BUCKET}/ranges/{uuid.uuid4().hex[:8]}")


@pytest.fixture
def collector(storage: Storage) -> TableCollector:
    """Begin a collection whose files have row groups of 250 rows, a kilobyte each."""
    entry = create_entry(storage, first_entry(committed_at=FIRST))
    return TableCollector(storage, entry, row_group=GROUP_ROWS)


def rows_of(number: int, groups: int = GROUPS) -> pa.Table:
    """Return rows of which none can be compressed."""
    count = groups * GROUP_ROWS
    content = random.Random(number).randbytes(count * 1024)
    payload = [content[1024 * n : 1024 * (n + 1)].hex()[:1024] for n in range(count)]
    ids = np.arange(count) + number * count
    return pa.table({"id": ids, "payload": payload})


class Taken(NamedTuple):
    """Requests for objects' content, and the bytes of all answers."""

    fetches: int
    bytes: int


def taken(proxy: FaultProxy, act: Callable[[], object]) -> Taken:
    """Count what an act takes."""
    proxy.seen, proxy.answered = [], 0
    act()
    return Taken(sum(".parquet?" in seen for seen in proxy.seen), proxy.answered)


def collected(collector: TableCollector) -> Collection:
    """Collect the files."""
    return collector.collect(*((number, rows_of(number)) for number in range(FILES)), closed=FILES)


def sizes(view: Collection) -> list[int]:
    """Return the bytes of the files."""
    return [batch.storage.size(batch.path) or 0 for batch in view]


def test_opening_a_collection_fetches_footers_only(
    collector: TableCollector, proxy: FaultProxy
) -> None:
    """One request for each large file; of 1,000 files that makes 64 MB, whatever they weigh."""
    view = collected(collector)
    assert min(sizes(view)) > 8 * FOOTER
    found = taken(proxy, lambda: view.schema)

    assert found.fetches == FILES
    assert FILES * FOOTER <= found.bytes < (FILES + 1) * FOOTER


def test_a_shuffle_fetches_each_row_group_once(
    collector: TableCollector, proxy: FaultProxy
) -> None:
    """And no footer again: each row group that stands alone is one request."""
    view = collected(collector)
    assert view.schema.names
    ids: list[int] = []

    def shuffled() -> None:
        for batch in view.to_numpy_batches(100, shuffle=1, columns=["id", "payload"]):
            ids.extend(batch["id"].tolist())

    found = taken(proxy, shuffled)

    assert sorted(ids) == list(range(FILES * GROUPS * GROUP_ROWS))
    assert found.fetches <= FILES * GROUPS
    assert sum(sizes(view)) * 0.95 < found.bytes < sum(sizes(view)) * 1.05


def test_a_column_is_fetched_without_the_others(
    collector: TableCollector, proxy: FaultProxy
) -> None:
    """Of a table, of a scan, and of one batch."""
    view = collected(collector)
    first = next(iter(view))
    expected = list(range(FILES * GROUPS * GROUP_ROWS))

    def read() -> None:
        assert view.to_arrow(["id"])["id"].to_pylist() == expected
        assert sorted(view.scan(["id"]).to_table()["id"].to_pylist()) == expected
        assert first.table(["id"])["id"].to_pylist() == expected[: GROUPS * GROUP_ROWS]

    assert taken(proxy, read).bytes < sum(sizes(view)) / 2


def test_all_rows_are_what_was_written(collector: TableCollector) -> None:
    """By ranges as from a disk."""
    view = collected(collector)
    expected = pa.concat_tables(rows_of(number) for number in range(FILES))

    assert view.to_arrow(["id", "payload"]).equals(expected)
    assert view.scan(["id", "payload"]).to_table().equals(expected)


def test_a_small_file_is_one_request(
    collector: TableCollector, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Up to 8 MiB, here up to 8 MB and more."""
    monkeypatch.undo()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
    view = collected(collector)
    first = next(iter(view))
    found = taken(proxy, first.table)

    assert found.fetches == 1
    assert found.bytes == sizes(view)[0]


def test_a_file_that_is_published_while_it_is_read_is_read_on(
    collector: TableCollector, proxy: FaultProxy
) -> None:
    """Under its visible name, by the generation that is there."""
    view = collector.collect((0, rows_of(0)), published=False)
    (batch,) = view
    file = opened(batch)
    begin = file.read(1000)
    publish(collector.storage, collector.newest)
    proxy.seen = []
    rest = file.read()

    assert begin + rest == collector.storage.read(batch.path)
    assert "/staging%2F" in _quoted(proxy.seen[0])
    assert "/data%2F" in _quoted(proxy.seen[1])
    file.seek(5)
    assert file.read(10) == begin[5:15]
    assert "generation=" in proxy.seen[-1]
    assert view.to_arrow(["id"]).num_rows == GROUPS * GROUP_ROWS


def _quoted(request: str) -> str:
    return re.sub(r".*?/o/.*?(%2F)(staging|data)", r"/\2", request)


def test_a_footer_that_was_kept_serves_a_file_that_moved(collector: TableCollector) -> None:
    """It lies at its other name, and has the same rows."""
    view = collector.collect((0, rows_of(0)), published=False)
    assert view.schema.names
    publish(collector.storage, collector.newest)

    assert view.to_arrow(["id", "payload"]).equals(rows_of(0))


def test_a_file_that_is_gone_is_a_clear_error(collector: TableCollector) -> None:
    """Before it is opened, or while it is read; however it is read."""
    view = collected(collector)
    batch = next(iter(view))
    file = opened(batch)
    file.read(10)
    assert view.schema.names
    collector.storage.delete([batch.path])

    message = f"{batch.path} is gone, though the log names it; run `batch-collection audit`"
    ways: list[Callable[[], object]] = [
        file.read,
        batch.table,
        lambda: view.to_arrow(["id"]),
        lambda: view.scan(["id"]).to_table(),
        lambda: batch_collection.open(collector.storage).schema,
    ]
    for way in ways:
        with pytest.raises(FileGoneError, match=re.escape(message)):
            way()


def test_a_file_that_expired_while_it_was_read_says_so(collector: TableCollector) -> None:
    """As one does that was not opened yet."""
    view = collected(collector)
    collector.collect((FILES, rows_of(FILES)), closed=FILES)
    batch = next(iter(view))
    file = opened(batch)
    file.read(10)
    expire(collector.storage, FIRST + 2 * MINUTE, now=FIRST + 60 * MINUTE)

    for way in (file.read, batch.table):
        with pytest.raises(ExpiredError, match=f"batch {batch.id} was expired"):
            way()


@pytest.mark.parametrize("size", [10, 200_000, 2_000_000])
def test_a_file_of_another_size_is_refused(collector: TableCollector, size: int) -> None:
    """Shorter than what is asked, or longer."""
    view = collector.collect((0, rows_of(0)))
    (batch,) = view
    collector.storage.delete([batch.path])
    collector.storage.create(batch.path, bytes(size))

    with pytest.raises(
        DamagedFileError, match=f"cannot read {re.escape(batch.path)}: it has .* the"
    ):
        batch.table()


def parts(storage: Storage, size: int = len(CONTENT)) -> Any:
    """Open the object by ranges."""
    assert isinstance(storage, PartedStorage)
    return storage.open_parts(NAMES, size, lambda: FileGoneError("it is gone"))


def test_a_file_that_was_changed_while_it_is_read_is_refused(storage: Storage) -> None:
    """No read mixes two files, though both have the size that the log says."""
    storage.create(NAMES[0], CONTENT)
    file = parts(storage)
    file.read(10)
    storage.delete([NAMES[0]])
    storage.create(NAMES[0], CONTENT[::-1])

    for _ in range(2):
        with pytest.raises(DamagedFileError, match=r"data/a\.parquet: it was changed while it was"):
            file.read(10)
    storage.delete([NAMES[0]])
    storage.create(NAMES[1], CONTENT)
    assert file.read(10) == CONTENT[10:20]


def test_a_file_that_is_moved_between_two_looks_is_found(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not visible yet, staged no more: the third look finds it."""
    storage.create(NAMES[1], CONTENT)
    beside, choose = open_storage(storage.uri), proxy.fault

    def fault(method: str, path: str) -> str | None:
        if method == "GET" and "staging" in path:
            monkeypatch.setattr(proxy, "fault", choose)
            beside.move([(NAMES[1], NAMES[0])])
        return choose(method, path)

    monkeypatch.setattr(proxy, "fault", fault)

    assert parts(storage).read() == CONTENT


@pytest.mark.parametrize("kind", FAULTS)
def test_a_read_that_fails_on_the_way_is_done(
    storage: Storage, proxy: FaultProxy, kind: str
) -> None:
    """Sent again, whatever became of its answer; none of it is read twice."""
    storage.create(NAMES[1], CONTENT)
    file = parts(storage)
    for start in range(0, len(CONTENT), 100_000):
        proxy.fail(kind, "GET", "staging")
        assert file.read(100_000) == CONTENT[start : start + 100_000]

    assert file.read(1) == b""
    assert len(proxy.failed) == (0 if kind == "412" else 3)


def test_a_service_that_refuses_is_one_clear_line(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A right that lacks, and a service that stays away."""
    monkeypatch.setattr(gcs_client, "RETRY_SECONDS", 0.5)
    storage.create(NAMES[0], CONTENT)
    proxy.fail("403", "GET")
    with pytest.raises(StorageError, match=r"cannot read data/a.parquet in bucket=.*: no right;"):
        parts(storage).read(10)
    proxy.fail("503", "GET", times=1000)
    with pytest.raises(StorageError, match=r"cannot read data/a.parquet in bucket=.*: try again"):
        parts(storage).read(10)


def test_it_is_a_file_like_others(storage: Storage, proxy: FaultProxy, tmp_path: Path) -> None:
    """Places, ends and a closed file are as on a disk; nothing is asked that need not be."""
    storage.create(NAMES[0], CONTENT)
    path = tmp_path / "a"
    path.write_bytes(CONTENT)
    proxy.seen = []
    chosen = random.Random(2)
    with parts(storage) as ours, path.open("rb") as theirs:
        assert proxy.seen == []
        assert (ours.readable(), ours.seekable(), ours.writable()) == (True, True, False)
        for _ in range(30):
            whence = chosen.choice([io.SEEK_SET, io.SEEK_CUR, io.SEEK_END])
            offset = chosen.randrange(-len(CONTENT), len(CONTENT))
            if offset >= (0, -theirs.tell(), -len(CONTENT))[whence]:
                assert ours.seek(offset, whence) == theirs.seek(offset, whence)
            size = chosen.choice([0, 1, 999, 70_000, -1])
            assert ours.read(size) == theirs.read(size)
            here, there = bytearray(7), bytearray(7)
            assert (ours.readinto(here), here) == (theirs.readinto(there), there)
            assert ours.tell() == theirs.tell()
        with pytest.raises(ValueError, match="negative"):
            ours.seek(-1)
    for act in (lambda: ours.read(1), lambda: ours.seek(0)):
        with pytest.raises(ValueError, match="closed"):
            act()
