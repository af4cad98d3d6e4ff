"""Records as JSON: their bytes and back, in this version and in another."""

from __future__ import annotations

import json
from dataclasses import MISSING, is_dataclass
from datetime import datetime, timedelta, timezone
from types import NoneType, UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

import pyarrow as pa
import pytest
from apache_beam import coders
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.log.entry import (
    BatchFile,
    CarryFile,
    DeadLetterFile,
    Form,
    IdFile,
    Origin,
    PartitionRead,
)
from pipeline.running.coordinator import Flight
from pipeline.running.plan_cycle import FlightCoder
from tests.tasks import MINUTE, NOON, plan
from transforms.elements.coders import ReportCoder, TaskCoder
from transforms.elements.failure import Failure
from transforms.elements.pane import PaneReport
from transforms.elements.plan import DeadLetterLimit, Plan, RedrivePlan, Task
from transforms.elements.records import framed, from_json, to_json, unframed
from transforms.elements.report import Report, TaskOrder, WrittenBatch
from transforms.sources.contract import Pull, Remembering, Slice

NAMED: tuple[type, ...] = (
    *(BatchFile, CarryFile, DeadLetterFile, IdFile, Origin, PartitionRead),
    *(Plan, Pull, Remembering, Slice),
)
NAMES = {each.__name__: each for each in (*NAMED, datetime, timedelta)}

INSTANTS = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 - hypothesis wants it naive
    timezones=st.just(timezone.utc),
).map(lambda instant: instant.replace(fold=0))
SCHEMAS = st.recursive(
    st.sampled_from(["int64", "string", None]),
    lambda types: st.lists(types, max_size=1) | st.dictionaries(st.text(max_size=3), types),
    max_leaves=5,
)
PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    NoneType: st.none(),
    str: st.text(max_size=5),
    int: st.integers(-(2**63), 2**63 - 1),
    bool: st.booleans(),
    float: st.floats(allow_nan=False, allow_infinity=False),
    datetime: INSTANTS,
    timedelta: st.timedeltas(timedelta(0), timedelta(days=10_000)),  # exact as seconds
    Any: SCHEMAS,
}


def several_of(items: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return short tuples."""
    return st.lists(items, max_size=2).map(tuple)


def is_record(value: Any) -> bool:
    """Tell a dataclass or named tuple, or one of them, from all else."""
    return is_dataclass(value) or hasattr(value, "_fields")


def hints_of(kind: type) -> dict[str, Any]:
    """Return the types of a record's fields."""
    return get_type_hints(kind, localns=NAMES)


def values(hint: Any) -> st.SearchStrategy[Any]:
    """Return values of an annotated type: records with all their fields drawn."""
    origin, args = get_origin(hint), get_args(hint)
    if hint is Plan:
        return records(Plan) | records(RedrivePlan)
    if is_record(hint):
        return records(hint)
    if origin in {Union, UnionType}:
        return st.one_of(*map(values, args))
    if origin is tuple:
        several = args[1:] == (...,)
        return several_of(values(args[0])) if several else st.tuples(*map(values, args))
    if origin is dict:
        return st.dictionaries(*map(values, args), max_size=2)
    return PLAIN[hint]


def records(kind: type) -> st.SearchStrategy[Any]:
    """Return records of a class with all their fields drawn."""
    return st.builds(kind, **{name: values(hint) for name, hint in hints_of(kind).items()})


KINDS = (Task, TaskOrder, Report, PaneReport, Failure, Flight)
ANY = st.sampled_from(KINDS).flatmap(values)
REDRIVE = RedrivePlan(
    "c", 1, "r", "p", "redrive", NOON, MINUTE, 10, None, None, NOON, {"a": "int64"}, 1, behind=7
)


@given(ANY)
@settings(deadline=None)
def test_a_record_comes_back_with_all_its_fields(record: Any) -> None:
    """And its classes: a redrive's plan is one, tuples are tuples, instants instants."""
    again = from_json(type(record), to_json(record))
    assert again == record
    assert repr(again) == repr(record)


def added_to(record: Any, fields: dict[str, Any]) -> None:
    """Add a field to the JSON of a record, and of all records in it."""
    for name in hints_of(type(record)):
        value, found = getattr(record, name), fields[name]
        if is_record(value):
            added_to(value, found)
        elif isinstance(value, tuple):
            for item, of_item in zip(value, found, strict=True):
                if is_record(item):
                    added_to(item, of_item)
    fields["since"] = {"a": [1]}


@given(ANY)
@settings(deadline=None)
def test_fields_of_a_newer_version_are_ignored(record: Any) -> None:
    """Wherever they are."""
    fields = json.loads(to_json(record))
    added_to(record, fields)
    assert from_json(type(record), json.dumps(fields).encode()) == record


def defaults_of(kind: Any) -> dict[str, Any]:
    """Return the defaults of a record's fields, those that have any."""
    if not is_dataclass(kind):
        return dict(kind._field_defaults)
    found = {}
    for name, each in kind.__dataclass_fields__.items():
        if each.default is not MISSING:
            found[name] = each.default
        elif each.default_factory is not MISSING:
            found[name] = each.default_factory()
    return found


@pytest.mark.parametrize("kind", [*KINDS, Plan, RedrivePlan])
@given(data=st.data())
@settings(deadline=None, max_examples=10)
def test_fields_that_an_older_version_did_not_know_get_their_defaults(
    kind: type, data: st.DataObject
) -> None:
    """Each of them, one at a time."""
    record = data.draw(records(kind))
    for name, default in defaults_of(kind).items():
        fields = json.loads(to_json(record))
        del fields[name]
        if name == "letters":
            continue  # that is what tells the plan of a redrive
        again: Any = from_json(kind, json.dumps(fields).encode())
        assert getattr(again, name) == default
        others = [each for each in hints_of(kind) if each != name]
        assert [getattr(again, n) for n in others] == [getattr(record, n) for n in others]


@given(ANY)
@settings(deadline=None)
def test_no_byte_names_a_class(record: Any) -> None:
    """A module may move, and a class have another name."""
    content = to_json(record)
    assert isinstance(json.loads(content), dict)
    for name in ("transforms", "batch_collection", "RedrivePlan", "datetime"):
        assert name.encode() not in content


WIRE = {
    Task: "plan number slices carry",
    Slice: "topic partition start end lost",
    Plan: "collection cycle run id cause planned_at interval batch_size boundary previous_boundary "
    "ahead_limit schema tasks flush pinned dropped format form max_dead_letters previous messages "
    "most_windows target_bytes most_bytes",
    RedrivePlan: "letters behind",
    TaskOrder: "collection cycle shard attempt interval batch_size boundary previous_boundary "
    "ahead_limit schema flush dropped format form target_bytes plan",
    Form: "layout headers fold",
    DeadLetterLimit: "most percent before",
    CarryFile: "path window_start rows shard bytes crc32c indexed size",
    DeadLetterFile: "path staged messages bytes crc32c",
    Report: "plan task attempt read reads decoded cut taken batches carried dead_letters untimed "
    "why_untimed commonest schema untyped failure",
    PartitionRead: "partition start end messages rows dead_letters tombstones empty lost max_time",
    WrittenBatch: "window_start timing number file",
    BatchFile: "path staged rows bytes crc32c min_time max_time offsets types",
    PaneReport: "origin is_early batches schema",
    Origin: "run window_start shard index checksum rows repeated",
    Failure: "kind text schema limit",
    Flight: "run after plan planned_at tries left goal asked_at stopped dead_letters",
}
"""The fields of the first version whose jobs can be updated, by their names."""


@pytest.mark.parametrize("kind", WIRE)
def test_a_field_keeps_its_name_and_a_new_one_has_a_default(kind: type) -> None:
    """Else a job that is updated loses what was under way, or fails."""
    names = set(WIRE[kind].split())
    assert names <= hints_of(kind).keys()
    inherited = {*hints_of(Plan)} if kind is RedrivePlan else set()
    assert hints_of(kind).keys() - names - inherited <= defaults_of(kind).keys()


@pytest.mark.parametrize(("kind", "coder"), [(Task, TaskCoder), (Report, ReportCoder)])
def test_beam_finds_the_coder_by_the_type(kind: type, coder: type[coders.Coder]) -> None:
    """Of a step's output."""
    assert type(coders.registry.get_coder(kind)) is coder


@pytest.mark.parametrize(
    ("coder", "record"),
    [
        (TaskCoder(), Task(REDRIVE, 0, (), ())),
        (ReportCoder(), Report(plan(), 0, "a")),
        (FlightCoder(), Flight("run", goal={"0": 1})),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_coder_gives_its_record_back(coder: coders.Coder, record: Any) -> None:
    """Those whose plan is a redrive's, too."""
    again = coder.decode(coder.encode(record))
    assert (type(again), again) == (type(record), record)


def test_what_follows_a_record_is_given_uncopied() -> None:
    """The rows of a chunk are not copied once more."""
    encoded = framed(Slice("t", 0, 1, 2), b"abc", b"d")
    head, rest = unframed(Slice, encoded)
    assert (head, rest.to_pybytes()) == (Slice("t", 0, 1, 2), b"abcd")
    whole = pa.py_buffer(encoded)
    assert rest.address + rest.size == whole.address + whole.size
