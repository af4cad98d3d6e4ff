"""Columns of one type, whatever files have: see also the tests of collections and readers."""

from __future__ import annotations

import time

import pyarrow as pa

from batch_collection.schema.unified import conformed


def test_thousands_of_columns_are_converted_in_a_moment() -> None:
    """Each is looked up once, not among all others."""
    names = [f"c{number}" for number in range(5_000)]
    rows = pa.table({name: [1, 2] for name in names})
    schema = pa.schema([*((name, pa.float64()) for name in names), ("more", pa.string())])
    began = time.monotonic()
    found = conformed(rows, schema)
    assert time.monotonic() - began < 10  # it was a minute
    assert found.schema == schema
    assert found.column("c4999").to_pylist() == [1.0, 2.0]
    assert found.column("more").null_count == 2
