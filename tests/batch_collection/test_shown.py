"""What Python shows of collections, views and batches: for who looks at them interactively."""

from __future__ import annotations

import copy
import doctest
import pickle
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pytest

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, at, message

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection import Collection


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Collector:
    """Give three rows in two windows, in the collection that the examples name."""
    monkeypatch.chdir(tmp_path)
    collector = Collector(LocalStorage(str(tmp_path / "collected" / "orders")))
    rows = [message(n, f"10:3{n // 2}:10", value=n + 1) for n in range(3)]
    collector.collect(*rows[:2], boundary="10:31:00")
    collector.collect(rows[2], boundary="10:32:00")
    return collector


@pytest.fixture
def view(collector: Collector) -> Collection:
    """Open it."""
    return batch_collection.open(collector.storage)


def test_examples_in_docstrings_are_true(view: Collection) -> None:
    """Each public call that needs one has one, and it says what comes."""
    runner, given = doctest.DocTestRunner(), set[str]()
    for found in doctest.DocTestFinder().find(batch_collection, module=False):
        found.globs = {"batch_collection": batch_collection, "collection": view}
        given |= {found.name} if found.examples else set()
        assert runner.run(found).failed == 0, found.name
    calls = ("open", "open_spec", "Batch", "Batches", "Collection", "Collection.split")
    assert {"batch_collection", *(f"batch_collection.{call}" for call in calls)} <= given


def test_a_view_says_what_is_in_it(view: Collection) -> None:
    """Rows, batches, windows and the time that they are of; of a part what it is a part of."""
    uri = view.newest and view.spec()["collection"]
    head = f"Collection({uri!r}, cycle=2"
    span = "2026-11-22T10:30:00Z to 2026-11-22T10:32:00Z"
    assert repr(view) == f"{head}; 3 rows, 2 batches, 2 windows, {span})"
    assert repr(view.between(end="2026-11-22T10:31Z")) == (
        f"{head}, to 2026-11-22T10:31:00Z; 2 rows, 1 batch, 1 window, "
        "2026-11-22T10:30:00Z to 2026-11-22T10:31:00Z)"
    )
    assert repr(view.where(pc.field("value") > 1)).startswith(f"{head}, where (value > 1); some of")
    assert repr(view.between("2027-01-01T00:00Z")).endswith("; 0 rows, 0 batches)")


def test_batches_and_windows_say_what_they_are(view: Collection) -> None:
    """Not how they are read."""
    window, _ = view.windows()
    span = "2026-11-22T10:30:00Z to 2026-11-22T10:31:00Z"
    assert repr(window) == f"Window({span}; 2 rows in 1 batch, closed)"
    (batch,) = window.batches
    assert repr(batch) == f"Batch('0000000001-0000', 2 rows, {span}, on_time, {batch.uri!r})"
    assert batch.uri.endswith(f"collected/orders/{batch.path}")
    batches = view.to_numpy_batches(2, columns=["value"])
    assert repr(batches) == "Batches(of 2 rows, columns value)"


def test_what_can_not_be_read_has_a_repr(collector: Collector) -> None:
    """Nobody is kept from looking at a view that was expired since."""
    view = batch_collection.open(collector.storage).at(1)
    collector.collect(boundary="10:33:00")
    expire(collector.storage, at("10:32:00"), at("10:34:00"))
    assert repr(view).endswith("orders', cycle=1)")
    assert "was expired" in view._repr_html_()
    with pytest.raises(CollectionError, match="was expired"):
        _ = view.rows


def test_notebooks_show_a_view(view: Collection) -> None:
    """Facts, columns and windows; text is escaped, and no file is read."""
    shown = view._repr_html_()
    for text in ("3 rows", "2 windows", "value", "int64", "2026-11-22T10:31:00Z"):
        assert f"<td>{text}</td>" in shown


def test_names_in_html_are_text(tmp_path: Path) -> None:
    """Of columns and of folders."""
    collector = Collector(LocalStorage(str(tmp_path / "<b>\u202e")))
    collector.collect(message(0, **{"<script>": 1}), boundary="10:31:00")
    shown = batch_collection.open(collector.storage)._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown
    assert "<b>" not in shown
    assert "\u202e" not in shown


def test_views_are_equal_by_place_cycle_and_what_they_are_narrowed_to(
    view: Collection, tmp_path: Path
) -> None:
    """In whatever order filters were given; and so are their hashes."""
    same = batch_collection.open(tmp_path / "collected" / "orders")
    one, two = pc.field("value") > 1, pc.field("value") < 9
    for first, second in (
        (view, same),
        (view.between("2026-11-22T10:31Z"), same.between("2026-11-22T10:31Z")),
        (view.where(one).where(two), same.where(two).where(one)),
        (view.split({"a": 0.5}, by="value")["a"], same.split({"a": 0.5}, by="value")["a"]),
    ):
        assert first == second
        assert hash(first) == hash(second)
    assert view != view.at(1)
    assert view != view.complete()
    assert view != view.where(one)
    assert view != "view"


def test_batches_are_equal_by_their_file(view: Collection, tmp_path: Path) -> None:
    """Those of another collection are others, whatever they are called there."""
    first, second = view
    same = next(iter(batch_collection.open(tmp_path / "collected" / "orders")))
    assert first == same
    assert hash(first) == hash(same)
    assert first != second
    assert first != first.id
    other = Collector(LocalStorage(str(tmp_path / "other")))
    other.collect(message(0), message(1), boundary="10:31:00")
    assert next(iter(batch_collection.open(other.storage))).id == first.id
    assert next(iter(batch_collection.open(other.storage))) != first
    assert copy.copy(first) == pickle.loads(pickle.dumps(first)) == first  # noqa: S301 - our own


def test_only_public_names_are_listed(view: Collection) -> None:
    """What Tab offers in a shell may be called."""
    (window, _), (batch, _) = view.windows(), list(view)
    for thing in (view, window, batch, view.to_numpy_batches(2), batch_collection):
        listed = dir(thing)
        assert [name for name in listed if name.startswith("_") and name != "__version__"] == []
        assert all(hasattr(thing, name) for name in listed)
    assert {"rows", "head", "schema", "windows", "to_torch"} <= set(dir(view))
    assert set(dir(batch_collection)) == set(batch_collection.__all__)


def test_the_first_rows_can_be_looked_at(view: Collection) -> None:
    """As many as there are; of a part its own."""
    assert view.head().column("value").to_pylist() == [1, 2, 3]
    assert view.head(2).schema == view.schema
    assert view.head(0).num_rows == 0
    assert view.head(0).schema == view.schema
    assert view.where(pc.field("value") > 1).head(1).column("value").to_pylist() == [2]
    with pytest.raises(CollectionError, match="rows must be a whole number"):
        view.head(1.5)  # type: ignore[arg-type]


def test_no_chunk_of_a_table_is_empty(view: Collection) -> None:
    """Who takes the first chunk has the first rows: files without a row for a filter have none."""
    last = view.where(pc.field("value") > 2)
    for table in (view.head(), view.table(), last.head(), last.table()):
        assert all(map(len, table.column("value").chunks))
