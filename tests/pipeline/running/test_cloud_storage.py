"""Collecting to Cloud Storage: crashes, rivals and bad networks, and what readers see of it."""

from __future__ import annotations

import itertools
import json
import random
import re
import signal
import socket
import time
import uuid
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import pyarrow.dataset
import pyarrow.fs
import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.storage.opening import open_storage
from pipeline.cli import main
from pipeline.running.outcome import OTHER_COLLECTOR
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Sending,
    Stream,
    check,
    entries_of,
    run_command,
    sending,
    strays_of,
)
from tests.interposed import interposed
from tests.services.faults import FaultProxy
from tests.services.gcs import BUCKET
from tests.services.kafka import kafka_jars
from tests.services.made import UnavailableError
from tests.storages import Died, DyingStorage

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.collecting import AnyBroker
    from tests.services.gcs import FakeGcs
    from transforms.sources.kafka.embedded import EmbeddedBroker

FLAGS = ("--interval=10s", "--batch_size=5")
LIVE = ("--interval=1s", "--grace=0s", "--batch_size=100")
"""Flags of a collector that runs by the real clock."""

# the client leaves an answer to a failed download unread, and a writer dies with its storage
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def output(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an empty prefix in the bucket, for this process and those it starts."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    return new_output()


def new_output() -> str:
    """Return an empty prefix in the bucket."""
    return f"gs://{BUCKET}/pipeline/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def broker(request: pytest.FixtureRequest) -> AnyBroker:
    """Return the real broker where it can be had, else the embedded one."""
    try:
        kafka_jars()
    except UnavailableError:
        return request.getfixturevalue("embedded")
    return request.getfixturevalue("kafka")


def produce(stream: Stream) -> list[tuple[int, int]]:
    """Send what makes early, on-time and late panes, carry and dead letters; return the last."""
    rows = [row("10:30:01", number) for number in range(4)]
    rows += [row("10:30:11", number) for number in range(6)]
    rows += [row("10:30:21", number) for number in range(7)]
    bad = [Sending(b"{", at("10:30:12"), 2)]
    produced = stream.send(*rows, *bad)
    return [(message.partition, message.offset) for message in produced if message.value == b"{"]


def row(clock: str, number: int) -> Sending:
    """Return a message; its partition and time follow its number."""
    stamp = at(clock) + timedelta(milliseconds=100 * number)
    return sending(stamp, number % 4, id=f"{clock}+{number}", value=number)


def collect(collecting: Collecting) -> None:
    """Collect in three cycles, the last of which closes everything."""
    collecting.once(at("10:30:14"))
    collecting.once(at("10:30:22"))
    collecting.once(at("10:30:42"))


# the same as on a directory


def test_commands_and_readers_see_on_cloud_storage_what_they_see_on_a_directory(
    embedded: EmbeddedBroker, output: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``audit``, ``status``, ``follow`` and ``open``, but for the names."""
    stream = Stream(embedded)
    dead = produce(stream)
    seen = []
    for place in (str(tmp_path / "local"), output):
        collect(Collecting.of(stream, place, *FLAGS))
        seen.append(looked_at(f"{place}/{stream.name}", capsys))

    assert seen[0] == seen[1]
    assert seen[0]["audit"].startswith("ok: ")
    check(tmp_path / "local" / stream.name, stream.produced, dead=dead)


def looked_at(collection: str, capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    """Return what commands and readers say of a collection, without what is drawn or timed.

    Nor do bytes count: partitions are read at once, and rows in another order take some more.
    """
    capsys.readouterr()
    assert main(["audit", collection]) == 0
    verdict = capsys.readouterr().out.strip()
    said: dict[str, Any] = {"audit": re.sub(r" \([\d.]+ k?B\)", "", verdict)}
    assert main(["status", collection, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["totals"].pop("bytes") > 0
    said["status"] = {name: found[name] for name in ("boundary", "totals", "open_windows")}
    assert main(["status", collection]) == 0
    assert collection in capsys.readouterr().out
    for _ in range(2):
        assert main(["follow", collection, "--cursor=me", "--once"]) == 0
        lines = capsys.readouterr().out.splitlines()
        said.setdefault("follow", [line.rpartition("  ")[0] for line in lines])
    assert lines == []  # the place was remembered
    view = batch_collection.open(collection)
    said["rows"] = sorted(view.table().to_pylist(), key=str)
    said["windows"] = [(w.start, w.rows, w.is_closed) for w in view.windows()]
    return said


def test_a_reader_that_went_to_the_wrong_folder_is_told_the_right_one(
    embedded: EmbeddedBroker, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """As on a directory."""
    stream = Stream(embedded)
    Collecting.of(stream, output, *FLAGS).once(at("10:30:14"))

    assert main(["status", output]) == 2
    assert f"did you mean {output}/{stream.name}?" in capsys.readouterr().err


def test_other_readers_agree_on_the_data(
    embedded: EmbeddedBroker, output: str, gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pyarrow's own client, gcsfs, and DuckDB through gcsfs, each on ``data/`` alone."""
    monkeypatch.setenv("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")  # it would stall for a minute
    import gcsfs  # noqa: PLC0415 - it looks at the environment only here

    stream = Stream(embedded)
    produce(stream)
    collect(Collecting.of(stream, output, *FLAGS))
    ours = batch_collection.open(f"{output}/{stream.name}").table(["id", "value", "_offset"])
    data = f"{output.removeprefix('gs://')}/{stream.name}/data"
    columns = ["id", "value", "_offset"]

    arrow = pyarrow.fs.GcsFileSystem(anonymous=True, scheme="http", endpoint_override=gcs.address)
    by_arrow = pyarrow.dataset.dataset(data, filesystem=arrow).to_table(columns)
    fs = gcsfs.GCSFileSystem(token="anon", endpoint_url=gcs.url, skip_instance_cache=True)  # noqa: S106
    by_gcsfs = pyarrow.dataset.dataset(data, filesystem=fs).to_table(columns)
    with duckdb.connect() as database:
        database.register_filesystem(fs)
        by_duckdb = database.sql(
            f"SELECT id, value, _offset FROM read_parquet('gs://{data}/**/*.parquet')"
        ).fetchall()

    expected = sorted(ours.to_pylist(), key=str)
    assert len(expected) == 17
    assert sorted(by_arrow.to_pylist(), key=str) == expected
    assert sorted(by_gcsfs.to_pylist(), key=str) == expected
    assert sorted(by_duckdb) == sorted(tuple(row.values()) for row in expected)


# what a user must mend first


def test_the_demo_takes_a_directory_only(capsys: pytest.CaptureFixture[str]) -> None:
    """It shows files."""
    assert main(["demo", "--output=gs://bucket/x"]) == 2
    assert "and the flag takes a path of this machine only" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("output", "environment", "said"),
    [
        ("gs://", {}, "names no bucket; write gs://bucket/prefix"),
        ("s3://bucket/x", {}, "unknown storage s3://; give a local directory or gs://"),
        ("gs://no-such-bucket/x", {}, "bucket=no-such-bucket does not exist; create it first"),
        (
            "gs://bucket/x",
            {"STORAGE_EMULATOR_HOST": "", "GOOGLE_APPLICATION_CREDENTIALS": "/no/such/key.json"},
            "no usable Google credentials: File /no/such/key.json was not found",
        ),
    ],
    ids=["no bucket's name", "unknown", "missing bucket", "no credentials"],
)
def test_what_keeps_the_output_from_being_written_is_one_line_before_anything_is_read(
    embedded: EmbeddedBroker,
    gcs: FakeGcs,
    monkeypatch: pytest.MonkeyPatch,
    output: str,
    environment: dict[str, str],
    said: str,
) -> None:
    """Exit code 2, and the cure."""
    stream = Stream(embedded)
    stream.send(row("10:30:01", 1))
    for name, value in {"STORAGE_EMULATOR_HOST": gcs.url, **environment}.items():
        monkeypatch.setenv(name, value)

    done = run_command([stream], output, "--once")

    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert said in line


def test_a_forbidden_write_is_said_before_anything_is_read(
    embedded: EmbeddedBroker, gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An account that may read only."""
    stream = Stream(embedded)
    with FaultProxy(gcs) as proxy:
        proxy.fail("403", "POST", times=100)
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        done = run_command([stream], new_output(), "--once")

    assert done.returncode == 2, done.stderr
    (line,) = done.stderr.splitlines()
    assert "no right; grant the account the role Storage Object User" in line


# crashes, rivals, bad networks


@contextmanager
def dying(collection: str, k: int | None) -> Iterator[DyingStorage]:
    """Let the collector write to a storage that dies at its ``k``-th point."""
    storage = DyingStorage(open_storage(collection), k)
    with interposed(storage):
        yield storage


@pytest.mark.slow
def test_a_storage_that_dies_at_some_point_of_a_cycle_loses_and_doubles_nothing(
    embedded: EmbeddedBroker, output: str, gcs: FakeGcs, tmp_path: Path
) -> None:
    """Every third point before and after each change; without Beam, test_publish tries all."""
    stream = Stream(embedded)
    stream.send(*(row("10:30:00", number) for number in range(4)))
    Collecting.of(stream, output, *FLAGS).once(at("10:30:09"))
    dead = produce(stream)
    committed = set()
    for k in itertools.count(0, 3):
        place = new_output()
        gcs.copy(f"{output}/{stream.name}", f"{place}/{stream.name}")
        collecting = Collecting.of(stream, place, *FLAGS)
        with dying(f"{place}/{stream.name}", k) as storage:
            try:
                collecting.once(at("10:30:22"))
            except (Died, RuntimeError):  # Beam makes the second of the first
                assert storage.is_dead
        if storage.is_dead:
            committed.add(len(log_of(f"{place}/{stream.name}")))
        collecting.once(at("10:30:32"))
        seen = gcs.mirror(f"{place}/{stream.name}", tmp_path / str(k))
        check(seen, stream.produced, dead=dead)
        assert strays_of(seen) == [], f"died at point {k}"
        if not storage.is_dead:
            break
    assert k > 30
    assert committed == {2, 3}


def log_of(collection: str) -> list[str]:
    """Return the log's entries."""
    return list(open_storage(collection).list("log"))


@pytest.mark.slow
def test_a_collector_in_a_storm_loses_and_doubles_nothing(
    embedded: EmbeddedBroker, gcs: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A tenth of all requests fail, in all the ways that the proxy knows."""
    with FaultProxy(gcs) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        proxy.storm(5, 0.1)
        output, stream = new_output(), Stream(embedded)
        dead = produce(stream)
        collect(Collecting.of(stream, output, *FLAGS))
        proxy.storm(5, 0)

    seen = gcs.mirror(f"{output}/{stream.name}", tmp_path / "seen")
    check(seen, stream.produced, dead=dead)
    assert strays_of(seen) == []
    assert len(proxy.failed) > 5


def send_now(stream: Stream, count: int = 50) -> None:
    """Send messages stamped with the clock."""
    already = len(stream.produced)
    stream.send(*(sending(None, n % stream.partitions, id=already + n) for n in range(count)))


@pytest.mark.slow
def test_a_collector_killed_ten_times_collects_everything_once(
    broker: AnyBroker, output: str, gcs: FakeGcs, tmp_path: Path
) -> None:
    """SIGKILL at random moments, from its start on, while messages keep coming."""
    stream, rng = Stream(broker), random.Random(3)
    cycles = []
    for kill in range(10):
        with CollectorProcess([stream], output, *LIVE) as collector:
            if kill % 3:
                collector.wait_for(stream.name)
                send_now(stream)
            if kill % 3 == 2:
                collector.wait_for("cycle")  # however slow the machine is, some come so far
            end = time.monotonic() + rng.uniform(0, 2.5)  # the moment of death is what is tried
            while time.monotonic() < end:
                send_now(stream)
                time.sleep(0.05)
        cycles.append(len(log_of(f"{output}/{stream.name}")))
    done = run_command([stream], output, *LIVE, "--once", "--flush")

    assert done.returncode == 0, done.stderr
    assert cycles[-1] > 3
    assert len(stream.produced) > 100
    seen = gcs.mirror(f"{output}/{stream.name}", tmp_path / "seen")
    check(seen, stream.produced)
    assert strays_of(seen) == []


def test_of_two_collectors_one_wins_and_the_other_says_who_won(
    broker: AnyBroker, output: str, gcs: FakeGcs, tmp_path: Path
) -> None:
    """The fence of the log is an upload that demands that nothing is there."""
    stream = Stream(broker)
    with (
        CollectorProcess([stream], output, *LIVE) as one,
        CollectorProcess([stream], output, *LIVE) as other,
    ):
        loser, winner = first_to_end(stream, one, other)
        assert loser.end() == OTHER_COLLECTOR, loser.lines
        winner.wait_for("cycle")
        winner.send(signal.SIGTERM)
        assert winner.end() == 0, winner.lines
    told = f"error: another collector (host={socket.gethostname()} pid={winner.pid}) committed"
    assert told in loser.lines[-1]

    assert run_command([stream], output, *LIVE, "--once", "--flush").returncode == 0
    seen = gcs.mirror(f"{output}/{stream.name}", tmp_path / "seen")
    check(seen, stream.produced)
    assert strays_of(seen) == []


def first_to_end(
    stream: Stream, one: CollectorProcess, other: CollectorProcess
) -> tuple[CollectorProcess, CollectorProcess]:
    """Send messages until one of two has ended; return it, and the other."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        send_now(stream)
        time.sleep(0.05)
        for ended, living in ((one, other), (other, one)):
            if any("another collector" in line for line in ended.lines):
                return ended, living
    pytest.fail(f"neither ended: {one.lines} {other.lines}")


@pytest.mark.slow
def test_a_collector_that_slept_while_another_committed_changes_nothing_any_more(
    broker: AnyBroker, output: str, gcs: FakeGcs, tmp_path: Path
) -> None:
    """A zombie, frozen in a cycle and woken later, stops and says so."""
    stream = Stream(broker)
    with CollectorProcess([stream], output, *LIVE) as zombie:
        zombie.wait_for("begins")
        send_now(stream)
        zombie.wait_for("cycle")
        send_now(stream, 1000)
        zombie.send(signal.SIGSTOP)
        rival = run_command([stream], output, *LIVE, "--once")
        assert (rival.returncode, "cycle" in rival.stderr) == (0, True), rival.stderr
        committed = log_of(f"{output}/{stream.name}")
        zombie.send(signal.SIGCONT)
        assert zombie.end() == OTHER_COLLECTOR, zombie.lines
    assert "error: another collector (host=" in zombie.lines[-1]
    assert sorted(log_of(f"{output}/{stream.name}")) == sorted(committed)

    assert run_command([stream], output, *LIVE, "--once", "--flush").returncode == 0
    seen = gcs.mirror(f"{output}/{stream.name}", tmp_path / "seen")
    check(seen, stream.produced)
    assert strays_of(seen) == []
    assert entries_of(seen)[-1].carry == ()
    assert audit(open_storage(f"{output}/{stream.name}")).findings == ()
