"""What each of our formats has beside the contract."""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.errors import DamagedFileError
from batch_collection.formats.known import FORMATS, format_of
from batch_collection.formats.told import Outline
from batch_collection.schema.columns import PLACEHOLDER
from tests.builders import at
from tests.formats import HEADERS, ROWS, read, read_back, told, written


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_are_none_are_words_in_json(word: str) -> None:
    """Anywhere, in files of format 2; text of the same letters stays text."""
    number = float(word)
    row = {"a": number, "b": [None, {"x": 0.1, "t": at("10:30:00")}, {"x": number}], "t": word}
    rows = pa.Table.from_pylist([{**row, "a": None, "b": None}, row, {**row, "a": 1e300}])

    content = written(FORMATS["jsonl"], rows, "none")

    assert json.loads(content.splitlines()[1])["a"] == word
    assert repr(read(content, "a.jsonl", rows.schema).to_pylist()) == repr(rows.to_pylist())


def test_numbers_that_are_none_stay_nulls_in_format_1() -> None:
    """As they were always written there: older programs read these files."""
    rows = pa.table({"a": [float("nan"), 1.5], "b": [[float("inf")], [2.0]]})

    found = read_back(rows, "jsonl", "none", version=1)

    assert found.to_pylist() == [{"a": None, "b": [None]}, {"a": 1.5, "b": [2.0]}]


def test_long_files_are_read_in_parts() -> None:
    """More lines than are parsed at once, and lines longer than a part."""
    many = pa.table({"a": pa.array(range(120_001), pa.int64())})
    long = pa.table({"a": ["x" * (65 << 20), "y", "z" * 100]})

    assert read_back(many, "jsonl", "none").equals(many.combine_chunks())
    assert read_back(long, "jsonl", "none").equals(long)


NO_COLUMN = io.BytesIO()
pq.write_table(pa.table({"a": [1]}).select([]), NO_COLUMN)


@pytest.mark.parametrize(
    ("content", "path"),
    [
        (b"{}\n{}\n{}\n", "a.jsonl"),
        (b"", "a.jsonl"),
        (gzip.compress(b"", mtime=0), "a.jsonl.gz"),
        (NO_COLUMN.getvalue(), "a.parquet"),
    ],
)
def test_rows_without_columns_are_rows(content: bytes, path: str) -> None:
    """JSON lines hold them as empty objects; format 1 kept nothing of them but their number."""
    file_format, said = format_of(path), told(pa.schema([]), 3)

    found = file_format.read(io.BytesIO(content), path, None, said)
    outline = file_format.outline(io.BytesIO(content), path, said)
    none = file_format.read_groups(io.BytesIO(content), path, [0], ["a"], said)

    assert found.to_pylist() == [{PLACEHOLDER: None}] * 3
    assert outline == Outline(found.schema, (3,))
    assert (none.num_rows, none.num_columns) == (3, 0)


def test_fewer_rows_without_columns_than_the_log_says_are_refused() -> None:
    """As others are."""
    with pytest.raises(DamagedFileError, match="it has 2 rows, the log says 3"):
        FORMATS["jsonl"].read(io.BytesIO(b"{}\n{}\n"), "a.jsonl", None, told(pa.schema([]), 3))


@pytest.mark.parametrize(
    "content",
    [
        b'{"a":1}\n{"a":2}',
        b'{"a":1}\n{"b":2}\n',
        b'{"a":1}{"a":2}\n',
        b'{"a":1}\n\n',
        b'{"a":"1"}\n',
        b'{"a":1.5}\n',
        b'{"a":99999999999999999999}\n',
        b'{"a":1,"a":2}\n',
        b'{"a":NaN}\n',
        b'{"a":"NaN"}\n',
        b"[1]\n",
        b"\n",
        b'{"a":\xff}\n',
        b"\x00\n",
    ],
)
def test_lines_that_no_collector_wrote_are_refused(content: bytes) -> None:
    """Rather than read as something else."""
    with pytest.raises((pa.ArrowInvalid, DamagedFileError)):
        read(content, "a.jsonl", pa.schema([("a", pa.int64())]))


@pytest.mark.parametrize("text", ["!", "YQ", "YQ==YQ==", "Y Q==", "\u00e9"])
def test_what_is_no_base64_is_refused(text: str) -> None:
    """Not skipped, as Python's decoder would by default."""
    with pytest.raises(pa.ArrowInvalid):
        read(json.dumps({"a": text}).encode() + b"\n", "a.jsonl", pa.schema([("a", pa.binary())]))


@pytest.mark.parametrize("pairs", [[["k"]], [["k", "dg==", "x"]], [None], [[None, "dg=="]]])
def test_what_is_no_map_is_refused(pairs: list[Any]) -> None:
    """A list of pairs, the first of each not null."""
    content = json.dumps({"_headers": pairs}).encode() + b"\n"
    with pytest.raises(pa.ArrowInvalid):
        read(content, "a.jsonl", pa.schema([("_headers", HEADERS[0])]))


def test_json_lines_of_rows_without_a_column_are_empty_objects() -> None:
    """But a field of somebody's own that is named like the column that keeps such rows is kept."""
    nothing = pa.table({"_empty": pa.nulls(3, pa.bool_())})
    own = pa.table({"_empty": [None, True, None]})

    assert written(FORMATS["jsonl"], nothing, "none") == b"{}\n" * 3
    assert b'{"_empty":true}\n' in written(FORMATS["jsonl"], own, "none")


@pytest.mark.parametrize(
    ("columns", "name"),
    [
        ([("a", pa.int64()), ("b", pa.int64()), ("a", pa.int64())], "a"),
        ([("s", pa.list_(pa.struct([("x", pa.int64()), ("x", pa.int64())])))], "s.x"),
    ],
)
def test_two_columns_of_one_name_are_refused(
    columns: list[tuple[str, pa.DataType]], name: str
) -> None:
    """They are named, where pyarrow says nothing that helps; in objects, too."""
    schema = pa.schema(columns)
    rows = pa.Table.from_arrays([pa.nulls(1, type_) for _, type_ in columns], schema=schema)
    content = written(FORMATS["parquet"], rows, "zstd")

    with pytest.raises(DamagedFileError, match=f"has two columns named {re.escape(name)}; run"):
        read(content, "a.parquet", rows.schema)


def test_json_lines_are_plain_json() -> None:
    """Binary is base64, instants are RFC 3339 in UTC, nulls are written."""
    rows = pa.table({"b": [b"\xff\x00"], "t": [at("10:30:00")], "n": pa.nulls(1)})

    assert json.loads(written(FORMATS["jsonl"], rows, "none")) == {
        "b": "/wA=",
        "t": "2026-11-22T10:30:00Z",
        "n": None,
    }


def footer(rows: pa.Table) -> pq.FileMetaData:
    """Write rows at once as Parquet; return what the footer says."""
    writer = FORMATS["parquet"].writer(sink := io.BytesIO(), rows.schema, "zstd")
    writer.write(rows)
    writer.close()
    return pq.ParquetFile(sink).metadata


@pytest.mark.parametrize(
    ("rows", "groups"),
    [(0, [0]), (1, [1]), (24_000, [24_000]), (33_333, [16_667, 16_666]), (49_152, [16_384] * 3)],
)
def test_a_long_table_is_row_groups_of_about_16384_rows(rows: int, groups: list[int]) -> None:
    """A shuffle reads whole ones; none is a remainder of few rows."""
    table = pa.table({"a": pa.array(range(rows), pa.int64())})
    found = footer(table)

    assert [found.row_group(n).num_rows for n in range(found.num_row_groups)] == groups


def test_only_what_repeats_has_a_dictionary() -> None:
    """However deep, whatever the type: its values would be written twice."""
    many = [f"text {number}" for number in range(1000)]
    few = [number % 3 for number in range(1000)]
    rows = pa.table(
        {
            "a": many,
            "b": few,
            "c": [{"d": [number], "e": [text]} for number, text in zip(few, many, strict=True)],
            "f": pa.nulls(1000),
        }
    )

    group = footer(rows).row_group(0)
    leaves = [group.column(n) for n in range(group.num_columns)]
    assert {leaf.path_in_schema for leaf in leaves if leaf.has_dictionary_page} == {
        "b",
        "c.d.list.element",
        "f",
    }


def test_large_files_are_handed_on_while_they_are_written() -> None:
    """A file does not wait in memory until it is whole; what is behind is not closed."""

    class Sink(io.BytesIO):
        parts: ClassVar[list[int]] = []

        def write(self, content: Any) -> int:
            self.parts.append(len(content))
            return super().write(content)

    rows = pa.table({"a": [os.urandom(1 << 19) for _ in range(8)]})
    writer = FORMATS["parquet"].writer(sink := Sink(), rows.schema, "none")
    for number in range(8):
        writer.write(rows.slice(number, 1))

    assert 3 << 20 <= sum(Sink.parts) <= 5 << 20
    assert writer.close() == 8
    assert max(Sink.parts) < 2 << 20
    assert pq.read_table(io.BytesIO(sink.getvalue())).equals(rows)


def test_a_written_table_is_one_row_group() -> None:
    """Memory when reading is bounded by what was written at once."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    content = written(FORMATS["parquet"], ROWS, "zstd")

    assert pq.ParquetFile(io.BytesIO(content)).metadata.num_row_groups == 2
