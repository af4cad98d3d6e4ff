"""``export``: files that other programs read, all of them or none."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.exporting import export as export_module
from pipeline.cli import main
from pipeline.commands import export as export_command
from pipeline.options.flags import Parser
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


@pytest.fixture
def collection(tmp_path: Path) -> Path:
    """Return 100 rows in three windows, the first two closed."""
    root = tmp_path / "c"
    files = [(0, numbered(0, 40)), (1, numbered(40, 70)), (2, numbered(70, 100))]
    TableCollector.at(root, row_group=16).collect(*files, closed=2)
    return root


def export(collection: Path, output: Path, *flags: str) -> int:
    """Run the command."""
    return main(["export", str(collection), f"--output={output}", *flags])


def rows_of(path: Path) -> list[dict[str, object]]:
    """Return the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def ids(paths: Sequence[Path]) -> list[object]:
    """Return the ids in files, one after the other."""
    return [row["id"] for path in paths for row in rows_of(path)]


def test_shards_hold_all_rows_in_order(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Equally many each; and what was done is said."""
    assert export(collection, tmp_path / "out", "--to=jsonl", "--shards=3") == 0

    parts = sorted((tmp_path / "out").glob("part-*"))
    assert [path.name for path in parts] == [f"part-0000{i}-of-00003.jsonl" for i in range(3)]
    assert [len(rows_of(path)) for path in parts] == [33, 33, 34]
    assert ids(parts) == list(range(100))
    assert rows_of(parts[0])[8] == {"id": 8, "device": "d1"}
    assert capsys.readouterr().out.splitlines() == [
        f"{tmp_path / 'out'} holds cycle 1 of {collection}",
        "  all              100 rows  3 files",
    ]
    said = json.loads((tmp_path / "out" / "export.json").read_text())
    assert (said["to"], said["rows"]) == ("jsonl", {"": 100})
    assert "cycle=1" in said["of"][""]


def test_parts_of_a_split_share_no_key(collection: Path, tmp_path: Path) -> None:
    """A folder each, and a key in one of them."""
    flags = ["--to=jsonl", "--split=train=0.5,test=0.5", "--by=device", "--columns=device,id"]
    assert export(collection, tmp_path / "out", *flags) == 0

    parts = [sorted((tmp_path / "out" / name).iterdir()) for name in ("train", "test")]
    keys = [{row["device"] for path in part for row in rows_of(path)} for part in parts]
    assert keys[0] & keys[1] == set()
    assert sorted(map(int, map(str, ids(parts[0] + parts[1])))) == list(range(100))


def test_windows_can_be_chosen_and_rows_mixed(collection: Path, tmp_path: Path) -> None:
    """By time, or those that are closed; the same seed gives the same bytes."""
    assert export(collection, tmp_path / "a", "--to=jsonl", "--complete", "--shuffle=1") == 0
    assert export(collection, tmp_path / "b", "--to=jsonl", "--complete", "--shuffle=1") == 0
    assert export(collection, tmp_path / "c2", "--to=jsonl", "--start=2026-11-22T10:02Z") == 0

    name = "part-00000-of-00001.jsonl"
    found = ids([tmp_path / "a" / name])
    assert found != list(range(70))
    assert sorted(map(int, map(str, found))) == list(range(70))
    assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert ids([tmp_path / "c2" / name]) == list(range(70, 100))


def test_nothing_is_there_after_an_error(
    collection: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither the directory nor a draft of it."""
    written = []

    def full(_: object, rows: pa.Table) -> None:
        written.append(rows.num_rows)
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(export_module.EXPORTS, "jsonl", full)
    before = set(tmp_path.iterdir())

    assert export(collection, tmp_path / "out", "--to=jsonl") == 2
    assert written
    assert set(tmp_path.iterdir()) == before


def test_a_directory_with_something_in_it_is_left_alone(
    collection: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An empty one is taken."""
    (tmp_path / "out").mkdir()
    assert export(collection, tmp_path / "out", "--to=jsonl") == 0
    assert export(collection, tmp_path / "out", "--to=jsonl") == 2
    assert "is not empty; remove it, or name another directory" in capsys.readouterr().err


def test_what_no_feature_holds_is_refused(tmp_path: Path) -> None:
    """With the column."""
    rows = pa.table({"l": [[{"x": 1}]]})
    TableCollector.at(tmp_path / "c").collect((0, rows))
    view = batch_collection.open(tmp_path / "c")

    with pytest.raises(CollectionError, match=re.escape("column l is list<element: struct<x: int")):
        export_module.export({"": view}, tmp_path / "out", "tfrecord")


@pytest.mark.parametrize("values", [[0.5, 1e300], [[0.5], [-1e300]]])
def test_a_number_beyond_a_feature_s_range_is_refused(tmp_path: Path, values: list[object]) -> None:
    """It would be infinite."""
    TableCollector.at(tmp_path / "c").collect((0, pa.table({"v": values})))
    view = batch_collection.open(tmp_path / "c")

    with pytest.raises(CollectionError, match=r"column v holds -?1e\+300, and features have"):
        export_module.export({"": view}, tmp_path / "out", "tfrecord")


@pytest.mark.parametrize("column", ["a", "a.b"])
def test_two_features_of_one_name_are_refused(tmp_path: Path, column: str) -> None:
    """One would be lost; each can be exported by itself."""
    TableCollector.at(tmp_path / "c").collect((0, pa.table({"a.b": ["flat"], "a": [{"b": "in"}]})))
    view = batch_collection.open(tmp_path / "c")

    with pytest.raises(CollectionError, match=r"two columns would be feature a\.b; leave one of"):
        export_module.export({"": view}, tmp_path / "out", "tfrecord")
    assert not (tmp_path / "out").exists()

    export_module.export({"": view}, tmp_path / "out", "tfrecord", columns=[column])
    (file,) = (tmp_path / "out").glob("*.tfrecord")
    assert {"a": b"in", "a.b": b"flat"}[column] in file.read_bytes()


def test_two_fields_of_one_column_are_refused_with_what_helps(tmp_path: Path) -> None:
    """No choice of columns tells them apart."""
    rows = pa.table({"a": [{"b.c": "flat", "b": {"c": "in"}}], "x": ["other"]})
    TableCollector.at(tmp_path / "c").collect((0, rows))
    view = batch_collection.open(tmp_path / "c")

    expected = (
        "two fields of column a would be feature a.b.c; leave it out with --columns, or use "
        "--to=jsonl"
    )
    with pytest.raises(CollectionError, match=re.escape(expected)):
        export_module.export({"": view}, tmp_path / "out", "tfrecord")

    export_module.export({"": view}, tmp_path / "lines", "jsonl")
    export_module.export({"": view}, tmp_path / "out", "tfrecord", columns=["x"])


def test_wrong_flags_are_reported_together() -> None:
    """One line each."""
    parser = Parser()
    export_command.configure(parser)
    flags = ["x", "--to=csv", "--shards=0", "--split=a=b,/=0.5", "--start=noon", "--shuffle=-1"]
    with pytest.raises(CollectionError) as caught:
        export_command.check(parser.parse_args(flags))

    assert str(caught.value).splitlines() == [
        "--split must be NAME=FRACTION,..., as train=0.8,test=0.2, got 'a=b'",
        "--split must be NAME=FRACTION,..., as train=0.8,test=0.2, got '/=0.5'",
        "--split and --by go together; give both",
        "--output is missing; name a new directory",
        "unknown --to=csv; use one of: jsonl, tfrecord",
        "--shards must be a whole number of at least 1, got '0'",
        "--start is not an instant: 'noon'; write it as 2026-11-22T10:30:00Z",
        "--shuffle must be a whole number of at least 0, got '-1'",
    ]


@pytest.mark.parametrize("output", ["file", "file/below"])
def test_an_output_below_a_file_is_named_with_its_flag(
    collection: Path, tmp_path: Path, output: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a row is read."""
    (tmp_path / "file").touch()

    assert export(collection, tmp_path / output, "--to=jsonl") == 2

    error = f"error: --output={tmp_path / output}: {tmp_path}/file is no directory\n"
    assert capsys.readouterr() == ("", error)


@pytest.mark.parametrize(
    ("split", "told"),
    [
        ("a=nan,b=0.5", "must be NAME=FRACTION,..., as train=0.8,test=0.2, got 'a=nan'"),
        ("a=.٣", "must be NAME=FRACTION,..., as train=0.8,test=0.2, got 'a=.٣'"),
        ("a=0.5,a=0.5", "names a twice; leave one out"),
    ],
)
def test_a_split_that_can_not_be_meant_is_told_with_its_flag(
    split: str, told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the collection is looked for."""
    assert main(["export", "c", "--to=jsonl", "--output=new", "--by=a", f"--split={split}"]) == 2
    assert capsys.readouterr().err == f"error: --split {told}\n"


def test_fractions_of_more_than_a_whole_are_told_with_their_flag(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """In the words of ``split``, which has the rule."""
    assert main(["export", "c", "--to=jsonl", "--output=new", "--by=a", "--split=a=1,b=.5"]) == 2
    assert capsys.readouterr().err.startswith("error: --split: fractions must be above 0 and add")


def test_a_start_behind_the_end_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """It gave files without rows."""
    words = ["export", "c", "--to=jsonl", "--output=new", "--start=2026-11-22", "--end=2026-11-21"]
    assert main(words) == 2
    told = "error: --start=2026-11-22 must be before --end=2026-11-21\n"
    assert capsys.readouterr().err == told
