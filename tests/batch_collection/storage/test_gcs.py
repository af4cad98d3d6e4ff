"""Cloud Storage: what is sent again, what an answer means, and what a user is told."""

from __future__ import annotations

import json
import random
import re
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import uuid
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from batch_collection.errors import AlreadyExistsError, CollectionError, StorageError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import read_entries
from batch_collection.storage import gcs_client
from batch_collection.storage.gcs_client import RETRY_SECONDS
from batch_collection.storage.gcs_upload import PART
from batch_collection.storage.opening import open_storage
from tests.builders import Collector, dead_letter, message
from tests.services.faults import FAULTS, FaultProxy
from tests.services.gcs import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.storage.contract import Storage
    from tests.services.gcs import FakeGcs

# the client leaves an answer to a failed download unread, for the garbage collection to close
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)

ROOT = Path(__file__).parents[3]
LARGE = 2 * PART + 12_345
"""Bytes of a file of three parts."""


@pytest.fixture
def proxy(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stand between the client and the server."""
    with FaultProxy(gcs) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def storage(proxy: FaultProxy) -> Storage:
    """Return an empty storage behind the proxy."""
    assert proxy
    return new_storage()


def new_storage() -> Storage:
    """Return an empty storage."""
    return open_storage(f"gs://{BUCKET}/gcs/{uuid.uuid4().hex[:8]}")


def write(storage: Storage, path: str, content: bytes) -> None:
    """Write a file, piece by piece as Arrow does."""
    with storage.write(path) as sink:
        for start in range(0, len(content), 1 << 20):
            sink.write(content[start : start + (1 << 20)])


@pytest.mark.parametrize("kind", FAULTS)
def test_a_create_that_fails_on_the_way_is_done_once_and_known_as_ours(
    storage: Storage, proxy: FaultProxy, kind: str
) -> None:
    """Also when its answer was lost, and the next one says that the object is there."""
    proxy.fail(kind, "POST", "/upload/")
    storage.create("log/0.json", b"ours")

    assert len(proxy.failed) == 1
    assert storage.read("log/0.json") == b"ours"
    with pytest.raises(AlreadyExistsError):
        storage.create("log/0.json", b"theirs")
    assert storage.read("log/0.json") == b"ours"


@pytest.mark.parametrize("kind", FAULTS)
def test_a_create_that_lost_learns_so_whatever_becomes_of_its_answers(
    storage: Storage, proxy: FaultProxy, kind: str
) -> None:
    """Another's entry is never taken for ours."""
    storage.create("log/0.json", b"theirs")
    proxy.fail(kind, "POST", "/upload/")
    proxy.fail(kind, "GET")

    with pytest.raises(AlreadyExistsError):
        storage.create("log/0.json", b"ours")
    assert storage.read("log/0.json") == b"theirs"


@pytest.mark.parametrize(
    ("kind", "nth"),
    [
        (kind, nth)
        for kind in FAULTS
        for nth in ("begin", "first", "second", "last")
        if (kind, nth) != ("412", "begin")  # nothing is there yet
    ],
)
def test_a_large_file_whose_upload_fails_in_any_part_arrives_whole(
    storage: Storage, proxy: FaultProxy, kind: str, nth: str
) -> None:
    """The service is asked what it has, and gets the rest: no byte is lost, and none is twice."""
    method, pattern = {
        "begin": ("POST", "uploadType=resumable"),
        "first": ("PUT", "upload_id="),
        "second": ("PUT", "upload_id="),
        "last": ("PUT", "upload_id="),
    }[nth]
    content = random.Random(1).randbytes(LARGE)
    proxy.fail("stall", method, pattern, times={"second": 1, "last": 2}.get(nth, 0))
    proxy.fail(kind, method, pattern)
    write(storage, "staging/1/a", content)

    assert proxy.failed[-1].startswith(f"{kind}:")
    assert proxy.sent_again == 0
    with storage.open("staging/1/a") as file:
        assert file.read() == content


@pytest.mark.parametrize("kind", FAULTS)
def test_every_other_call_that_fails_on_the_way_is_done(
    storage: Storage, proxy: FaultProxy, kind: str
) -> None:
    """Small and large reads, sizes, lists, replacing, moving and deleting: sent again, unharmed."""
    content = random.Random(1).randbytes(3_000_000)
    write(storage, "staging/1/a", content)
    write(storage, "staging/1/b", b"b")

    proxy.fail(kind)
    assert storage.size("staging/1/a") == len(content)
    proxy.fail(kind)
    assert storage.read("staging/1/a") == content
    proxy.fail(kind)
    with storage.open("staging/1/a") as file:
        assert file.read() == content
    proxy.fail(kind)
    assert sorted(storage.list("staging")) == ["staging/1/a", "staging/1/b"]
    proxy.fail(kind, "POST", "rewriteTo")
    proxy.fail(kind, "DELETE")
    storage.move([("staging/1/a", "data/a")])
    proxy.fail(kind, "GET")
    proxy.fail(kind, "POST", "/upload/")
    storage.replace("cursors/c.json", b"1")
    storage.replace("cursors/c.json", b"2")
    proxy.fail(kind, "DELETE")
    storage.delete(["staging/1/b"])

    assert sorted(storage.list("")) == ["cursors/c.json", "data/a"]
    assert storage.read("data/a") == content
    assert storage.read("cursors/c.json") == b"2"


def test_five_seconds_without_an_answer_are_waited_for(storage: Storage, proxy: FaultProxy) -> None:
    """A stall is no failure."""
    proxy.stall_seconds = 5
    proxy.fail("stall", "POST", "/upload/")
    began = time.monotonic()
    storage.create("log/0.json", b"ours")

    assert time.monotonic() - began > 5
    assert len([seen for seen in proxy.seen if "/upload/" in seen]) == 1


def test_a_service_that_stays_away_is_one_clear_line(
    storage: Storage, proxy: FaultProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After two minutes; here after half a second."""
    assert RETRY_SECONDS == 120
    monkeypatch.setattr(gcs_client, "RETRY_SECONDS", 0.5)
    proxy.fail("503", times=1000)

    expected = f"cannot create log/0.json in bucket={BUCKET}: try again (tried again for 0s)"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.create("log/0.json", b"entry")
    with pytest.raises(StorageError, match="cannot write staging/1/a"):
        write(storage, "staging/1/a", b"a")
    with pytest.raises(StorageError, match="cannot write staging/1/b"):
        write(storage, "staging/1/b", bytes(LARGE))


def test_an_upload_that_is_given_up_is_no_object(storage: Storage) -> None:
    """Nothing is seen of it, and a new one may take the name."""
    sink = storage.write("staging/1/a")
    sink.write(bytes(LARGE))
    sink.abandon()

    assert list(storage.list("")) == []
    write(storage, "staging/1/a", b"whole")
    assert storage.read("staging/1/a") == b"whole"


def test_an_object_that_arrives_damaged_is_refused(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum of what was written is compared with that of what is there."""
    sink = storage.write("staging/1/a")
    sink.write(bytes(LARGE))
    monkeypatch.setattr(sink, "_sum", 1)

    with pytest.raises(StorageError, match="arrived with another size or checksum"):
        sink.close()


def test_a_bucket_that_can_move_objects_moves_them(
    gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a hierarchical namespace: one call a file, whatever fails on the way."""
    with FaultProxy(gcs, hierarchical=True) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        monkeypatch.setattr("batch_collection.storage.gcs._immovable", set())
        storage = new_storage()
        for name in "abc":
            write(storage, f"staging/1/{name}", name.encode())
        storage.move([("staging/1/a", "data/a")])
        proxy.fail("lost", "POST", "moveTo")
        storage.move([("staging/1/b", "data/b")])
        proxy.fail("503", "POST", "moveTo")
        storage.move([("staging/1/b", "data/b"), ("staging/1/c", "data/c")])

        assert sorted(storage.list("")) == ["data/a", "data/b", "data/c"]
        assert not any(seen.startswith("DELETE") for seen in proxy.seen)
        with pytest.raises(StorageError, match=re.escape("cannot move staging/1/d: it is gone")):
            storage.move([("staging/1/d", "data/d")])


def test_a_collection_written_in_a_storm_is_whole(storage: Storage, proxy: FaultProxy) -> None:
    """A fifth of all requests fail in some way; nothing is lost, nothing is there twice."""
    proxy.storm(1, 0.2)
    collector = Collector(storage, batch_size=2)
    for number in range(3):
        messages = [message(10 * number + i, f"10:3{number}:00") for i in range(5)]
        collector.collect(*messages, dead_letter(10 * number + 9), boundary=f"10:3{number + 1}:00")
    proxy.storm(1, 0)

    found = audit(storage)
    assert found.findings == ()
    assert (found.counts.rows, found.counts.dead_letters) == (15, 3)
    assert list(storage.list("staging")) == []
    assert len({failed.partition(":")[0] for failed in proxy.failed}) >= 5


def test_files_are_moved_several_at_once(storage: Storage, proxy: FaultProxy) -> None:
    """Twenty files take much less than twenty times the wait of one."""
    moves = [(f"staging/1/{number}", f"data/{number}") for number in range(20)]
    for staged, _ in moves:
        write(storage, staged, b"x")
    proxy.stall_seconds = 0.5
    proxy.fail("stall", "POST", "rewriteTo", times=20)
    began = time.monotonic()
    storage.move(moves)

    assert time.monotonic() - began < 20 * 0.5 / 2


def test_the_log_is_read_ahead(storage: Storage, proxy: FaultProxy) -> None:
    """Twenty entries take much less than twenty times the wait of one, and keep their order."""
    collector = Collector(storage)
    for number in range(19):
        collector.collect(message(number), published=False)
    proxy.stall_seconds = 0.5
    proxy.fail("stall", "GET", "/log", times=20)
    began = time.monotonic()
    entries = list(read_entries(storage, 0, 19))

    assert time.monotonic() - began < 20 * 0.5 / 2
    assert [entry.cycle for entry in entries] == list(range(20))


def test_a_large_file_is_sent_while_it_is_written_two_parts_at_a_time(
    storage: Storage, proxy: FaultProxy
) -> None:
    """Writing goes on during the first part's upload, and stops before a third part is held."""
    proxy.stall_seconds = 2
    proxy.fail("stall", "PUT", "upload_id=")
    sink = storage.write("staging/1/a")
    began = time.monotonic()
    sink.write(bytes(PART + 1))
    sink.write(bytes(PART - 1))
    at_two = time.monotonic() - began
    sink.write(b"x")
    at_three = time.monotonic() - began
    sink.close()

    assert at_two < 1.5
    assert at_three > 2


def test_a_file_of_any_size_takes_the_memory_of_a_few_parts(storage: Storage) -> None:
    """A hundred megabytes are written with less than four parts in memory."""
    piece = bytes(1 << 20)
    tracemalloc.start()
    try:
        with storage.write("staging/1/a") as sink:
            for _ in range(100):
                sink.write(piece)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert storage.size("staging/1/a") == 100 * len(piece)
    assert most < 4 * PART


def test_opening_is_cheap_and_asks_nobody(proxy: FaultProxy) -> None:
    """Each element of a pipeline opens the storage anew; the connection is kept."""
    began = time.monotonic()
    for _ in range(10_000):
        open_storage(f"gs://{BUCKET}/prefix/topic")

    assert time.monotonic() - began < 1
    assert proxy.seen == []


def test_threads_share_one_connection(storage: Storage) -> None:
    """Also those that ask for it at the same moment."""
    barrier = threading.Barrier(8)

    def connect(_: int) -> int:
        barrier.wait()
        return id(gcs_client.connection().client)

    with ThreadPoolExecutor(8) as pool:
        assert storage
        assert len(set(pool.map(connect, range(8)))) == 1


def test_a_missing_bucket_is_said_before_anything_else(gcs: FakeGcs, new: Storage) -> None:
    """Writing names the bucket; so does a reader that finds no collection."""
    assert gcs
    expected = "bucket=no-such-bucket does not exist; create it first"
    with pytest.raises(StorageError, match=re.escape(expected)):
        new.replace("staging/0/probe", b"")
    with pytest.raises(StorageError, match=re.escape(expected)):
        list(new.folders())


@pytest.fixture
def new(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Storage:
    """Return a storage in a bucket that isn't there."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    return open_storage("gs://no-such-bucket/prefix")


def test_a_forbidden_write_is_one_clear_line(storage: Storage, proxy: FaultProxy) -> None:
    """It says what is lacking, and is not tried again."""
    proxy.fail("403", times=5)

    expected = f"cannot write a in bucket={BUCKET}: no right; grant the account the role"
    with pytest.raises(StorageError, match=re.escape(expected)):
        storage.replace("a", b"")
    assert len([seen for seen in proxy.seen if "/o/" in seen]) == 1


@pytest.mark.parametrize(
    ("key", "said"),
    [
        (None, "was not found"),
        ("not JSON", "is not a valid json file"),
        ('{"type": "service_account"}', "Failed to load service account credentials"),
    ],
)
def test_bad_credentials_are_one_clear_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str | None, said: str
) -> None:
    """It names the file, and both ways to mend it."""
    path = tmp_path / "key.json"
    if key is not None:
        path.write_text(key)
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))

    with pytest.raises(CollectionError, match=re.escape(said)) as caught:
        open_storage("gs://bucket/prefix").replace("a", b"")
    assert "GOOGLE_APPLICATION_CREDENTIALS" in str(caught.value)
    assert "gcloud auth application-default login" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_key_that_is_refused_is_one_clear_line(
    proxy: FaultProxy, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was deleted, or is another's: the service for tokens says no."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    account = {
        "type": "service_account",
        "client_email": "collector@project.iam.gserviceaccount.com",
        "private_key": key.decode(),
        "token_uri": f"{proxy.url}/token",
    }
    path = tmp_path / "key.json"
    path.write_text(json.dumps(account))
    monkeypatch.delenv("STORAGE_EMULATOR_HOST")
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    gcs_client._connect.cache_clear()  # noqa: SLF001 - of a process that begins now
    proxy.fail("403", "POST", "/token", times=9)

    with pytest.raises(StorageError, match="cannot write a in bucket=bucket: no usable Google"):
        open_storage("gs://bucket/prefix").replace("a", b"")
    gcs_client._connect.cache_clear()  # noqa: SLF001
    assert set(proxy.seen) == {"POST /token"}


def test_a_directory_loads_nothing_of_google_but_its_checksum() -> None:
    """Who writes to a disk neither waits for the client nor needs credentials."""
    code = (
        "import json, sys, batch_collection as b; "
        "from batch_collection.storage.opening import open_storage; open_storage('x'); "
        "print(json.dumps([n for n in sys.modules if n.startswith('google.')]))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert json.loads(done.stdout) == []


def test_the_fake_service_ends_with_the_process_that_started_it() -> None:
    """Whatever way that one ends: here by SIGKILL."""
    code = (
        "import os; from tests.services.gcs import FakeGcs; server = FakeGcs().__enter__(); "
        "print(server.address, flush=True); os.kill(os.getpid(), 9)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    host, port = done.stdout.strip().split(":")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        with socket.socket() as client:
            if client.connect_ex((host, int(port))):
                return
        time.sleep(0.05)
    pytest.fail(f"a server still listens at {host}:{port}")
