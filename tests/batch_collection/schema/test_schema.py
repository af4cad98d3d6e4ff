"""Payload schemas: their JSON and Arrow forms, their union, rows brought into their shape."""

from __future__ import annotations

import json
import re
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError
from batch_collection.schema.arrow import PRIMITIVES, from_arrow, to_arrow
from batch_collection.schema.conforming import conform, conform_exactly
from batch_collection.schema.files import read_schema, read_type, type_text
from batch_collection.schema.types import count_leaves, is_changed, merge, prune

NAMES = st.sampled_from(["", "a", "b", "a.b", "größe", "_c"])


def types(leaves: st.SearchStrategy[str]) -> st.SearchStrategy[Any]:
    """Return types of any form over some leaves."""
    return st.recursive(
        leaves,
        lambda inner: (
            st.lists(inner, min_size=1, max_size=1)
            | st.dictionaries(NAMES, inner, min_size=1, max_size=3)
        ),
        max_leaves=6,
    )


def schemas(*leaves: str) -> st.SearchStrategy[dict[str, Any]]:
    """Return schemas over some leaves, all of them by default."""
    return st.dictionaries(NAMES, types(st.sampled_from(leaves or sorted(PRIMITIVES))), max_size=4)


@given(schemas())
def test_a_schema_comes_back_from_arrow(schema: dict[str, Any]) -> None:
    """JSON to Arrow and back is the same, and in the same order."""
    again = from_arrow(to_arrow(schema))

    assert json.dumps(again) == json.dumps(schema)


def test_a_schema_is_plain_json() -> None:
    """The example of the module's docstring, written out in Arrow."""
    schema = {"value": "double", "device": {"id": "string"}, "tags": ["string"]}

    assert to_arrow(schema) == pa.struct(
        [
            ("value", pa.float64()),
            ("device", pa.struct([("id", pa.string())])),
            ("tags", pa.list_(pa.string())),
        ]
    )


def test_what_has_no_type_is_left_out() -> None:
    """Nulls, structs without fields and lists of either are no columns."""
    null = pa.null()
    type_ = pa.struct(
        [
            ("a", null),
            ("b", pa.struct([])),
            ("c", pa.list_(null)),
            ("d", pa.struct([("e", null), ("f", pa.int64())])),
            ("g", pa.list_(pa.struct([]))),
        ]
    )

    assert from_arrow(type_) == {"d": {"f": "int64"}}


@pytest.mark.parametrize(
    ("type_", "name"),
    [
        (pa.large_string(), "string"),
        (pa.large_binary(), "binary"),
        (pa.timestamp("ns"), "timestamp"),
        (pa.date32(), "timestamp"),
        (pa.float16(), "float"),
        (pa.dictionary(pa.int8(), pa.string()), "string"),
        (pa.large_list(pa.int8()), ["int8"]),
    ],
)
def test_wider_relatives_become_what_a_batch_holds(type_: pa.DataType, name: Any) -> None:
    """What users' functions may return has one type here."""
    assert from_arrow(pa.struct([("a", type_)])) == {"a": name}


def test_a_type_no_batch_holds_is_refused_by_its_path() -> None:
    """The error names the column and the types there are."""
    type_ = pa.struct([("a", pa.list_(pa.struct([("b", pa.duration("s"))])))])

    with pytest.raises(CollectionError, match=re.escape("column a[].b has type duration[s]; cast")):
        from_arrow(type_)


def test_fields_of_one_name_are_refused_by_their_path() -> None:
    """One of them would be lost."""
    type_ = pa.struct([("a", pa.list_(pa.struct([("p", pa.int8()), ("p", pa.string())])))])

    with pytest.raises(CollectionError, match=re.escape("column a[] has two fields of one name")):
        from_arrow(type_)


@given(schemas())
def test_merging_a_schema_with_itself_changes_nothing(schema: dict[str, Any]) -> None:
    """Merge is idempotent, and an empty schema is its neutral element."""
    assert merge(schema, schema) == merge(schema, {}) == merge({}, schema) == schema


@given(schemas(), schemas())
def test_the_first_schema_wins_but_for_numbers(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Every column of the first is there, its type changed only from int64 to double."""
    merged = merge(first, second)

    assert list(merged)[: len(first)] == list(first)
    assert set(merged) == set(first) | set(second)
    assert not is_changed(first, merge(first, second, widen=False))


NUMBER = st.sampled_from(["int64", "double", "null"])
STRUCT = st.dictionaries(NAMES, NUMBER, max_size=3)
AGREEING = st.fixed_dictionaries(
    {}, optional={"a": NUMBER, "b": STRUCT, "c": st.tuples(STRUCT).map(list), "d": NUMBER}
)


@given(AGREEING, AGREEING)
def test_merge_is_commutative_where_types_do_not_conflict(
    first: dict[str, Any], second: dict[str, Any]
) -> None:
    """Whichever of two tasks is first, the columns get the same types."""
    assert merge(first, second) == merge(second, first)


@given(AGREEING, AGREEING, AGREEING)
def test_merge_is_associative_where_types_do_not_conflict(
    one: dict[str, Any], two: dict[str, Any], three: dict[str, Any]
) -> None:
    """It makes no difference how tasks are grouped."""
    assert merge(merge(one, two), three) == merge(one, merge(two, three))


def test_integers_and_fractions_make_a_double_however_deep() -> None:
    """In structs and lists too; other types of the first stay."""
    first = {"a": {"b": ["int64"]}, "c": "string", "d": "int32"}
    second = {"e": "bool", "c": "int64", "d": "double", "a": {"b": ["double"], "f": "bool"}}

    assert merge(first, second) == {
        "a": {"b": ["double"], "f": "bool"},
        "c": "string",
        "d": "int32",
        "e": "bool",
    }


def test_what_has_no_type_gives_way() -> None:
    """A null, an empty list and an empty object take the type that comes, on either side."""
    empty = {"a": "null", "b": ["null"], "c": {}, "d": "null"}
    typed = {"a": "int64", "b": "string", "c": ["bool"], "d": ["null"]}

    assert merge(empty, typed) == merge(typed, empty) == typed
    assert prune(empty) == {}


def test_leaves_count_what_holds_values() -> None:
    """A struct counts by its fields, a list by its element."""
    assert count_leaves({"a": "int64", "b": {"c": "bool", "d": [{"e": "bool", "f": {}}]}}) == 4


def test_a_new_column_is_no_change() -> None:
    """Only a column that was there and has another type is one, however deep."""
    before = {"a": {"b": ["int64"]}}

    assert not is_changed(before, {"a": {"b": ["int64"], "c": "bool"}, "d": "bool"})
    assert is_changed(before, {"a": {"b": ["double"]}})
    assert is_changed(before, {})


ROWS = [
    {"a": {"b": [{"c": 1}, None]}, "d": "x"},
    {"a": None, "d": None},
    {"a": {"b": None}, "d": "y"},
    {"a": {"b": []}, "d": "z"},
    None,
]
TYPE = to_arrow({"a": {"b": [{"c": "int64"}]}, "d": "string"})


def test_conforming_orders_adds_and_drops_columns() -> None:
    """At every depth, and nulls of structs and lists stay nulls."""
    wanted = to_arrow({"new": "bool", "a": {"x": "int8", "b": [{"y": "string", "c": "int64"}]}})

    rows = conform(pa.array(ROWS, TYPE), wanted)

    rows.validate(full=True)
    assert rows.type == wanted
    assert rows.to_pylist() == [
        {"new": None, "a": {"x": None, "b": [{"y": None, "c": 1}, None]}},
        {"new": None, "a": None},
        {"new": None, "a": {"x": None, "b": None}},
        {"new": None, "a": {"x": None, "b": []}},
        None,
    ]


def test_conforming_respects_slices_and_chunks() -> None:
    """A slice of an array, and an array in chunks, conform as what they show."""
    wanted = to_arrow({"d": "string", "a": {"b": [{"c": "double"}]}})
    array = pa.array(ROWS * 3, TYPE)

    sliced = conform(array.slice(1, 7), wanted)
    chunked = conform(pa.chunked_array([array.slice(3, 6), array.slice(10)]), wanted)

    assert sliced.to_pylist() == (ROWS * 3)[1:8]
    assert chunked.to_pylist() == (ROWS * 3)[3:9] + ROWS
    sliced.validate(full=True)
    assert conform(pa.chunked_array([], TYPE), wanted).type == wanted


def test_conforming_copies_nothing_that_fits() -> None:
    """The same type is the same array; a column beside a new one keeps its buffers."""
    array = pa.array(ROWS, TYPE)

    wider = conform(array, to_arrow({"new": "bool"} | from_arrow(TYPE)))

    assert conform(array, TYPE) is array
    assert wider.field("d").buffers()[2].address == array.field("d").buffers()[2].address


def test_conforming_to_no_columns_keeps_the_rows() -> None:
    """A struct without fields has a length, and nulls."""
    rows = conform(pa.array(ROWS, TYPE), to_arrow({}))

    assert rows.to_pylist() == [{}, {}, {}, {}, None]


@pytest.mark.parametrize(
    ("array", "type_"),
    [
        (pa.array([0.5]), "int64"),
        (pa.array([2**53 + 1]), "double"),
        (pa.array(["1"]), "int64"),
        (pa.array([1]), "string"),
        (pa.array([1]), "bool"),
        (pa.array([b"\xff"]), "string"),
        (pa.array([1], pa.timestamp("ns")), "timestamp"),
        (pa.array([2.0**128]), "float"),
        (pa.array([0.5, None, -1e300]), "float"),
        (pa.array([[1]]), "int64"),
        (pa.array([{"a": 1}]), ["int64"]),
    ],
)
def test_no_value_is_changed_to_conform(array: pa.Array, type_: Any) -> None:
    """What its column can't hold is an error, never a rounded integer or a parsed value."""
    rows = pa.StructArray.from_arrays([array], ["a"])

    with pytest.raises(pa.ArrowInvalid):
        conform(rows, to_arrow({"a": type_}))


def test_fractions_become_the_nearest_float() -> None:
    """And what was no number stays none."""
    rows = pa.StructArray.from_arrays([pa.array([0.1, float("inf"), 1e-300, None])], ["a"])

    found = conform(rows, to_arrow({"a": "float"})).field("a")

    assert found.to_pylist() == [0.10000000149011612, float("inf"), 0.0, None]


def test_a_schema_is_json_or_yaml() -> None:
    """Both give the same one, in its order; YAML may repeat itself by name."""
    as_json = read_schema('{"b": "double", "a": [{"x": "string"}]}')
    as_yaml = read_schema("b: double\na:\n- &x\n  x: string\n", as_yaml=True)

    assert as_json == {"b": "double", "a": [{"x": "string"}]}
    assert list(as_yaml.items()) == list(as_json.items())
    merged = read_schema("a: &a {x: bool}\nb:\n  <<: *a\n  y: bool\n", as_yaml=True)
    assert merged == {"a": {"x": "bool"}, "b": {"x": "bool", "y": "bool"}}


DEEP = "a field is nested more than 63 levels deep"
AS_JSON = 'write types by columns, as {"value": "double"}, or YAML in a file named .yaml'
AS_YAML = "write types by columns, as value: double, or JSON"


@pytest.mark.parametrize(
    ("as_yaml", "content", "problem"),
    [
        (False, '{"a": {"b": "int"}}', "field a.b has unknown type 'int'; use one of: binary"),
        (False, '{"a": ["null"]}', "field a[] has unknown type 'null'"),
        (False, '{"a": 5}', "field a has unknown type 5"),
        (False, '{"a": []}', "field a is a list of 0 types; give the one of its elements"),
        (False, '{"a": {}}', "field a has no fields; name at least one"),
        (False, "{}", "it has no fields; name at least one"),
        (False, "[]", f"it is a list; {AS_JSON}"),
        (False, "5", f"it is one value; {AS_JSON}"),
        (False, " \n", f"it is empty; {AS_JSON}"),
        (False, '{"a": "bool", "a": "bool"}', f"a is given twice; {AS_JSON}"),
        (
            False,
            '{"a":\n "b',
            f"no JSON in line 2, column 2: unterminated string starting; {AS_JSON}",
        ),
        (False, "{} x", f"no JSON in line 1, column 4: extra data; {AS_JSON}"),
        (False, f'{{"a":{"[" * 63}"bool"{"]" * 63}}}', f"{DEEP}; make it flatter"),
        (False, '{"a":' * 900 + '"bool"' + "}" * 900, DEEP),
        (False, '{"a":' * 100_000 + '"bool"' + "}" * 100_000, DEEP),
        (True, "on: bool", "field name True is not text; put it in quotes"),
        (True, "a: bool\nb: [\n", "no YAML in line 3, column 1: expected the node content"),
        (
            True,
            "a: bool\nb: \0",
            f"no YAML in line 2, column 4: special characters are not allowed; {AS_YAML}",
        ),
        (
            True,
            "a: bool\nb:\n  c: bool\n  c: bool",
            f"no YAML in line 4, column 3: c is given twice; {AS_YAML}",
        ),
        (True, "a: 2026-13-45", f"month must be in 1..12; {AS_YAML}"),
        (True, "a: &a {x: *a}", DEEP),
        (True, "[" * 100_000, DEEP),
        (True, "", f"it is empty; {AS_YAML}"),
    ],
)
def test_what_is_no_schema_is_told_by_its_place(
    content: str, problem: str, *, as_yaml: bool
) -> None:
    """One line says which field, or line and column, and what to write."""
    with pytest.raises(ValueError, match=re.escape(problem)) as caught:
        read_schema(content, as_yaml=as_yaml)
    assert str(caught.value).startswith(problem)


VALUES: dict[str, list[object]] = {
    "int64": [0, -1, 2**24 + 1, 2**53, 2**53 + 1, None],
    "double": [0.0, 0.5, 0.1, 2.0**60, None],
    "string": ["", "1", None],
    "bool": [True, None],
}


@given(
    st.sampled_from(sorted(VALUES)).flatmap(
        lambda name: st.tuples(st.just(name), st.lists(st.sampled_from(VALUES[name])))
    ),
    st.sampled_from(sorted(PRIMITIVES)),
)
def test_conforming_exactly_gives_the_same_values_or_an_error(
    given_values: tuple[str, list[object]], target: str
) -> None:
    """Nothing is rounded, whatever the types."""
    name, values = given_values
    rows = pa.chunked_array([pa.array([{"a": v} for v in values], to_arrow({"a": name}))])
    try:
        found = conform_exactly(rows, to_arrow({"a": target}))
    except pa.ArrowInvalid:
        return
    texts = [v.encode() if isinstance(v, str) and target == "binary" else v for v in values]
    assert [row["a"] for row in found.to_pylist()] == texts


def test_conforming_exactly_drops_no_field() -> None:
    """As ``conform`` would."""
    rows = pa.chunked_array([pa.array([{"a": 1, "b": 2}])])
    with pytest.raises(pa.ArrowInvalid):
        conform_exactly(rows, to_arrow({"a": "int64"}))
    assert conform_exactly(rows, to_arrow({"b": "int64", "a": "double", "c": "string"})).to_pylist()


@pytest.mark.parametrize("kind", ["double", "float"])
def test_numbers_that_are_none_conform_exactly(kind: str) -> None:
    """However deep: NaN is what it was, though pyarrow's comparison says it is not itself."""
    schema = {"x": kind, "l": [kind], "s": {"y": [{"z": kind}]}}
    nan, row = float("nan"), {"x": None, "l": None, "s": None}
    values = [
        {"x": 1.5, "l": [], "s": {"y": None}},
        {"x": nan, "l": [nan, None, -nan], "s": {"y": [{"z": nan}, None, {"z": float("inf")}]}},
        row,
    ]
    rows = pa.chunked_array([pa.array(values, to_arrow(schema)).slice(1)])

    for new in ({"n": "int64"}, {"l": ["double"]}, {"x": "float"}):
        found = conform_exactly(rows, to_arrow({**schema, **new}))

        assert str([{name: each[name] for name in row} for each in found.to_pylist()]) == str(
            values[1:]
        )


def test_what_a_null_struct_hides_need_not_fit() -> None:
    """Below it pyarrow puts an index into a dictionary without values."""
    type_ = pa.struct([("s", pa.struct([("d", pa.dictionary(pa.int8(), pa.string()))]))])

    found = conform(pa.array([{"s": None}], type_), to_arrow(from_arrow(type_)))

    assert found.to_pylist() == [{"s": None}]


@pytest.mark.parametrize("type_", ["double", ["string"], {"id": "int8", "tags": ["string"]}])
def test_types_are_written_as_schema_files_have_them(type_: object) -> None:
    """And read again."""
    assert read_type(type_text(type_), "a") == type_


@pytest.mark.parametrize("text", ["doble", "", "[", "{}", '["int64", "int64"]', '{"a": 1}', "[[]]"])
def test_what_is_no_type_is_refused(text: str) -> None:
    """With the column's name where it is told."""
    with pytest.raises(ValueError, match=r"^(field value|no JSON in line 1, column 2: )"):
        read_type(text, "value")
