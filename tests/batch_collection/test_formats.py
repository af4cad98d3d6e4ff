"""The formats of batch files: what is written is what is read."""

from __future__ import annotations

import io
import json
from datetime import timezone
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from batch_collection.formats import FORMATS, format_of
from tests.builders import at

if TYPE_CHECKING:
    from batch_collection.formats import Format

ROWS = pa.table(
    {
        "text": ["2026-11-22T10:30:00Z", None, "x"],
        "number": [1.5, 2.0, None],
        "_partition": pa.array([0, 0, 1], pa.int32()),
        "_offset": pa.array([7, 8, 2**53 + 1], pa.int64()),
        "_timestamp": pa.array([at("10:30:00.123")] * 3, pa.timestamp("ms", "UTC")),
    }
)
ALL = [(name, codec) for name, one in FORMATS.items() for codec in one.compressions]


def written(file_format: Format, rows: pa.Table, compression: str) -> bytes:
    """Write a table in two parts."""
    sink = io.BytesIO()
    writer = file_format.writer(sink, rows.schema, compression)
    writer.write(rows.slice(0, 1))
    writer.write(rows.slice(1))
    writer.close()
    return sink.getvalue()  # fails if the writer had closed it


def read(content: bytes, path: str, columns: list[str] | None = None) -> pa.Table:
    """Read a file by its name."""
    return format_of(path).read(io.BytesIO(content), path, columns)


@pytest.mark.parametrize(("name", "compression"), ALL)
def test_rows_come_back(name: str, compression: str) -> None:
    """In all formats and compressions, in order; text that looks like an instant stays text."""
    file_format = FORMATS[name]
    path = f"a{file_format.suffix(compression)}"

    found = read(written(file_format, ROWS, compression), path)

    assert found.to_pylist() == ROWS.to_pylist()
    assert found.schema.field("_timestamp").type == pa.timestamp("ms", "UTC")
    assert found.schema.field("text").type == pa.string()


def test_json_lines_of_rows_without_a_column_are_empty_objects() -> None:
    """But a field of somebody's own that is named like the column that keeps such rows is kept."""
    nothing = pa.table({"_empty": pa.nulls(3, pa.bool_())})
    own = pa.table({"_empty": [None, True, None]})

    assert written(FORMATS["jsonl"], nothing, "none") == b"{}\n" * 3
    assert b'{"_empty":true}\n' in written(FORMATS["jsonl"], own, "none")


@pytest.mark.parametrize(("name", "compression"), ALL)
def test_columns_that_a_file_lacks_are_left_out(name: str, compression: str) -> None:
    """So that readers of many files can fill them."""
    file_format = FORMATS[name]
    path = f"a{file_format.suffix(compression)}"

    found = read(written(file_format, ROWS, compression), path, ["number", "later"])

    assert found.column_names == ["number"]
    assert found.num_rows == 3


def test_json_lines_are_plain_json() -> None:
    """Binary is base64, instants are RFC 3339 in UTC, nulls are written."""
    rows = pa.table({"b": [b"\xff\x00"], "t": [at("10:30:00")], "n": pa.nulls(1)})

    assert json.loads(written(FORMATS["jsonl"], rows, "none")) == {
        "b": "/wA=",
        "t": "2026-11-22T10:30:00Z",
        "n": None,
    }


def test_json_text_deep_inside_stays_text() -> None:
    """Lists and objects too: pyarrow would guess instants, file by file."""
    value: dict[str, Any] = {"list": ["2026-11-22"], "object": {"day": "2026-11-22"}}
    content = json.dumps(value).encode() + b"\n"

    assert read(content, "a.jsonl").to_pylist() == [value]


def test_a_payload_field_named_timestamp_may_be_anything() -> None:
    """Without metadata columns, ``_timestamp`` is the user's."""
    assert read(b'{"_timestamp": "soon"}\n', "a.jsonl").to_pylist() == [{"_timestamp": "soon"}]


def test_a_written_table_is_one_row_group() -> None:
    """Memory when reading is bounded by what was written at once."""
    import pyarrow.parquet as pq  # noqa: PLC0415

    content = written(FORMATS["parquet"], ROWS, "zstd")

    assert pq.ParquetFile(io.BytesIO(content)).metadata.num_row_groups == 2


def test_instants_are_read_as_utc() -> None:
    """Aware, wherever the reader sits."""
    (row,) = read(b'{"_timestamp": "2026-11-22T10:30:00Z"}\n', "a.jsonl").to_pylist()

    assert row["_timestamp"].astimezone(timezone.utc) == at("10:30:00")
