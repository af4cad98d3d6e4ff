"""Where a collection's types are from, as its log tells."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from batch_collection.log.schema_history import schema_history
from batch_collection.publishing.append import successor
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector

if TYPE_CHECKING:
    from pathlib import Path


def test_each_column_has_the_cycles_that_gave_it_its_types_and_why(tmp_path: Path) -> None:
    """From messages, from ``--schema``, from ``--pin``; what stays the same is told once."""
    first = replace(
        Collector(LocalStorage(str(tmp_path))).start(), schema={"a": "string"}, pinned=("a",)
    )
    cycle = replace(first, cycle=1, cause="interval", pinned=())
    grown = replace(cycle, schema={"a": "string", "b": "int64", "c": {"x": "bool"}})
    restart = replace(grown, cycle=2, schema={**grown.schema, "d": "float"}, pinned=("d",))
    pin = replace(successor(restart, "", "pin"), schema={**restart.schema, "b": "double"})
    pin = replace(pin, pinned=("b",))
    redrive = successor(pin, "", "redrive")
    redrive = replace(redrive, schema={**pin.schema, "c": {"x": "bool", "y": "string"}})

    found = schema_history([first, grown, restart, pin, redrive])

    told = {column.name: [(c.cycle, c.type, c.by) for c in column.changes] for column in found}
    assert told == {
        "a": [(0, "string", "--schema")],
        "b": [(1, "int64", "messages"), (3, "double", "--pin")],
        "c": [(1, {"x": "bool"}, "messages"), (4, {"x": "bool", "y": "string"}, "messages")],
        "d": [(2, "float", "--schema")],
    }
    assert {column.name: column.type for column in found} == redrive.schema
    assert found[1].changes[1].committed_at == pin.committed_at
