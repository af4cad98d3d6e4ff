"""What ``schema --pin`` prints for readers, done literally."""

from __future__ import annotations

from typing import Any

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds

import batch_collection

__all__ = ["answers"]


def _asked(name: str, words: str, schema: pa.Schema | None) -> list[Any]:
    """Do what a line says; return the column ``x``."""
    if name == "DuckDB" and words.startswith("read_parquet"):
        return [row[0] for row in duckdb.sql(f"SELECT x FROM {words}").fetchall()]
    known: dict[str, Any] = {
        "batch_collection": batch_collection,
        "dataset": ds.dataset,
        "from_arrow": pl.from_arrow,
        "scan_parquet": pl.scan_parquet,
        "scan_pyarrow_dataset": pl.scan_pyarrow_dataset,
        "ScanCastOptions": pl.ScanCastOptions,
        "SCHEMA": schema,
    }
    found = eval(words, known)  # noqa: S307 - our own words
    if isinstance(found, pl.LazyFrame):
        values = found.collect()["x"].to_list()
        kept = found.filter(pl.col("x") == values[0]).collect()
        assert values[0] in kept["x"].to_list()  # it can filter, too
        return values
    if isinstance(found, duckdb.DuckDBPyRelation):
        return [row[0] for row in found.project("x").fetchall()]
    return (found if isinstance(found, pa.Table) else found.to_table())["x"].to_pylist()


def answers(lines: list[str]) -> dict[str, list[Any]]:
    """Do what all lines say; return by reader the column ``x``."""
    words = dict(line.split(maxsplit=1) for line in lines if line.startswith("  "))
    schema = words.pop("SCHEMA", None)
    known = None if schema is None else eval(schema, {"batch_collection": batch_collection})  # noqa: S307
    return {name: _asked(name, text, known) for name, text in words.items()}
