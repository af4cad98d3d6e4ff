"""What a schema may gain: all that is let in can wait, spill and be written; the rest says why."""

from __future__ import annotations

import io
import json
import re
import tempfile
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.formats.known import FORMATS
from batch_collection.schema.arrow import PRIMITIVES, to_arrow
from batch_collection.schema.types import MAX_LEVELS, merge
from transforms.cutting.waiting import InMemory, SpillFile
from transforms.decoding import additions
from transforms.decoding.additions import objection, without_twins
from transforms.elements.tables import read_ipc, write_ipc

NAMES = st.sampled_from(["a", "b", "", "a.b", "\0", "\n", "list", "element", "ä", "x" * 3000, '"'])
TYPES = st.recursive(
    st.sampled_from(sorted(PRIMITIVES)),
    lambda inner: st.tuples(inner) | st.dictionaries(NAMES, inner, min_size=1, max_size=3),
    max_leaves=5,
).map(lambda type_: json.loads(json.dumps(type_)))


@st.composite
def deep(draw: st.DrawFn) -> dict[str, Any]:
    """Wrap a type in some levels, to near the limit and beyond."""
    type_ = draw(TYPES)
    for is_list in draw(st.lists(st.booleans(), min_size=50, max_size=70)):
        type_ = [type_] if is_list else {draw(NAMES): type_}
    return {"column": type_}


def levels(type_: Any) -> int:
    """Count the brackets around the innermost type; the tests' own opinion."""
    if isinstance(type_, dict):
        return 1 + max(map(levels, type_.values()))
    return 1 + levels(type_[0]) if isinstance(type_, list) else 0


def value_of(type_: Any) -> Any:
    """Return a value that has all levels of a type, its innermost null."""
    if isinstance(type_, dict):
        return {name: value_of(field) for name, field in type_.items()}
    return [None, value_of(type_[0])] if isinstance(type_, list) else None


@settings(deadline=None)  # machines pause
@given(st.dictionaries(NAMES, TYPES, min_size=1, max_size=3) | deep())
def test_a_type_is_let_in_if_all_writers_hold_it(schema: dict[str, Any]) -> None:
    """As rows that wait, in memory, on disk or as carry, and in each format; else it says why."""
    problem = objection({}, schema, "none")

    if problem is not None:
        assert levels(schema) > MAX_LEVELS
        assert problem == f"nested {levels(schema)} levels deep, the limit is 63; make it flatter"
        return
    payload = pa.array([None, value_of(schema), {}], to_arrow(schema))
    table = pa.table({"payload": payload, "index": pa.nulls(3, pa.int32())})
    assert read_ipc(write_ipc(table)).equals(table)
    spill = SpillFile()
    (spilled,) = spill.spill(InMemory(table)).pieces(0, 3)
    spill.close()
    assert spilled.equals(table)
    rows = pa.Table.from_arrays(payload.flatten(), schema=pa.schema(list(payload.type)))
    for file_format in FORMATS.values():
        sink = io.BytesIO()
        writer = file_format.writer(sink, rows.schema, "none")
        writer.write(rows)
        assert writer.close() == 3
        if file_format.name == "parquet":
            assert pq.read_table(io.BytesIO(sink.getvalue())).equals(rows)
        else:
            lines = sink.getvalue().splitlines()
            assert [json.loads(line) for line in lines] == rows.to_pylist()


def test_one_level_more_than_the_limit_could_not_wait() -> None:
    """So the limit is what it must be, and no less."""
    type_: pa.DataType = pa.int64()
    for _ in range(MAX_LEVELS + 1):
        type_ = pa.struct([("a", type_)])
    with pytest.raises(pa.ArrowInvalid, match="Max recursion depth reached"):
        write_ipc(pa.table({"payload": pa.nulls(1, type_)}))


def test_what_is_in_a_schema_already_is_not_looked_at() -> None:
    """A collection that holds what is refused today gains other columns all the same."""
    type_: Any = "int64"
    for _ in range(80):
        type_ = {"a": type_}
    known = {"deep": type_, "x": "int64", "X": "int64"}

    assert objection(known, {**known, "y": "int64"}, "ascii") is None
    assert objection(known, {**known, "xx": {"a": "int64"}}, "ascii") is None
    assert re.match(
        "nested 82 levels", objection(known, {"deep": {**type_, "b": type_}}, "none") or ""
    )


def test_columns_that_come_one_by_one_cost_the_same_each(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is there already is not written again to try what is new."""
    tried: list[dict[str, Any]] = []
    known = {"a": "int64", "s": {"x": "int64", "y": [{"z": "bool"}]}}
    monkeypatch.setattr(additions, "_unwritable", tried.append)

    for grown in (
        {**known, "b": ["int64"]},
        {**known, "s": {"x": "int64", "y": [{"z": "bool", "w": "string"}]}},
    ):
        assert objection(known, grown, "ascii") is None

    assert tried == [{"b": ["int64"]}, {"s": {"y": [{"w": "string"}]}}]


@pytest.mark.parametrize("type_", ["int64", {"": "int64"}, [{"a": [{"": "bool"}]}]])
def test_an_empty_name_is_refused(type_: Any) -> None:
    """DuckDB calls the third column of a file C2, and that of another file perhaps C5."""
    schema = {"": type_} if isinstance(type_, str) else {"a": type_}

    assert "a field's name is empty, and DuckDB puts another" in (
        objection({}, schema, "ascii") or ""
    )
    assert objection(schema, {**schema, "b": "bool"}, "ascii") is None
    assert objection({}, schema, "none") is None
    sink = io.BytesIO()
    pq.write_table(pa.table({"x": [1], "": [2]}), sink)
    with duckdb.connect() as connection, tempfile.NamedTemporaryFile() as file:
        file.write(sink.getvalue())
        file.flush()
        found = connection.execute(f"FROM read_parquet('{file.name}')").description
    assert [column[0] for column in found or ()] == ["x", "C1"]


@pytest.mark.parametrize("type_", ["int64", [{"a": {"x\0": "bool"}}]])
def test_a_name_with_a_nul_is_refused(type_: Any) -> None:
    """DuckDB and Polars end it there when they are given tables: two names become one."""
    schema = {"x\0": type_} if isinstance(type_, str) else {"a": type_}

    assert "a field's name has a NUL" in (objection({}, schema, "ascii") or "")
    assert objection(schema, {**schema, "b": "bool"}, "ascii") is None
    assert objection({}, schema, "none") is None
    named = pa.table({"x\0": [1]})  # noqa: F841 - found by its name
    with duckdb.connect() as connection:
        assert [each[0] for each in connection.execute("FROM named").description or ()] == ["x"]


def test_names_of_dropped_columns_are_taken() -> None:
    """Files have them, beside which a reader would see the new ones; their own may come again."""
    dropped = {"userId": "int64", "s": {"a": "bool"}}

    for new in ({"userID": "int64"}, {"s": {"A": "bool"}}):
        assert "differ by case alone" in (objection({}, new, "ascii", dropped) or "")
        assert objection({}, new, "none", dropped) is None
    assert objection({}, {"userId": "string", "s": {"b": "bool"}}, "ascii", dropped) is None
    assert objection({"x": "bool"}, {"x": "bool", "y": "bool"}, "ascii", dropped) is None


SPELT = st.recursive(
    st.sampled_from(["int64", "string"]),
    lambda inner: (
        st.tuples(inner).map(list)
        | st.dictionaries(st.sampled_from(["a", "A", "b", "B", "ä", "Ä"]), inner, min_size=1)
    ),
    max_leaves=6,
)
SCHEMAS = st.dictionaries(st.sampled_from(["a", "A", "b", "ä", "Ä"]), SPELT)


@given(SCHEMAS, SCHEMAS)
def test_without_twins_there_is_nothing_to_refuse(
    known: dict[str, Any], new: dict[str, Any]
) -> None:
    """What was known stays, and all that readers tell apart is added."""
    grown = merge(known, new, widen=False)

    kept = without_twins(known, grown, "ascii")

    assert objection(known, kept, "ascii") is None
    assert merge(kept, known, widen=False) == kept
    assert without_twins(known, grown, "none") == grown
    if objection(known, grown, "ascii") is None:
        assert kept == grown


@pytest.mark.parametrize(
    "names",
    [
        ("a", "A"),
        ("userId", "userID"),
        ("é", "É"),
        ("ß", "ss"),
        ("ẞ", "ß"),
        ("\N{LATIN SMALL LETTER DOTLESS I}", "I"),
        ("\N{KELVIN SIGN}", "k"),
        ("\N{LATIN SMALL LETTER LONG S}", "s"),
        ("İ", "i"),
        ("a_", "A_"),
        ("[", "{"),
        ("@", "`"),
        ("a ", "a"),
    ],
)
def test_names_are_told_apart_as_duckdb_tells_them(names: tuple[str, str]) -> None:
    """As columns and as fields of structs."""
    fields = ", ".join(f'"{name}" INT' for name in names)
    for columns, types in (
        (fields, dict.fromkeys(names, "int32")),
        (f"s STRUCT({fields})", {"s": dict.fromkeys(names, "int32")}),
    ):
        with duckdb.connect() as connection:
            try:
                connection.execute(f"CREATE TABLE t ({columns})")
                is_one = False
            except (duckdb.CatalogException, duckdb.BinderException):
                is_one = True

        assert (objection({}, types, "ascii") is not None) == is_one
