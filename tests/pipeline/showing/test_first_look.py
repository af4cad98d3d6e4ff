"""What a user is shown of a new collection."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow.dataset

from pipeline.showing import first_look

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_the_query_is_made_with_pyarrow_where_duckdb_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The text that is shown is the one that ran."""
    table = pyarrow.table({"value": [1.0, 3.0]})
    pyarrow.dataset.write_dataset(table, tmp_path, format="parquet")
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)

    shown = first_look.query(tmp_path)

    assert shown.tool == "pyarrow"
    assert str(tmp_path) in "\n".join(shown.text)
    (result,) = shown.result
    assert "'count_all': 2" in result
    assert "'value_mean': 2.0" in result
