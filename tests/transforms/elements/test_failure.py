"""Failures: which error each tells of."""

from __future__ import annotations

import pytest

from batch_collection import errors
from batch_collection.errors import CollectionError, DamagedFileError, StorageError
from tests.tasks import plan, task
from transforms.cutting.window_limit import TooManyWindows
from transforms.decoding.contract import SchemaChange
from transforms.elements.failure import OUTRUN, SCHEMA_CHANGE, TOO_MANY, Failure


@pytest.mark.parametrize("name", errors.BY_NAME)
def test_each_error_of_ours_comes_back_as_its_class(name: str) -> None:
    """After it went through JSON as a name."""
    told = Failure.of(errors.BY_NAME[name]("gone"))
    found = Failure.from_json(told.to_json())
    assert found == told
    assert (type(found.error()).__name__, str(found.error())) == (name, "gone")


def test_the_table_has_all_errors_that_the_module_offers() -> None:
    """And nothing else that it holds."""
    offered = {name for name in errors.__all__ if name.endswith("Error")}
    assert errors.BY_NAME.keys() == offered


def test_the_class_is_the_very_one_and_not_one_above_it() -> None:
    """A damaged file is no trouble of the storage's that passes."""
    assert Failure.of(DamagedFileError("x")).error_class is DamagedFileError
    assert Failure.of(StorageError("x")).error_class is StorageError
    assert Failure.of(FileNotFoundError("x")).error_class is FileNotFoundError
    assert Failure("NewerError", "x").error_class is None


def test_what_asks_for_another_plan_has_its_kind() -> None:
    """With what to plan by; it is no error."""
    change = Failure.of(SchemaChange({"a": "double"}))
    assert (change.kind, change.schema) == (SCHEMA_CHANGE, {"a": "double"})
    many = Failure.of(TooManyWindows(task(plan(messages=8, most_windows=2)), 0, "rows of more"))
    assert (many.kind, many.limit) == (TOO_MANY, 1)
    for kind in (SCHEMA_CHANGE, TOO_MANY, OUTRUN):
        assert Failure(kind, "x").error_class is None
        assert type(Failure(kind, "x").error()) is CollectionError


def test_a_text_that_is_no_unicode_can_be_told() -> None:
    """As the name of a file may be."""
    told = Failure.of(StorageError("no \udcff here"))
    assert told.text == r"no \udcff here"
    assert Failure.from_json(told.to_json()) == told
