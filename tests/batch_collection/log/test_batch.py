"""A batch's file is the one that the log tells of, or it is not read: whatever reads it."""

from __future__ import annotations

import gzip
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

import batch_collection
from batch_collection.errors import DamagedFileError, FileGoneError, StorageError
from batch_collection.exporting.export import export
from batch_collection.formats.known import FORMATS
from batch_collection.formats.told import Told
from batch_collection.log.batch import reading
from batch_collection.reading import dataset
from tests.tables import TableCollector, numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.collection import Collection

WAYS: dict[str, Callable[[Collection, Path], Any]] = {
    "table": lambda view, _: view.table(),
    "columns": lambda view, _: view.to_arrow(["id"]),
    "where": lambda view, _: view.to_arrow(where=pc.field("id") > 1),
    "schema": lambda view, _: view.schema,
    "scan": lambda view, _: view.scan().to_table(),
    "pandas": lambda view, _: view.to_pandas(),
    "polars": lambda view, _: view.to_polars().collect(),
    "duckdb": lambda view, _: view.to_duckdb().fetchall(),
    "arrow batches": lambda view, _: list(view.to_arrow_batches(10)),
    "shuffled": lambda view, _: list(view.to_numpy_batches(10, shuffle=1, columns=["id"])),
    "split": lambda view, _: view.split({"a": 0.5}, by="device")["a"].rows,
    "export": lambda view, path: export({"": view}, path / "exported", "jsonl"),
    "batch": lambda view, _: [batch.table() for batch in view],
    "followed": lambda view, _: [batch.table() for batch in view.follow("c", once=True)],
}
LINES = sorted(WAYS.keys() - {"schema"})


def path_of(root: Path) -> tuple[Path, str]:
    """Return the only batch file, and its name in the log."""
    (batch,) = batch_collection.open(root)
    return root / batch.path, batch.path


def as_large(rows: pa.Table, path: Path) -> None:
    """Put a Parquet file of other rows in place of one, with as many bytes."""
    size, padding = path.stat().st_size, 0
    for _ in range(9):
        with pq.ParquetWriter(path, rows.schema, store_schema=False) as writer:
            writer.write_table(rows)
            writer.add_key_value_metadata({"padding": "x" * padding})
        padding += size - path.stat().st_size
        if path.stat().st_size == size:
            return
    raise AssertionError(size)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [1, 20, 900])
def test_a_file_of_other_rows_is_refused_though_it_is_valid(
    tmp_path: Path, way: str, rows: int
) -> None:
    """By its size, or by its footer: before its rows are read."""
    view = TableCollector.at(tmp_path / "c").collect((0, numbered(0, 300)))
    path, name = path_of(tmp_path / "c")
    as_large(pa.table({"id": pa.array([0] * rows)}), path)

    message = f"cannot read {name}: it has {rows} rows, the log says 300; run `batch-collection a"
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        WAYS[way](view, tmp_path)
    assert not (tmp_path / "exported").exists()


@pytest.mark.parametrize("way", WAYS)
def test_a_file_of_another_size_is_refused(tmp_path: Path, way: str) -> None:
    """Though it has as many rows."""
    view = TableCollector.at(tmp_path / "c").collect((0, numbered(0, 300)))
    path, name = path_of(tmp_path / "c")
    pq.write_table(numbered(1, 301), path)

    message = f"cannot read {name}: it has {path.stat().st_size} bytes, the log says "
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        WAYS[way](view, tmp_path)


def test_a_file_that_goes_as_a_filter_begins_to_read_is_told_to_be_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arrow opens it by itself then, and would say no more than its name."""
    view = TableCollector.at(tmp_path / "c").collect((0, numbered(0, 300)))
    path, name = path_of(tmp_path / "c")
    assert view.schema.names
    path.unlink()
    monkeypatch.setattr(dataset, "on_disk", lambda _: True)

    with pytest.raises(FileGoneError, match=re.escape(f"{name} is gone, though the log names it")):
        view.to_arrow(where=pc.field("id") > 1)


@pytest.mark.parametrize("way", LINES)
def test_json_lines_of_other_rows_are_refused(tmp_path: Path, way: str) -> None:
    """Though they are valid, and of as many bytes."""
    view = TableCollector.at(tmp_path / "c", "jsonl").collect((0, numbered(0, 9)))
    path, name = path_of(tmp_path / "c")
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[1:-1], b" " * len(lines[0]) + lines[-1]]))

    message = f"cannot read {name}: it has 8 rows, the log says 9; run `batch-collection audit`"
    with pytest.raises(DamagedFileError, match=re.escape(message)):
        WAYS[way](view, tmp_path)


@pytest.mark.parametrize("way", LINES)
@pytest.mark.parametrize("line", [b'{"id":"1"', b'{"id":1.5', b'{"id":1,"x":2', b"\xff", b"{"])
def test_json_lines_that_are_damaged_are_one_clear_line(
    tmp_path: Path, way: str, line: bytes
) -> None:
    """Named, with the next step; never a traceback of pyarrow's."""
    view = TableCollector.at(tmp_path / "c", "jsonl").collect((0, numbered(0, 9)))
    path, name = path_of(tmp_path / "c")
    lines = path.read_bytes().splitlines(keepends=True)
    broken = (line + b"}" if line.startswith(b'{"') else line).ljust(len(lines[4]) - 1) + b"\n"
    path.write_bytes(b"".join([*lines[:4], broken, *lines[5:]]))

    with pytest.raises(StorageError, match=rf"^cannot read {re.escape(name)}: .*run `batch-c"):
        WAYS[way](view, tmp_path)


def test_a_huge_file_is_refused_before_its_rows_are_read(tmp_path: Path) -> None:
    """A small file may hold very many rows that are alike."""
    path, many = tmp_path / "a.parquet", pa.table({"id": pa.array([0] * 500_000)})
    with pq.ParquetWriter(path, many.schema, compression="zstd") as writer:
        for _ in range(40):
            writer.write_table(many)
    before = pa.total_allocated_bytes()

    for columns in (None, ["id"]):
        with path.open("rb") as source, pytest.raises(DamagedFileError, match="it has 20000000"):
            FORMATS["parquet"].read(source, "a.parquet", columns, Told(300, lambda: ()))
    assert pa.total_allocated_bytes() - before < 1 << 20


def test_two_columns_of_one_name_are_a_clear_error(tmp_path: Path) -> None:
    """Wherever they are read."""
    rows = pa.Table.from_arrays([pa.array([1, 2])] * 2, ["id", "id"])
    view = TableCollector.at(tmp_path / "c").collect((0, rows), schema={"id": "int64"})
    (batch,) = view

    for read in (view.table, batch.table, lambda: view.to_arrow(["id"])):
        with pytest.raises(DamagedFileError, match="has two columns named id; run `batch-coll"):
            read()


def test_a_gzip_file_that_is_cut_is_a_clear_error(tmp_path: Path) -> None:
    """Its end is not there."""
    collector = replace(TableCollector.at(tmp_path / "c", "jsonl"), compression="gzip")
    view = collector.collect((0, numbered(0, 300)))
    path, name = path_of(tmp_path / "c")
    content = path.read_bytes()
    whole = gzip.decompress(content)
    path.write_bytes(gzip.compress(whole[: len(whole) // 2])[: len(content)].ljust(len(content)))

    with pytest.raises(StorageError, match=rf"^cannot read {re.escape(name)}: .*run `batch-c"):
        view.table()


def test_what_a_library_says_in_lines_is_one_line(tmp_path: Path) -> None:
    """An error is one, so that it can be found in a log."""
    TableCollector.at(tmp_path).collect((1, numbered(0, 3)))
    (batch,) = batch_collection.open(tmp_path)

    def refuse(_: object) -> None:
        message = "first\n  second "
        raise pa.ArrowInvalid(message)

    with pytest.raises(StorageError, match=f"^cannot read {batch.path}: first second; run "):
        reading(batch, refuse)
