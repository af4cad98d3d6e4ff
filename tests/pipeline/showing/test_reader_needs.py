"""What ``schema --pin`` says that readers need, done literally."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

import batch_collection
from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.files import read_type
from pipeline import cli
from tests.builders import at
from tests.collecting import Collecting, Stream, sending
from tests.tables import TableCollector
from tests.told import answers

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

INSTANT = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)
VALUES: dict[str, Any] = {
    "bool": True,
    "double": 1.0,
    "float": 1.0,
    "int8": 1,
    "int32": 1,
    "int64": 1,
    "uint64": 1,
    "string": "1",
    "binary": b"1",
    "timestamp": INSTANT,
    '["int64"]': [1],
    '["double"]': [0.5],
    '["string"]': ["1"],
    '{"a": "int64"}': {"a": 1},
    '{"a": "double"}': {"a": 0.5},
    '{"a": "string", "b": "bool"}': {"a": "1", "b": True},
}
TEXTS = {"bool": "true", "timestamp": "2026-11-22T10:00:00Z"}
FIXED = ("bool", "double", "int64", "string", "binary", "timestamp")
NUMBERS = ("float", "int8", "int32", "int64", "uint64")
NESTED = tuple(name for name in VALUES if not name.isalnum())
PAIRS = [
    *((one, other) for one in FIXED for other in FIXED if one != other),
    *((one, other) for one in NUMBERS for other in NUMBERS if one != other),
    *(pair for name in NESTED for pair in ((name, "string"), ("int64", name))),
    *((f'["{one}"]', f'["{other}"]') for one, other in (("int64", "double"), ("int64", "string"))),
    ("double", "float"),
    ('{"a": "int64"}', '{"a": "double"}'),
    ('{"a": "int64"}', '{"a": "string", "b": "bool"}'),
]


def table(type_: str, value: Any) -> pa.Table:
    """Return a value and a null of a type."""
    return pa.table({"x": pa.array([value, None], arrow(type_))})


def arrow(type_: str) -> pa.DataType:
    """Return a type of Arrow."""
    return to_arrow({"x": read_type(type_, "x")}).field("x").type


@pytest.mark.parametrize(("old", "new"), PAIRS)
def test_what_is_printed_makes_rows_readable_in_every_reader(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], old: str, new: str
) -> None:
    """Whatever the two types; or it says that no reader takes both, and how to go back."""
    collector, path = TableCollector.at(tmp_path / "c"), str(tmp_path / "c")
    collector.newest = replace(collector.newest, schema={"x": read_type(old, "x")})
    value = TEXTS.get(new, VALUES[old]) if old == "string" else VALUES[old]
    collector.collect((0, table(old, value)))
    pin = ["schema", path, f"--pin=x={new}"]

    assert cli.main([*pin, "--dry_run"]) == 0
    tried = capsys.readouterr().out.splitlines()
    assert cli.main(pin) == 0
    lines = capsys.readouterr().out.splitlines()
    collector.newest = batch_collection.open(path).newest
    collector.collect((1, table(new, VALUES[new])))

    assert tried[0] == f"nothing was changed; it would be {lines[0].partition(': ')[2]}"
    assert tried[1:] == lines[1:-1]
    if "no reader takes" in lines[2]:
        assert lines[2].endswith(f"batch-collection schema {path} --undo")
        assert cli.main(["schema", path, "--undo"]) == 0
        return
    found = answers(lines)
    assert found.keys() == {"batch_collection", "DuckDB", "pyarrow", "Polars"}
    for name, values in found.items():
        assert [each is None for each in values] == [False, True] * 2, name
    if not {"timestamp", "double", "float", "binary"} & {old, new}:
        assert found["pyarrow"] == found["Polars"] == found["batch_collection"]


def changed(collector: TableCollector, *flags: str) -> None:
    """Change a collection's columns by the command."""
    assert cli.main(["schema", collector.storage.uri, *flags]) == 0
    collector.newest = batch_collection.open(collector.storage).newest


def test_a_column_taken_up_again_is_told_of_as_one_whose_type_was_changed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By a pin, or as a drop is taken back; older files have its older types."""
    collector = TableCollector.at(tmp_path)
    assert cli.main(["upgrade", str(tmp_path)]) == 0
    collector.newest = batch_collection.open(collector.storage).newest
    collector.collect((0, table("int64", 1)))
    changed(collector, "--pin=x=double")
    collector.collect((1, table("double", 0.5)))

    for drop, back in (("--drop=x", "--undo"), ("--drop=x", "--pin=x=string")):
        changed(collector, drop)
        capsys.readouterr()
        changed(collector, back)
        found = answers(capsys.readouterr().out.splitlines())
        assert found.keys() == {"batch_collection", "DuckDB", "pyarrow", "Polars"}
        assert {len(values) for values in found.values()} == {4}
    assert found["batch_collection"] == ["1", None, "0.5", None]


def test_an_older_pin_that_no_reader_bears_is_not_cured_by_taking_a_newer_one_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is printed is done, in a folder whose name a shell would take apart: all is readable."""
    collector = TableCollector.at(tmp_path / "it's a folder")
    collector.collect((0, table("int64", 1)))
    changed(collector, '--pin=x={"a": "int64"}')
    assert capsys.readouterr().out.splitlines()[-2].endswith(" --undo")
    collector.collect((1, table('{"a": "int64"}', {"a": 2})))
    changed(collector, "--pin=y=string")
    assert "no reader" not in capsys.readouterr().out
    changed(collector, "--pin=y=bool", '--pin=x=["bool"]')

    line = next(one for one in capsys.readouterr().out.splitlines() if "no reader takes" in one)
    program, *words = shlex.split(line.partition(" after: ")[2])
    assert program == "batch-collection"
    assert cli.main(words) == 0
    lines = capsys.readouterr().out.splitlines()

    assert set(map(tuple, answers(lines).values())) == {("1", None, '{"a":2}', None)}
    assert cli.main(shlex.split(lines[-1].partition(": batch-collection ")[2])) == 0


def test_where_no_file_is_yet_readers_are_named_that_read_any(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches may come as JSON lines, and be read as it was said before."""
    collector = TableCollector.at(tmp_path, "jsonl")
    changed(collector, "--pin=x=int64")
    capsys.readouterr()
    changed(collector, "--pin=x=double")
    collector.collect((0, table("double", 0.5)))

    found = answers(capsys.readouterr().out.splitlines())

    assert found.keys() == {"batch_collection", "DuckDB", "pyarrow", "Polars"}
    assert all(values == [0.5, None] for values in found.values())


@pytest.mark.parametrize("wait", [False, True])
def test_a_pin_that_is_taken_back_before_any_row_came_leaves_nothing_to_cure(
    embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str], *, wait: bool
) -> None:
    """A type that neither a batch nor a row that waits has is none that readers meet."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(sending(at("10:30:01"), x={"a": 1}))
    collecting.once(at("10:30:02") if wait else at("10:30:12"))
    path = str(collecting.path)
    assert cli.main(["schema", path, "--pin=x=int64"]) == 0
    assert "no reader takes" in capsys.readouterr().out

    assert cli.main(["schema", path, "--undo"]) == 0

    (_, last) = capsys.readouterr().out.splitlines()
    assert last.startswith("dead letters of before")
    stream.send(sending(at("10:30:13"), x={"a": 2}))
    collecting.once(at("10:30:22"))
    found = batch_collection.open(path).table(["x"]).column("x").to_pylist()
    assert found == [{"a": 1}, {"a": 2}]
