"""Views by name: fingerprints of their rows, and specs that open them again."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING, Any

import pyarrow.compute as pc
import pytest

import batch_collection
from batch_collection.errors import CollectionError
from tests.tables import TableCollector, ids, numbered

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.collection import Collection


@pytest.fixture
def collector(tmp_path: Path) -> TableCollector:
    """Return a collector with windows 10:00 to 10:02, the first two closed."""
    collector = TableCollector.at(tmp_path / "c", row_group=8)
    collector.collect((1, numbered(20, 40)), (0, numbered(0, 20)))
    collector.collect((2, numbered(40, 60)), closed=2)
    return collector


VIEWS: dict[str, Callable[[Collection], Collection]] = {
    "all": lambda view: view,
    "before": lambda view: view.at(cycle=1),
    "between": lambda view: view.between("2026-11-22T10:01Z", "2026-11-22T10:02Z"),
    "closed": lambda view: view.complete(),
    "new": lambda view: view.since(1),
    "last": lambda view: view.last("1m"),
    "side": lambda view: view.split({"a": 0.5, "b": 0.5}, by="device", salt="s")["b"],
    "filtered": lambda view: view.where(pc.field("id") > 9).where(pc.field("device") == "d3"),
    "listed": lambda view: view.where(pc.field("id").isin(list(range(7, 50)))),
    "one of it": lambda view: (
        view.where(pc.field("id") > 9).complete().split({"a": 0.5}, by=["device"])["a"]
    ),
}


@pytest.mark.parametrize("name", sorted(VIEWS))
def test_a_spec_opens_the_same_view(
    tmp_path: Path, collector: TableCollector, view: Collection, name: str
) -> None:
    """After JSON, whatever was collected since, and where the collection is now somewhere else."""
    chosen = VIEWS[name](view)
    expected, state = ids(chosen), chosen.to_numpy_batches(4).state_dict()
    spec = json.loads(json.dumps(chosen.spec()))
    collector.collect((0, numbered(60, 70)), closed=3)
    shutil.copytree(tmp_path / "c", tmp_path / "moved")

    for path in (None, tmp_path / "moved"):
        again = batch_collection.open_spec(spec, path)
        assert ids(again) == expected
        assert again.spec()["fingerprint"] == spec["fingerprint"] == chosen.fingerprint()
        again.to_numpy_batches(4).load_state_dict(state)


def test_fingerprints_are_those_of_rows(collector: TableCollector, view: Collection) -> None:
    """Alike for the same rows, however they were chosen and whatever is collected elsewhere."""
    prints = {name: chosen(view).fingerprint() for name, chosen in VIEWS.items()}
    assert prints.pop("before") == prints["closed"]
    assert prints.pop("last") == prints["between"]
    assert len(set(prints.values())) == len(prints)
    assert view.between(end="2026-11-22T10:02Z").fingerprint() == prints["closed"]
    assert batch_collection.open(collector.storage).fingerprint() == prints["all"]

    grown = collector.collect((3, numbered(60, 70)))
    assert grown.fingerprint() != prints["all"]
    assert grown.complete().fingerprint() == prints["closed"]
    late = collector.collect((0, numbered(70, 71)))
    assert late.complete().fingerprint() != prints["closed"]


def test_a_column_of_another_type_makes_another_fingerprint(collector: TableCollector) -> None:
    """Old rows are read under it, too."""
    first = "2026-11-22T10:01Z"
    before = batch_collection.open(collector.storage).between(end=first)
    types = {**collector.newest.schema, "id": "string"}
    after = collector.collect((3, numbered(60, 61)), schema=types).between(end=first)

    assert after.fingerprint() != before.fingerprint()
    assert after.at(cycle=1).fingerprint() == before.fingerprint()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": 9}, "the spec is of format=9, this version reads up to 1; update batch-coll"),
        ({"cycle": None}, "not the spec of a view: TypeError"),
        ({"end": "noon"}, "not the spec of a view: ValueError"),
        ({"where": [{"arrow": "AAAA"}]}, "not the spec of a view: ArrowInvalid"),
        ({"sides": [{}]}, "not the spec of a view: KeyError 'by'"),
        ({"cycle": 1}, "has other rows than its spec: some were expired, or it was made anew"),
    ],
)
def test_what_is_no_spec_is_refused(view: Collection, changes: Any, message: str) -> None:
    """In one line."""
    with pytest.raises(CollectionError) as caught:
        batch_collection.open_spec({**view.spec(), **changes})

    assert message in str(caught.value)
    with pytest.raises(CollectionError, match="not the spec of a view"):
        batch_collection.open_spec([])  # type: ignore[arg-type]
