"""Which footers are kept, and how many."""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.formats import footers
from batch_collection.formats.footers import Footers


def footer(groups: int) -> pq.FileMetaData:
    """Return that of a file with so many row groups of one column."""
    content = io.BytesIO()
    pq.write_table(pa.table({"id": range(groups)}), content, row_group_size=1)
    return pq.read_metadata(content)


def test_those_that_were_read_last_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """As many as may be in memory, by their column chunks."""
    monkeypatch.setattr(footers, "_MOST", 250)
    kept, one = Footers(), footer(100)
    kept.keep(1, one)
    kept.keep(2, one)
    assert kept.of(1) is one
    kept.keep(3, one)

    assert [kept.of(file) for file in (1, 2, 3)] == [one, None, one]


@pytest.mark.parametrize("groups", [10, 300])
def test_small_footers_and_huge_ones_are_not(groups: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The former are parsed at once, the latter would be all that is kept."""
    monkeypatch.setattr(footers, "_MOST", 250)
    kept = Footers()
    kept.keep(1, footer(100))
    kept.keep(2, footer(groups))

    assert kept.of(2) is None
    assert kept.of(1) is not None
