"""``batch-collection schema``: what it prints, what it pins, what it refuses."""

from __future__ import annotations

import json
import re
import shlex
from dataclasses import replace
from typing import TYPE_CHECKING

import duckdb
import polars as pl
import pyarrow.parquet as pq
import pytest

import batch_collection
from batch_collection.errors import CollectionError, LogError, WriteError
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import newest_entry
from batch_collection.publishing.append import append, successor
from batch_collection.schema.files import read_schema
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from pipeline import cli
from pipeline.commands.schema import pin
from pipeline.planning.schema_change import dropping, pinning
from tests.builders import Collector, at, message
from tests.collecting import (
    Collecting,
    Sending,
    Stream,
    check,
    dead_letters_of,
    entries_of,
    sending,
)
from tests.storages import ActingStorage
from tests.tables import TableCollector

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from pipeline.planning.schema_change import Change
    from transforms.sources.kafka.embedded import EmbeddedBroker

FLAGS = ("--interval=10s", "--batch_size=5")


@pytest.fixture
def collecting(embedded: EmbeddedBroker, tmp_path: Path) -> Collecting:
    """Give a collection of integers, some of which wait."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, *FLAGS)
    stream.send(*(sending(at("10:30:01"), n, value=n) for n in range(3)))
    stream.send(sending(at("10:30:11"), value=3, device={"id": "a"}))
    collecting.once(at("10:30:12"))
    return collecting


def test_columns_are_shown_with_where_they_are_from(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """A line a change, for people; one object, for programs."""
    path = str(collecting.path)
    assert cli.main(["schema", path, "--pin", "value=double", "--pin=more=string"]) == 0
    capsys.readouterr()

    assert cli.main(["schema", path]) == 0
    lines = [re.split(r" {2,}", line.strip()) for line in capsys.readouterr().out.splitlines()]
    assert lines[0] == [path]
    assert [[line[0], *line[1:3], line[-1]] for line in lines[4:]] == [
        ["device", '{"id": "string"}', "cycle 1", "messages"],
        ["value", "int64", "cycle 1", "messages"],
        ["double", "cycle 2", lines[6][2], "--pin"],
        ["more", "string", "cycle 2", "--pin"],
    ]

    assert cli.main(["schema", path, "--json"]) == 0
    columns = json.loads(capsys.readouterr().out)["columns"]
    assert [column["type"] for column in columns] == [{"id": "string"}, "double", "string"]
    assert [change["by"] for change in columns[1]["changes"]] == ["messages", "--pin"]


def test_all_columns_are_exported_for_readers_and_for_schema_files(
    collecting: Collecting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those that any file has, in a file that pyarrow and Polars read; the payload's as JSON."""
    collecting.streams[0].send(Sending(b'[{"list": [1]}]', at("10:30:12")))
    collecting.once(at("10:30:22"), "--flush")
    view = batch_collection.open(collecting.path)
    file, types = tmp_path / "schema.parquet", tmp_path / "types.json"

    assert cli.main(["schema", str(collecting.path), f"--export={file}"]) == 0
    assert cli.main(["schema", str(collecting.path), f"--export={types}"]) == 0

    assert capsys.readouterr().out.splitlines() == [
        f"{file} holds 7 columns, as of cycle 2",
        f"{types} holds 3 columns, as of cycle 2",
    ]
    assert pq.read_schema(file).equals(view.schema)
    assert view.table().schema.equals(view.schema)
    assert "_index" in pl.read_parquet_schema(file)
    assert read_schema(types.read_text()) == view.newest.schema


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--export=x.txt"], "--export must end in .parquet or .json, got 'x.txt'"),
        (["--export=x.json", "--pin=a=string"], "--export goes without --pin, --drop and --undo"),
        (["--export=gone/x.json"], "--export=gone/x.json: No such file or directory"),
        (["--export=gone/x.parquet"], "--export=gone/x.parquet: No such file or directory"),
    ],
)
def test_an_export_that_cannot_be_is_refused(
    collecting: Collecting, capsys: pytest.CaptureFixture[str], flags: list[str], message: str
) -> None:
    """In one line."""
    assert cli.main(["schema", str(collecting.path), *flags]) == 2
    assert message in capsys.readouterr().err


def test_a_pin_holds_for_the_future_and_says_what_readers_need(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next collector goes on under it without a flag, and takes up what waits."""
    assert cli.main(["schema", str(collecting.path), "--pin=value=double"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[:2] == [
        "cycle 2: from now on value=double",
        "batches that are there keep value=int64",
    ]
    assert out[2].startswith("value: int64 and double are read as double; an integer that")
    assert "union_by_name=true" in out[4]
    assert out[-1] == f"dead letters of before: batch-collection redrive {collecting.path}"

    collecting.streams[0].send(sending(at("10:30:12"), value=0.5))
    collecting.once(at("10:30:22"))

    check(collecting.path, collecting.streams[0].produced)
    assert entries_of(collecting.path)[-1].schema["value"] == "double"
    assert entries_of(collecting.path)[2].pinned == ("value",)


def test_a_pin_of_a_name_that_nothing_has_says_so(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """It may be a slip of the pen; or the column is still to come."""
    assert cli.main(["schema", str(collecting.path), "--pin=valu=double", "--dry_run"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "nothing was changed; it would be from now on valu=double",
        "valu is a new column: no row has it yet; did you mean value?",
    ]


@pytest.mark.parametrize("type_", ["int8", "string", '["double"]'])
def test_whatever_is_pinned_collecting_goes_on(collecting: Collecting, type_: str) -> None:
    """Rows that wait and don't fit leave as they are; messages that fit become rows."""
    stream = collecting.streams[0]
    assert cli.main(["schema", str(collecting.path), f"--pin=value={type_}"]) == 0
    value = {"int8": 5, "string": "five"}.get(type_, [0.5])
    stream.send(sending(at("10:30:12"), value=value), sending(at("10:30:13"), value={"x": 1}))

    collecting.once(at("10:30:22"))

    check(collecting.path, stream.produced, dead={(0, stream.produced[-1].offset)})


def test_a_struct_keeps_the_fields_that_a_pin_does_not_name(collecting: Collecting) -> None:
    """A pin says more, never less."""
    storage = LocalStorage(str(collecting.path))

    entry = pin(storage, {"device": {"mass": "double"}})

    assert entry is not None
    assert entry.schema["device"] == {"mass": "double", "id": "string"}


def test_what_is_pinned_already_needs_no_entry(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """Run twice, it is pinned once."""
    for _ in range(2):
        assert cli.main(["schema", str(collecting.path), "--pin=value=double"]) == 0
    assert "nothing to pin" in capsys.readouterr().out
    assert [entry.cause for entry in entries_of(collecting.path)][2:] == ["pin"]


@pytest.mark.parametrize(
    ("flags", "errors"),
    [
        (["--pin=value=doble"], ["--pin=value=doble: field value has unknown type 'doble'"]),
        (["--pin=value"], ["--pin=value: write it as NAME=TYPE, as value=double"]),
        (["--pin= =double"], ["--pin= =double: write it as NAME=TYPE, as value=double"]),
        (
            ["--pin=v={}", "--pin=w=["],
            [
                "--pin=v={}: field v has no fields",
                "--pin=w=[: no JSON in line 1, column 2: expecting value",
            ],
        ),
        (["--pin=a=b=doble"], ["--pin=a=b=doble: field a has unknown type 'b=doble'"]),
        (["--pin=v=double", "--undo"], ["--pin, --drop and --undo change one thing each"]),
        (["--dry_run"], ["--dry_run needs a --pin, --drop or --undo to try"]),
        (["--undo"], ["there is no --pin or --drop to take back in"]),
        (["--drop=nope"], ["--drop=nope: "]),
        (["--pin=_offset=string"], ["--pin=_offset=...: a name of the metadata or path"]),
        (["--pin=window_hour=string"], ["--pin=window_hour=...: a name of the metadata or path"]),
        (["--pin=_Offset=string"], ["--pin=_Offset=...: a name of the metadata or path"]),
        (["--pin=Window_Hour=string"], ["--pin=Window_Hour=...: a name of the metadata or path"]),
        (["--pin=Value=int64"], ["--pin: names 'value' and 'Value' differ by case alone"]),
        (
            ['--pin=n={"a": "bool", "A": "bool"}'],
            ["--pin: names 'n.a' and 'n.A' differ by case alone, and DuckDB and Spark take"],
        ),
        (
            [f'--pin=value={"[" * 63}"bool"{"]" * 63}'],
            [f'--pin=value={"[" * 63}"bool"{"]" * 63}: a field is nested more than 63 levels deep'],
        ),
    ],
)
def test_nonsense_is_refused_and_changes_nothing(
    collecting: Collecting,
    capsys: pytest.CaptureFixture[str],
    flags: list[str],
    errors: list[str],
) -> None:
    """With exit code 2 and a line each."""
    assert cli.main(["schema", str(collecting.path), *flags]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert [line.startswith(f"error: {text}") for line, text in zip(lines, errors, strict=True)]
    assert all(line.startswith(f"error: {text}") for line, text in zip(lines, errors, strict=True))
    assert len(entries_of(collecting.path)) == 2


def test_without_a_collection_there_is_nothing_to_show_or_to_pin(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line, exit code 2."""
    for flags in ([], ["--pin=value=double"]):
        assert cli.main(["schema", str(tmp_path), *flags]) == 2
        assert "error: no collection in" in capsys.readouterr().err


def test_a_schema_file_that_differs_is_refused_with_the_pin_as_a_cure(
    collecting: Collecting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command in the error does what it says."""
    file = tmp_path / "schema.json"
    file.write_text('{"value": "double"}')
    stream = collecting.streams[0]
    words = [
        f"--bootstrap_servers={stream.broker.bootstrap_servers}",
        *(f"--topics={stream.name}", f"--output={collecting.output}", "--once", *FLAGS),
        f"--schema={file}",
    ]
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    cure = f"`batch-collection schema {collecting.path} --pin value=double`"
    assert f"--schema gives column value the type double, but in {collecting.path} it is" in error
    assert cure in error

    assert cli.main(cure.strip("`").split()[1:]) == 0
    assert cli.main(words) == 0


def test_a_column_that_is_dropped_is_left_out_and_not_learned_again(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of messages to come, rows that wait and dead letters; older files still read."""
    stream, path = collecting.streams[0], str(collecting.path)
    stream.send(sending(at("10:30:12"), value=4, device="a text"))
    collecting.once(at("10:30:13"))
    assert len(dead_letters_of(collecting.path)) == 1

    assert cli.main(["schema", path, "--drop=device"]) == 0
    out = capsys.readouterr().out.splitlines()
    stream.send(sending(at("10:30:12"), value=5, device=[1], more=True))
    stream.send(sending(at("10:30:13"), value=6, device={"id": "b"}))
    collecting.once(at("10:30:22"))
    assert cli.main(["redrive", path]) == 0

    assert out[:2] == [
        "cycle 3: from now on without device",
        'batches that are there keep device={"id": "string"}; in others it is null',
    ]
    newest = entries_of(collecting.path)[-1]
    assert newest.schema == {"value": "int64", "more": "bool"}
    assert newest.dropped == {"device": {"id": "string"}}
    assert dead_letters_of(collecting.path) == {}
    rows = batch_collection.open(path).table()
    assert sorted(rows.column("value").to_pylist()) == [0, 1, 2, 3, 4, 5, 6]
    assert rows.column("device").null_count == 7  # the row that had it waited
    assert audit(LocalStorage(path)).findings == ()

    capsys.readouterr()
    assert cli.main(["schema", path, "--drop=device"]) == 0
    assert "nothing to drop" in capsys.readouterr().out
    assert cli.main(["schema", path, "--json"]) == 0
    columns = {each["name"]: each for each in json.loads(capsys.readouterr().out)["columns"]}
    assert [change["by"] for change in columns["device"]["changes"]] == ["messages", "--drop"]
    assert columns["device"]["type"] is None


def test_a_column_that_was_dropped_is_read_where_it_is_and_taken_up_by_a_pin(
    collecting: Collecting,
) -> None:
    """Its older rows have it, the newest type counts."""
    stream, path = collecting.streams[0], str(collecting.path)
    collecting.once(at("10:30:22"))  # what waited is in a file
    assert cli.main(["schema", path, "--drop=device", "--drop=value"]) == 0
    stream.send(sending(at("10:30:22"), value=7, device={"id": "b"}, other=1))
    collecting.once(at("10:30:32"))
    found = batch_collection.open(path).table(["value", "device", "other"]).to_pylist()
    assert {"value": 3, "device": {"id": "a"}, "other": None} in found
    assert found[-1] == {"value": None, "device": None, "other": 1}

    assert cli.main(["schema", path, "--pin=value=string"]) == 0
    stream.send(sending(at("10:30:32"), value="8", device=1))
    collecting.once(at("10:30:42"))

    values = batch_collection.open(path).table(["value"]).column("value").to_pylist()
    # partitions are read at once: their messages come in any order
    assert [*sorted(values[:4]), *values[4:]] == ["0", "1", "2", "3", None, "8"]
    assert entries_of(collecting.path)[-1].dropped.keys() == {"device"}


def test_a_name_that_readers_take_for_a_dropped_one_is_refused(
    collecting: Collecting, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In messages, a pin and a schema file: older files have the column still."""
    stream, path, file = collecting.streams[0], str(collecting.path), tmp_path / "types.json"
    collecting.once(at("10:30:22"))
    assert cli.main(["schema", path, "--drop=value"]) == 0
    stream.send(sending(at("10:30:22"), Value="text"), sending(at("10:30:23"), value="text"))
    collecting.once(at("10:30:32"))

    (letter,) = dead_letters_of(collecting.path).values()
    assert letter["error"].startswith("names 'value' and 'Value' differ by case alone")
    assert cli.main(["schema", path, "--pin=Value=string"]) == 2
    assert "names 'value' and 'Value' differ by case alone" in capsys.readouterr().err
    file.write_text('{"Value": "string"}')
    with pytest.raises(CollectionError, match="names 'value' and 'Value' differ by case alone"):
        Collecting.of(stream, tmp_path, *FLAGS, f"--schema={file}").once(at("10:30:42"))
    found = duckdb.sql(f"SELECT value FROM read_parquet('{path}/data/**/*', union_by_name=true)")
    assert sorted(found.fetchall(), key=str) == [(0,), (1,), (2,), (3,), (None,)]


@pytest.mark.parametrize("change", ["--pin=value=string", "--drop=value"])
def test_the_last_change_can_be_taken_back_and_made_again(
    collecting: Collecting, change: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A ``--dry_run`` says so and changes nothing; fields learned meanwhile stay."""
    path = str(collecting.path)
    before = entries_of(collecting.path)[-1]
    assert cli.main(["schema", path, change]) == 0
    after = entries_of(collecting.path)[-1]
    capsys.readouterr()

    assert cli.main(["schema", path, "--undo", "--dry_run"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing was changed; it would be from now on value=int64")
    assert len(entries_of(collecting.path)) == 3
    for expected in (before, after):
        assert cli.main(["schema", path, "--undo"]) == 0
        newest = entries_of(collecting.path)[-1]
        assert (newest.schema, newest.dropped) == (expected.schema, expected.dropped)


def test_a_column_that_only_a_pin_gave_is_gone_when_it_is_taken_back(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """Messages may then teach another type."""
    path, stream = str(collecting.path), collecting.streams[0]
    assert cli.main(["schema", path, "--pin=more=string"]) == 0
    capsys.readouterr()

    assert cli.main(["schema", path, "--undo"]) == 0

    assert capsys.readouterr().out.startswith("cycle 3: from now on without more")
    stream.send(sending(at("10:30:12"), value=4, more=1))
    collecting.once(at("10:30:22"))
    assert entries_of(collecting.path)[-1].schema["more"] == "int64"
    check(collecting.path, stream.produced)


def test_what_rows_need_or_older_collectors_would_learn_again_is_not_dropped(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The cure for an older collection does what it says."""
    collector = TableCollector.at(tmp_path)
    collector.newest = replace(
        collector.newest, schema={"at": {"s": "int64"}, "x": "int64"}, row_time="field:at.s"
    )
    collector.collect()
    path = str(tmp_path)

    assert cli.main(["schema", path, "--drop=at"]) == 2
    assert "the time of rows is read from it (field:at.s)" in capsys.readouterr().err
    assert cli.main(["schema", path, "--drop=x"]) == 2
    error = capsys.readouterr().err
    assert "is of format 1, whose collectors would learn the column again; first run `" in error
    (command,) = re.findall("`batch-collection (.*)`", error)
    assert cli.main(command.replace("PATH", path).split()) == 0
    assert cli.main(["schema", path, "--drop=x"]) == 0


def test_a_column_deeper_than_a_carry_file_holds_can_be_dropped(collecting: Collecting) -> None:
    """An older version took it up; its messages wait, and become rows, without it."""
    stream, deep = collecting.streams[0], "string"
    for _ in range(70):
        deep = [deep]  # type: ignore[assignment]
    taken_up = {"value": "int64", "deep": deep}
    append(
        LocalStorage(str(collecting.path)),
        lambda newest, digest: successor(newest, digest, "pin", schema=taken_up),
    )
    value = json.loads("[" * 70 + '"x"' + "]" * 70)
    stream.send(*(sending(at("10:30:12"), value=n, deep=value) for n in range(3)))

    with pytest.raises(WriteError, match=r"^cannot write column deep in waiting rows") as error:
        collecting.once(at("10:30:13"))
    (command,) = re.findall("`batch-collection (.*)` leaves it out", str(error.value))
    assert cli.main(shlex.split(command)) == 0
    collecting.once(at("10:30:13"))
    assert sum(file.rows for file in entries_of(collecting.path)[-1].carry) == 4
    collecting.once(at("10:30:22"))

    table = batch_collection.open(collecting.path).table()
    assert (table.num_rows, "deep" in table.column_names) == (7, False)
    assert audit(LocalStorage(str(collecting.path))).findings == ()


def test_a_schema_file_does_not_take_up_again_what_was_dropped(
    collecting: Collecting, tmp_path: Path
) -> None:
    """It is refused with the pin as a cure, and a collector that runs goes on without."""
    file = tmp_path / "schema.json"
    file.write_text('{"value": "int64"}')
    stream, path = collecting.streams[0], str(collecting.path)
    script = iter([at("10:30:13"), at("11:00:00")])
    due = next(script)

    def arrive(now: datetime) -> None:
        nonlocal due
        if now >= due:
            due = next(script)
            assert cli.main(["schema", path, "--drop=value"]) == 0
            stream.send(sending(now, value=4, more=1))

    running = Collecting.of(stream, tmp_path, *FLAGS, f"--schema={file}")
    running.run(at("10:30:12"), at("10:30:32"), arrive)
    assert "value" not in entries_of(collecting.path)[-1].schema

    with pytest.raises(LogError, match=r"--schema gives column value .* it was dropped; leave it"):
        running.once(at("10:30:42"))


@pytest.mark.parametrize(
    ("types", "problem"),
    [
        ('{"userId": "int64", "userID": "int64"}', "names 'userId' and 'userID' differ by case"),
        ('{"n": [{"x": "bool", "X": "bool"}]}', "names 'n[].x' and 'n[].X' differ by case alone"),
        ('{"_Offset": "int64"}', "column '_Offset' has a name of the metadata or path; rename it"),
        ('{"window_hour": "int64"}', "column 'window_hour' has a name of the metadata or path"),
    ],
)
def test_a_schema_file_whose_names_readers_take_for_others_begins_no_collection(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    types: str,
    problem: str,
) -> None:
    """One line, exit code 2; a collection that is there goes on without it."""
    file, stream = tmp_path / "schema.json", Stream(embedded)
    file.write_text(types)
    words = [f"--bootstrap_servers={embedded.bootstrap_servers}", f"--topics={stream.name}"]
    words += [f"--output={tmp_path / 'out'}", "--once", *FLAGS]

    assert cli.main([*words, f"--schema={file}"]) == 2
    assert f"error: --schema: {problem}" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.json"))
    assert cli.main(words) == 0
    assert cli.main([*words, f"--schema={file}"]) == 2


@pytest.mark.parametrize("name", ["_offset", "_Offset", "_key"])
def test_metadata_that_would_have_the_name_of_a_column_is_refused(
    embedded: EmbeddedBroker, tmp_path: Path, name: str
) -> None:
    """Its rows, those that wait and those of dead letters: they would be masked, or mixed up."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, *FLAGS, "--metadata=none")
    stream.send(sending(at("10:30:01"), **{name: 7}), Sending(b"{", at("10:30:01")))
    collecting.once(at("10:30:02"))
    full = Collecting.of(stream, tmp_path, *FLAGS, "--metadata=full")
    message = f"--metadata adds {name.lower()}, but messages gave .* a column {name}; go on with"

    for _ in range(2):
        with pytest.raises(LogError, match=message):
            full.once(at("10:30:12"))
        assert cli.main(["redrive", str(collecting.path), "--metadata=full"]) == 2
        assert cli.main(["schema", str(collecting.path), f"--drop={name}"]) == 0
    collecting.once(at("10:30:12"))
    assert batch_collection.open(collecting.path).rows == 1


@pytest.mark.parametrize("change", [pinning({"value": "double"}), dropping(["value"])])
def test_a_change_that_dies_anywhere_is_made_once_when_it_is_run_again(
    new_uri: Callable[[], str], change: Change
) -> None:
    """Beside a collector that commits at any moment."""
    k, acted = 0, True
    while acted:
        storage = open_storage(new_uri())
        collector = Collector(storage)
        collector.newest = replace(collector.start(), schema={"value": "int64"}, format=2)
        collector.collect(message(0))
        busy = ActingStorage(storage, collector.collect, k)
        entry = append(busy, change)
        acted = busy.has_acted
        assert entry is not None
        assert append(storage, change) is None
        newest = newest_entry(storage)
        assert newest is not None
        assert newest.schema.get("value") != "int64"
        assert audit(storage).findings == ()
        k += 1
    assert k > 5
