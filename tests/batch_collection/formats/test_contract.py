"""The format contract, as every format keeps it: what is written is what is read."""

from __future__ import annotations

import io
import re
from itertools import combinations
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import DamagedFileError, StorageError
from batch_collection.formats.known import FORMATS, format_of
from batch_collection.log.file_types import METADATA_TYPES
from batch_collection.schema.columns import PLACEHOLDER
from tests.columns import rows_of, tables
from tests.formats import HEADERS, ROWS, read, read_back, told, written
from tests.toys import ArrowFile

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TOY = ArrowFile()
KINDS = [(each.name, codec) for each in (*FORMATS.values(), TOY) for codec in each.endings]
ALL = pytest.mark.parametrize(("name", "compression"), KINDS)


@pytest.fixture(autouse=True, scope="module")
def _registered() -> Iterator[None]:
    """Register a format that only tests know beside our own."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(FORMATS, TOY.name, TOY)
        yield


def test_a_file_is_of_one_format_by_its_ending() -> None:
    """No name ends as those of two formats do."""
    endings = {name: set(each.endings.values()) for name, each in FORMATS.items()}

    assert all(name == each.name for name, each in FORMATS.items())
    assert all(ending.startswith(".") for each in endings.values() for ending in each)
    for one, other in combinations(endings.values(), 2):
        assert not any(a.endswith(b) or b.endswith(a) for a in one for b in other)


@ALL
def test_a_file_is_told_by_its_name(name: str, compression: str) -> None:
    """Whatever stands before its ending."""
    ending = FORMATS[name].endings[compression]

    assert format_of(f"data/a.b{ending}") is FORMATS[name]


@pytest.mark.parametrize("path", ["data/a.avro", "data/parquet", "data/a.jsonl.zst"])
def test_a_file_of_no_known_format_is_refused(path: str) -> None:
    """Rather than taken for one of them."""
    said = f"cannot read {path}: no format has this ending; known are .parquet, .jsonl, .jsonl.gz"
    with pytest.raises(StorageError, match=re.escape(said)):
        format_of(path)


@ALL
def test_rows_come_back(name: str, compression: str) -> None:
    """In order; text that looks like an instant stays text."""
    assert read_back(ROWS, name, compression).equals(ROWS)


@settings(max_examples=150, deadline=None)
@given(tables())
def test_whatever_is_written_is_read_back_equal(rows: pa.Table) -> None:
    """Over all types, nesting, nulls and names, in all formats and compressions."""
    for name, compression in KINDS:
        found = read_back(rows, name, compression)

        assert found.schema.equals(rows.schema)
        assert repr(found.to_pylist()) == repr(rows.to_pylist())  # where NaN is NaN, and -0.0 -0.0


@settings(max_examples=50, deadline=None)
@given(st.data(), st.sampled_from(HEADERS))
def test_metadata_is_read_back_equal(data: st.DataObject, headers: pa.DataType) -> None:
    """Keys and headers too, of both types; a name may come twice, a value may be null."""
    rows = data.draw(rows_of(pa.schema({**METADATA_TYPES, "_headers": headers})))

    for name, compression in KINDS:
        assert read_back(rows, name, compression).to_pylist() == rows.to_pylist()


@ALL
def test_columns_that_a_file_lacks_are_left_out(name: str, compression: str) -> None:
    """So that readers of many files can fill them."""
    file_format = FORMATS[name]
    path = f"a{file_format.endings[compression]}"

    found = read(written(file_format, ROWS, compression), path, ROWS.schema, ["number", "later"])

    assert found.column_names == ["number"]
    assert found.num_rows == 3


@ALL
def test_an_outline_says_what_is_read(name: str, compression: str) -> None:
    """Types, columns, rows of each group; of JSON lines only the first line is looked at."""
    file_format = FORMATS[name]
    path = f"a{file_format.endings[compression]}"
    content = written(file_format, ROWS, compression)
    more = pa.schema([*ROWS.schema, ("later", pa.string())])

    found = file_format.outline(io.BytesIO(content), path, told(more, ROWS.num_rows))

    assert found.schema.equals(ROWS.schema)
    assert sum(found.groups) == ROWS.num_rows


@ALL
def test_other_rows_than_the_log_says_are_refused(name: str, compression: str) -> None:
    """By all that reads a file."""
    file_format = FORMATS[name]
    path = f"a{file_format.endings[compression]}"
    content = written(file_format, ROWS, compression)
    said = told(ROWS.schema, 4)
    reads: list[Callable[[], Any]] = [
        lambda: file_format.read(io.BytesIO(content), path, None, said),
        lambda: file_format.read_groups(io.BytesIO(content), path, [0], ["text"], said),
    ]
    if name != "jsonl":  # whose lines are not counted for an outline
        reads.append(lambda: file_format.outline(io.BytesIO(content), path, said))

    for act in reads:
        with pytest.raises(DamagedFileError, match="it has 3 rows, the log says 4; run `batch-"):
            act()


@ALL
def test_rows_without_a_column_come_back(name: str, compression: str) -> None:
    """They are counted."""
    rows = pa.table({PLACEHOLDER: pa.nulls(3, pa.bool_())})

    assert read_back(rows, name, compression).equals(rows)


@ALL
def test_groups_are_read_alone(name: str, compression: str) -> None:
    """Any of them, in the order asked for; all together are the file."""
    file_format = FORMATS[name]
    path, said = f"a{file_format.endings[compression]}", told(ROWS.schema, ROWS.num_rows)
    content = written(file_format, ROWS, compression)
    groups = file_format.outline(io.BytesIO(content), path, said).groups
    ends = [sum(groups[: n + 1]) for n in range(len(groups))]

    for group, end in reversed(list(enumerate(ends))):
        found = file_format.read_groups(io.BytesIO(content), path, [group], ["_offset"], said)
        assert found.equals(ROWS.select(["_offset"])[end - groups[group] : end])
