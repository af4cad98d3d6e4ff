"""``batch-collection schema``: what it prints, what it pins, what it refuses."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pytest

from batch_collection.audit import audit
from batch_collection.log import newest_entry
from batch_collection.storage import LocalStorage, open_storage
from pipeline import cli
from pipeline.schema_command import pin
from tests.builders import Collector, at, message
from tests.collecting import Collecting, Stream, check, entries_of, sending
from tests.storages import ActingStorage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.embedded import EmbeddedBroker

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


def test_a_pin_holds_for_the_future_and_says_what_readers_need(
    collecting: Collecting, capsys: pytest.CaptureFixture[str]
) -> None:
    """The next collector goes on under it without a flag, and takes up what waits."""
    assert cli.main(["schema", str(collecting.path), "--pin=value=double"]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0] == "cycle 2: from now on value=double"
    assert "keep value=int64; to read both, DuckDB needs union_by_name=true, pyarrow" in out

    collecting.streams[0].send(sending(at("10:30:12"), value=0.5))
    collecting.once(at("10:30:22"))

    check(collecting.path, collecting.streams[0].produced)
    assert entries_of(collecting.path)[-1].schema["value"] == "double"
    assert entries_of(collecting.path)[2].pinned == ("value",)


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
            ["--pin=v={}: field v has no fields", "--pin=w=[: Expecting"],
        ),
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


def test_a_pin_that_dies_anywhere_is_made_once_when_it_is_run_again(
    new_uri: Callable[[], str],
) -> None:
    """Beside a collector that commits at any moment."""
    k, acted = 0, True
    while acted:
        storage = open_storage(new_uri())
        collector = Collector(storage)
        collector.collect(message(0))
        busy = ActingStorage(storage, collector.collect, k)
        entry = pin(busy, {"value": "double"})
        acted = busy.has_acted
        assert entry is not None
        assert pin(storage, {"value": "double"}) is None
        newest = newest_entry(storage)
        assert newest is not None
        assert newest.schema["value"] == "double"
        assert audit(storage).findings == ()
        k += 1
    assert k > 5
