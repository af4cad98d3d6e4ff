"""Dead letters decoded again: rows of their windows, once, whoever else writes."""

from __future__ import annotations

import json
import re
import shutil
import signal
import uuid
from contextlib import redirect_stdout
from datetime import timedelta
from io import StringIO
from typing import TYPE_CHECKING, Any

import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.log.entries import PUT_BACK
from batch_collection.publishing.append import append, successor
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from pipeline.running import redrive
from pipeline.running.redrive import LEASE
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Sending,
    Stream,
    check,
    dead_letters_of,
    entries_of,
    manifests_of,
    run_command,
    sending,
    strays_of,
)
from tests.damage import DAMAGES, damage
from tests.interposed import interposed
from tests.services.gcs import BUCKET
from tests.storages import ActingStorage, Died, DyingStorage, some_points

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.collecting import Produced
    from tests.services.gcs import FakeGcs
    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

FLAGS = ("--interval=10s", "--batch_size=5")
TENTH = timedelta(seconds=0.1)


def run(*words: object) -> str:
    """Run a command that has nothing to complain of; return what it prints."""
    out = StringIO()
    with redirect_stdout(out):
        assert cli.main([str(word) for word in words]) == 0
    return out.getvalue().rstrip("\n")


def places(produced: list[Produced]) -> set[tuple[int, int]]:
    """Return partition and offset of messages."""
    return {(message.partition, message.offset) for message in produced}


class Scene:
    """Integers, then fractions that are dead letters of a closed and of an open window.

    Some integers wait; one message is no JSON, now and ever.
    """

    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        """Collect up to 10:30:12."""
        self.stream, self._folder, self._copies = Stream(broker), folder, 0
        self._before = folder / "before"
        self.collecting = Collecting.of(self.stream, self._before, *FLAGS)
        self.stream.send(*(self.row("10:30:00", n, n) for n in range(4)))
        self.collecting.once(at("10:30:02"))
        dead = [self.row("10:30:05", n, n + 0.5) for n in range(6)]
        dead += [self.row("10:30:11", n, n + 0.5) for n in range(2)]
        self.fractions = self.stream.send(*dead)
        self.bad = self.stream.send(Sending(b"{", at("10:30:06"), 1))
        self.stream.send(*(self.row("10:30:10", n, n) for n in range(3)))
        self.collecting.once(at("10:30:12"))

    @staticmethod
    def row(clock: str, number: int, value: float) -> Sending:
        """Return a message of a window."""
        return sending(at(clock) + number * TENTH, number % 4, value=value)

    def copy(self, *, pinned: bool = True) -> Collecting:
        """Return a collector of a fresh copy of the collection."""
        self._copies += 1
        output = self._folder / f"copy-{self._copies}"
        shutil.copytree(self._before, output)
        collecting = Collecting.of(self.stream, output, *FLAGS)
        if pinned:
            run("schema", collecting.path, "--pin=value=double")
        return collecting

    def check(self, collecting: Collecting, case: object = "") -> None:
        """See that all is there once after one more cycle, and nothing else."""
        collecting.once(at("10:30:22"))
        check(collecting.path, self.stream.produced, dead=places(self.bad))
        assert strays_of(collecting.path) == [], case
        table = batch_collection.open(collecting.path).table(["value"])
        assert table.num_rows == len(self.stream.produced) - 1, case
        shutil.rmtree(collecting.output)


@pytest.fixture(scope="module")
def scene(embedded: EmbeddedBroker, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """Set the scene once."""
    return Scene(embedded, tmp_path_factory.mktemp("redrive"))


def test_dead_letters_become_rows_of_their_windows_under_a_new_type(scene: Scene) -> None:
    """A late pane of the closed window, an early one of the open; what is bad stays dead."""
    collecting = scene.copy()
    before = entries_of(collecting.path)[-1]
    assert len(dead_letters_of(collecting.path)) == 9

    said = run("redrive", collecting.path, "--batch_size=5")

    assert said.splitlines()[0] == (
        "redrive: 9 messages of 1 file: 8 rows in 2 windows, 1 still dead letter"
    )
    assert re.fullmatch(r"  1  not JSON: .*", said.splitlines()[1])
    entry = entries_of(collecting.path)[-1]
    assert (entry.cause, entry.cycle) == ("redrive", before.cycle + 1)
    assert [(pane.timing, pane.rows) for pane in entry.panes] == [("late", 6), ("early", 2)]
    assert [file.rows for file in entry.panes[0].files] == [5, 1]
    assert entry.open == {at("10:30:10"): (entry.cycle,)}
    assert (entry.carry, entry.ends, entry.boundary) == (before.carry, before.ends, before.boundary)
    names = [file.path.rsplit("/", 1)[1].split("-")[1] for file in entry.files]
    assert names == [f"{entry.cycle:010d}"] * 3
    revisions = [each["timing"] for each in manifests_of(collecting.path)[at("10:30:00")]]
    assert revisions == ["on_time", "late"]
    assert set(dead_letters_of(collecting.path)) == places(scene.bad)
    assert audit(LocalStorage(str(collecting.path))).findings == ()
    assert strays_of(collecting.path) == []
    scene.check(collecting)


def test_a_redrive_that_is_run_again_finds_nothing_to_do(scene: Scene) -> None:
    """It says so, and why; no entry is made."""
    collecting = scene.copy()
    run("redrive", collecting.path)
    entries = entries_of(collecting.path)

    again = run("redrive", collecting.path)

    assert again.startswith("nothing to redrive: none of 1 dead letter makes a row\n  1  not JSON")
    assert entries_of(collecting.path) == entries
    scene.check(collecting)


def test_without_another_type_dead_letters_stay_what_they_are(scene: Scene) -> None:
    """And a collection without any has nothing to redrive."""
    collecting = scene.copy(pinned=False)
    entries = entries_of(collecting.path)

    said = run("redrive", collecting.path)

    assert said.startswith("nothing to redrive: none of 9 dead letters makes a row\n")
    assert "  8  column value is int64 and can't hold 0.5" in said
    assert entries_of(collecting.path) == entries
    assert len(dead_letters_of(collecting.path)) == 9


def test_a_dry_run_tells_what_would_come_and_changes_nothing(scene: Scene) -> None:
    """The same words and numbers."""
    collecting = scene.copy()
    entries = entries_of(collecting.path)

    said = run("redrive", collecting.path, "--dry-run")

    assert said.startswith("redrive would make of 9 messages of 1 file: 8 rows in 2 windows, 1 st")
    assert entries_of(collecting.path) == entries
    assert said.splitlines()[1:] == run("redrive", collecting.path).splitlines()[1:]
    scene.check(collecting)


def test_status_counts_the_dead_letters_that_still_are(scene: Scene) -> None:
    """How many were redriven, the reasons of the others, and the commands that mend them."""
    collecting = scene.copy()
    storage = LocalStorage(str(collecting.path))
    before = status(storage)
    assert (before.totals.dead_letters, before.totals.redriven) == (9, 0)
    assert "--pin COLUMN=TYPE" in run("status", collecting.path)
    assert f"redrive {collecting.path}" in run("status", collecting.path)
    run("redrive", collecting.path)

    found = status(storage)

    assert (found.totals.dead_letters, found.totals.redriven) == (1, 8)
    assert found.totals.messages == before.totals.messages == len(scene.stream.produced)
    assert found.totals.rows == before.totals.rows + 8
    assert sum(found.dead_letters_by_reason.values()) == 1
    assert [(cycle.cause, cycle.rows, cycle.dead_letters) for cycle in found.cycles[-2:]] == [
        ("pin", 0, 0),
        ("redrive", 8, 1),
    ]
    assert "1 dead letter, 0 tombstones, 0 empty, 8 redriven" in run("status", collecting.path)
    scene.check(collecting)


@pytest.mark.slow
@some_points(4)
def test_a_redrive_that_dies_anywhere_is_run_again(scene: Scene, every: int) -> None:
    """Each message is a row once; what was staged goes when the log is far enough."""
    k, died, committed = 0, True, set()
    while died:
        collecting = scene.copy()
        dying = DyingStorage(LocalStorage(str(collecting.path)), k)
        before = len(entries_of(collecting.path))
        with interposed(dying):
            try:
                run("redrive", collecting.path)
            except (Died, RuntimeError):  # Beam makes the second of the first
                assert dying.is_dead
        died = dying.is_dead
        committed.add(len(entries_of(collecting.path)) - before)
        run("redrive", collecting.path)
        lease = f"staging/{before - 1 + LEASE:010d}"
        assert all(
            path.startswith((lease, "staging/drafts/")) for path in strays_of(collecting.path)
        )
        shutil.rmtree(collecting.path / lease, ignore_errors=True)
        scene.check(collecting, k)
        k += every
    assert k > 20
    assert committed == {0, 1}


@pytest.mark.slow
@some_points(6)
def test_of_two_redrives_at_once_each_message_becomes_rows_once(scene: Scene, every: int) -> None:
    """Wherever in the one the other is run: one of them wins, and the other has nothing to do."""
    k, acted, said = 0, True, set[str]()
    while acted:
        collecting = scene.copy()
        other = ActingStorage(
            LocalStorage(str(collecting.path)),
            lambda: run("redrive", collecting.path),  # noqa: B023
            k,
        )
        with interposed(other):
            outcome = run("redrive", collecting.path)
        said.add(outcome.partition(": 8")[0].partition(": no")[0])
        acted = other.has_acted
        assert [entry.cause for entry in entries_of(collecting.path)].count("redrive") == 1
        scene.check(collecting, k)
        k += every
    assert k > 20
    assert said == {"redrive: 9 messages of 1 file", "nothing to redrive"}


@pytest.mark.slow
@some_points(6)
def test_a_collector_that_commits_anywhere_in_a_redrive_changes_nothing(
    scene: Scene, every: int
) -> None:
    """The window that was open may be closed meanwhile: its rows are a late pane then."""
    k, acted, timings = 0, True, set()
    while acted:
        collecting = scene.copy()
        cycle = ActingStorage(
            LocalStorage(str(collecting.path)),
            lambda: collecting.once(at("10:30:22")),  # noqa: B023
            k,
        )
        with interposed(cycle):
            assert run("redrive", collecting.path).startswith("redrive: 9 messages of 1 file")
        acted = cycle.has_acted
        (entry,) = [each for each in entries_of(collecting.path) if each.cause == "redrive"]
        is_closed = entry.boundary is not None and entry.boundary >= at("10:30:20")
        assert entry.panes[1].timing == ("late" if is_closed else "early"), k
        timings.add(entry.panes[1].timing)
        scene.check(collecting, k)
        k += every
    assert k > 20
    assert timings == {"early", "late"}


@pytest.mark.slow
@some_points(8)
def test_a_type_that_is_pinned_meanwhile_is_what_the_rows_get(scene: Scene, every: int) -> None:
    """The redrive begins again under it: no entry names rows of a type that is no longer."""
    k, acted = 0, True
    while acted:
        collecting = scene.copy()
        pinning = ActingStorage(
            LocalStorage(str(collecting.path)),
            lambda: run("schema", collecting.path, "--pin=value=float"),  # noqa: B023
            k,
        )
        with interposed(pinning):
            run("redrive", collecting.path)
        acted = pinning.has_acted
        causes = [entry.cause for entry in entries_of(collecting.path)]
        is_before = acted and causes.index("redrive") == len(causes) - 1
        entry = entries_of(collecting.path)[causes.index("redrive")]
        types = {
            batch.table().schema.field("value").type
            for batch in batch_collection.open(collecting.path)
            if batch.cycle == entry.cycle
        }
        assert [str(type_) for type_ in types] == ["float" if is_before else "double"]
        scene.check(collecting, k)
        k += every
    assert k > 20


def test_what_a_dead_redrive_left_goes_when_the_log_has_got_past_its_lease(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not before: it may be alive."""
    lease = 30
    monkeypatch.setattr(redrive, "LEASE", lease)
    collecting = scene.copy()
    storage = LocalStorage(str(collecting.path))
    dying = DyingStorage(storage, 8)
    with interposed(dying), pytest.raises((Died, RuntimeError)):
        run("redrive", collecting.path)
    left = strays_of(collecting.path)
    assert left
    newest = entries_of(collecting.path)[-1].cycle

    collecting.take_up(at("10:30:13"))
    assert strays_of(collecting.path) == left
    for _ in range(lease):
        append(storage, lambda newest, digest: successor(newest, digest, "pin"))
    assert entries_of(collecting.path)[-1].cycle == newest + lease
    collecting.take_up(at("10:30:13"))

    assert strays_of(collecting.path) == []
    run("redrive", collecting.path)
    scene.check(collecting)


def test_a_redrive_that_takes_longer_than_its_lease_begins_again(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it had staged may be gone by then: nothing of it is named."""
    monkeypatch.setattr(redrive, "LEASE", 3)
    collecting = scene.copy()
    storage = LocalStorage(str(collecting.path))

    def meanwhile() -> None:
        for _ in range(4):
            append(storage, lambda newest, digest: successor(newest, digest, "pin"))
        collecting.take_up(at("10:30:13"))

    with interposed(ActingStorage(storage, meanwhile, 12)):
        assert run("redrive", collecting.path).startswith("redrive: 9 messages of 1 file: 8 rows")

    assert [entry.cause for entry in entries_of(collecting.path)[-2:]] == ["pin", "redrive"]
    scene.check(collecting)


# how messages are read


@pytest.fixture
def collecting(embedded: EmbeddedBroker, tmp_path: Path) -> Callable[..., Collecting]:
    """Give a collector of a new topic, with flags."""
    return lambda *flags: Collecting.of(Stream(embedded), tmp_path, *FLAGS, *flags)


def test_keys_headers_and_arrays_come_through_unchanged(
    collecting: Callable[..., Collecting],
) -> None:
    """What a dead letter keeps is all that the message was."""
    one = collecting("--metadata=full")
    headers: dict[str, str | bytes | None] = {"a": b"\xff", "b": None}
    value = b'[{"value": 1}, {"value": 0.5}]'
    one.streams[0].send(sending(at("10:30:01"), value=1))
    one.once(at("10:30:02"))
    one.streams[0].send(Sending(value, at("10:30:01"), 2, b"key\xff", headers), sending(value=0.1))
    one.once(at("10:30:12"))
    run("schema", one.path, "--pin=value=double")

    run("redrive", one.path, "--metadata=full")

    (array, *_) = (b for b in batch_collection.open(one.path) if b.timing == "late")
    rows = array.table().to_pylist()
    assert [(row["_index"], row["value"]) for row in rows] == [(0, 1.0), (1, 0.5)]
    assert [row["_key"] for row in rows] == [b"key\xff"] * 2
    kept = [{"key": "a", "value": b"\xff"}, {"key": "b", "value": None}]
    assert [row["_headers"] for row in rows] == [kept] * 2
    assert dead_letters_of(one.path) == {}
    assert audit(LocalStorage(str(one.path))).findings == ()


def test_flags_say_how_messages_are_read_again(collecting: Callable[..., Collecting]) -> None:
    """Another input format makes rows of what is no JSON, JSON lines are what the collector has."""
    one = collecting("--output_format=jsonl")
    one.streams[0].send(Sending(b"text", at("10:30:01"), 0), sending(at("10:30:02"), id=1))
    one.once(at("10:30:12"))

    said = run("redrive", one.path, "--input_format=bytes", "--output_format=jsonl")

    assert said == "redrive: 1 message of 1 file: 1 row in 1 window"
    (batch,) = (b for b in batch_collection.open(one.path) if b.timing == "late")
    assert batch.path.endswith(".jsonl")
    assert batch.table().num_rows == 1


def test_a_column_of_a_schema_file_is_added_with_the_redrive(
    collecting: Callable[..., Collecting], tmp_path: Path
) -> None:
    """Column and reason stand in the entry; a type that differs is refused with the cure."""
    one, file = collecting(), tmp_path / "schema.json"
    one.streams[0].send(sending(at("10:30:01"), id=1), Sending(b'{"n": 1e999}', at("10:30:02")))
    one.once(at("10:30:12"))
    one.streams[0].send(Sending(b'{"n": 12345678901234567890}', at("10:30:03")))
    one.once(at("10:30:22"))
    file.write_text('{"n": "uint64"}')

    run("redrive", one.path, f"--schema={file}")

    entry = entries_of(one.path)[-1]
    assert (entry.schema["n"], entry.pinned) == ("uint64", ("n",))
    assert len(dead_letters_of(one.path)) == 1
    file.write_text('{"n": "double"}')
    assert cli.main(["redrive", str(one.path), f"--schema={file}"]) == 2


def test_with_the_arrival_as_row_time_rows_belong_to_the_redrive_s_window(
    collecting: Callable[..., Collecting],
) -> None:
    """It is now that they arrive as rows."""
    one = collecting("--timestamp=collected")
    one.streams[0].send(sending(at("10:30:01"), value=1))
    one.once(at("10:30:02"))
    one.streams[0].send(sending(at("10:30:01"), value=0.5))
    one.once(at("10:30:12"))
    run("schema", one.path, "--pin=value=double")

    run("redrive", one.path)

    entry = entries_of(one.path)[-1]
    (pane,) = entry.panes
    assert pane.timing == "early"
    assert pane.window_start <= entry.committed_at < pane.window_end + timedelta(minutes=1)
    assert audit(LocalStorage(str(one.path))).findings == ()


def test_small_files_are_redriven_together(collecting: Callable[..., Collecting]) -> None:
    """Their rows of one window are one file; a file without a good message is left as it is."""
    one = collecting()
    one.streams[0].send(sending(at("10:30:01"), value=1))
    one.once(at("10:30:02"))
    for second in range(3, 6):
        one.streams[0].send(sending(at(f"10:30:0{second}"), value=0.5))
        one.once(at(f"10:30:0{second}"))
    one.streams[0].send(Sending(b"{", at("10:30:08")))
    one.once(at("10:30:12"))
    run("schema", one.path, "--pin=value=double")

    said = run("redrive", one.path)

    head = "redrive: 3 messages of 3 files: 3 rows in 1 window, 1 still dead letter; 1 file left as"
    assert said.startswith(head)
    entry = entries_of(one.path)[-1]
    assert [file.rows for file in entry.files] == [3]
    assert len(entry.redriven) == 3
    assert audit(LocalStorage(str(one.path))).findings == ()


# beside a collector


@pytest.mark.slow
def test_a_redrive_anywhere_in_a_cycle_does_not_disturb_the_collector(scene: Scene) -> None:
    """The cycle is collected behind it, and the window that both gave rows to is closed once."""
    k, acted, orders = 0, True, set()
    while acted:
        collecting = scene.copy()
        beside = ActingStorage(
            LocalStorage(str(collecting.path)),
            lambda: run("redrive", collecting.path),  # noqa: B023
            k,
        )
        with interposed(beside):
            collecting.once(at("10:30:22"))
        acted = beside.has_acted
        causes = [entry.cause for entry in entries_of(collecting.path)]
        orders.add(tuple(causes[3:]))
        if acted:
            scene.check(collecting, k)
        k += 5
    assert orders == {
        ("pin", "redrive", "interval"),
        ("pin", "interval", "redrive"),
        ("pin", "interval"),
    }


@pytest.mark.integration
def test_ints_then_fractions_are_mended_while_the_collector_runs(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """The whole story on the real Kafka: dead letters, a pin, a redrive, and all rows are there."""
    stream = Stream(kafka)
    path = tmp_path / stream.name
    flags = ("--interval=1s", "--grace=0s", "--batch_size=50", "--metadata=full")
    sent = [sending(None, number % 4, value=number) for number in range(500)]
    with CollectorProcess([stream], tmp_path, *flags) as collector:
        stream.send(*sent)
        collector.wait_for("  cycle 2 ")
        stream.send(*(sending(None, number % 4, value=number / 2) for number in range(1001)))
        collector.wait_for("dead letter")
        run("schema", path, "--pin=value=double")
        collector.wait_for("pin by host=")
        stream.send(*(sending(None, number % 4, value=number / 4) for number in range(500)))
        said = run("redrive", path, "--metadata=full")
        collector.wait_for("redrive by host=")
        stream.send(*(sending(None, number % 4, value=number) for number in range(100)))
        collector.wait_for("  cycle ")
        collector.send(signal.SIGTERM)
        assert collector.end() == 0, collector.lines
    end = run_command([stream], tmp_path, *flags, "--once", "--flush")

    assert end.returncode == 0, end.stderr
    assert said.startswith("redrive: ")
    assert "still dead" not in said
    assert run("redrive", path).startswith(("nothing to redrive", "redrive: "))
    check(path, stream.produced)
    assert strays_of(path) == []
    values = batch_collection.open(path).table(["value"])["value"]
    expected = [json.loads(message.value or b"{}")["value"] for message in stream.produced]
    assert values.type == "double"
    assert sorted(values.to_pylist()) == sorted(expected)


def test_the_same_on_cloud_storage(
    embedded: EmbeddedBroker, gcs: FakeGcs, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pin and redrive need of a storage what collecting needs."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    output = f"gs://{BUCKET}/redrive/{uuid.uuid4().hex[:8]}"
    stream = Stream(embedded)
    collecting, uri = Collecting.of(stream, output, *FLAGS), f"{output}/{stream.name}"
    stream.send(*(sending(at("10:30:01"), n, value=n) for n in range(4)))
    collecting.once(at("10:30:02"))
    stream.send(*(sending(at("10:30:01"), n, value=n + 0.5) for n in range(4)))
    collecting.once(at("10:30:12"))

    assert "value=double" in run("schema", uri, "--pin=value=double")
    assert run("redrive", uri).startswith("redrive: 4 messages of 1 file: 4 rows in 1 window")

    collecting.once(at("10:30:22"))
    seen = gcs.mirror(uri, tmp_path / "seen")
    check(seen, stream.produced)
    assert strays_of(seen) == []
    assert batch_collection.open(uri).table(["value"]).num_rows == 8


def test_mistakes_are_reported_together(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, a line each; and a folder that is no collection is said to be none."""
    flags = ["--numbers=some", "--batch_size=0", "--timestamp_unit=h", "--schema=none.json"]
    assert cli.main(["redrive", str(tmp_path), *flags, "--sheme=x"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 5
    assert cli.main(["redrive", str(tmp_path)]) == 2
    assert "no collection in" in capsys.readouterr().err


# damaged files


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("dry", [(), ("--dry_run",)])
def test_damaged_dead_letters_are_not_redriven(
    scene: Scene, capsys: pytest.CaptureFixture[str], kind: str, dry: tuple[str, ...]
) -> None:
    """One line names the file; once it is put back all goes on."""
    collecting = scene.copy()
    storage, before = LocalStorage(str(collecting.path)), entries_of(collecting.path)
    (file,) = (file for entry in before for file in entry.dead_letters)
    whole = storage.read(file.path)
    damage(storage, file.path, kind)

    assert cli.main(["redrive", str(collecting.path), *dry]) == 2

    (line,) = capsys.readouterr().err.splitlines()
    assert f"{collecting.path}/{file.path} " in line
    assert f"; {PUT_BACK}" in line
    assert entries_of(collecting.path) == before
    storage.replace(file.path, whole)
    run("redrive", collecting.path)
    scene.check(collecting)


def test_dead_letters_that_are_damaged_between_two_looks_are_not_redriven(
    scene: Scene, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are tried first: what a worker of the redrive finds then ends in the same line."""
    collecting = scene.copy()
    storage, before = LocalStorage(str(collecting.path)), entries_of(collecting.path)
    (file,) = (file for entry in before for file in entry.dead_letters)
    whole, plan = storage.read(file.path), redrive._plan  # noqa: SLF001

    def damaged(*arguments: Any) -> Any:
        damage(storage, file.path, "garbage")
        return plan(*arguments)

    monkeypatch.setattr(redrive, "_plan", damaged)
    assert cli.main(["redrive", str(collecting.path)]) == 2
    monkeypatch.undo()

    (line,) = capsys.readouterr().err.splitlines()
    assert f"{collecting.path}/{file.path} was changed: " in line
    assert entries_of(collecting.path) == before
    storage.replace(file.path, whole)
    run("redrive", collecting.path)
    scene.check(collecting)
