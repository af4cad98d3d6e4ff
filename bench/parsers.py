"""How fast parsers make Arrow's columns of JSON messages, and what they let pass.

    python -m bench.parsers [--megabytes=16]

Each gets the same messages, of shapes as they come, one a line, with the types known: the best of
three runs, as CPU seconds of all threads. Ours is ``json_rows`` with all its checks, once with what
reads plain messages in C, once as where that was not compiled. Those that are not installed
(arro3-io, duckdb, polars: they are no dependencies) are left out. Then each gets messages that are
not what they seem: a parser that makes a row of one would put it into a collection.
"""

from __future__ import annotations

import argparse
import io
import os
import random
import tempfile
import time
from functools import partial
from importlib import import_module
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

os.environ |= {"POLARS_MAX_THREADS": "1", "RAYON_NUM_THREADS": "1"}

import orjson
import pyarrow as pa
import pyarrow.json as pj

from transforms.decoding import json_rows
from transforms.decoding.contract import Columns, SchemaChange
from transforms.decoding.json_rows import read_json
from transforms.decoding.rules import RowRules
from transforms.sources.contract import MESSAGES

__all__ = ["main"]

Shape = dict[str, Any]
_WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
_TYPES = {"int64": pa.int64(), "double": pa.float64(), "string": pa.string(), "bool": pa.bool_()}


def shapes(rng: random.Random) -> Mapping[str, tuple[Shape, Callable[[], Any]]]:
    """Return kinds of messages: the types of their columns, and what makes one."""
    flat = {"id": "int64", "device": "string", "value": "double", "ok": "bool"}

    def row() -> dict[str, Any]:
        number, value = rng.randrange(10**9), round(rng.random(), 6)
        return {
            "id": number,
            "device": f"device-{number % 997}",
            "value": value,
            "ok": number % 2 > 0,
        }

    point = {"x": "double", "y": "double", "tag": "string"}

    def points() -> list[dict[str, Any]]:
        return [{"x": rng.random(), "y": rng.random(), "tag": rng.choice(_WORDS)} for _ in range(8)]

    return {
        "flat, 70 bytes": (flat, row),
        "nested": (
            {**flat, "meta": {"a": flat, "b": flat}},
            lambda: {**row(), "meta": {"a": row(), "b": row()}},
        ),
        "arrays of records": ({**flat, "points": [point]}, lambda: {**row(), "points": points()}),
        "200 fields": (
            {f"field_{n}": "double" for n in range(200)},
            lambda: {f"field_{n}": round(rng.random(), 4) for n in range(200)},
        ),
        "long strings": (
            {**flat, "text": "string"},
            lambda: {**row(), "text": "lorem \\u00e9 " * 300},
        ),
    }


def arrow_type(type_: Any) -> pa.DataType:
    """Return a type of the log as Arrow's."""
    if isinstance(type_, dict):
        return pa.struct([(name, arrow_type(each)) for name, each in type_.items()])
    return pa.list_(arrow_type(type_[0])) if isinstance(type_, list) else _TYPES[type_]


def parsers() -> Iterator[tuple[str, Callable[[list[bytes], pa.Schema], Any]]]:
    """Yield the parsers that are installed."""
    yield "pyarrow.json, no checks", _pyarrow
    if find_spec("arro3") is not None:
        yield "arro3-io", _arro3
    if find_spec("polars") is not None:
        yield "polars", _polars
    if find_spec("duckdb") is not None:
        yield "duckdb", _duckdb


def _lines(messages: list[bytes]) -> bytes:
    return b"\n".join(messages) + b"\n"


def _pyarrow(messages: list[bytes], schema: pa.Schema) -> Any:
    text = _lines(messages)
    read = pj.ReadOptions(use_threads=False, block_size=len(text) + 1)
    return pj.read_json(io.BytesIO(text), read, pj.ParseOptions(schema))


def _arro3(messages: list[bytes], schema: pa.Schema) -> Any:
    read = import_module("arro3.io").read_json
    return pa.table(read(io.BytesIO(_lines(messages)), schema, batch_size=len(messages)).read_all())


def _polars(messages: list[bytes], schema: pa.Schema) -> Any:
    import polars as pl  # noqa: PLC0415

    types = pl.from_arrow(schema.empty_table()).schema
    return pl.read_ndjson(io.BytesIO(_lines(messages)), schema=types).to_arrow()


def _duckdb(messages: list[bytes], schema: pa.Schema) -> Any:
    import duckdb  # noqa: PLC0415

    with tempfile.NamedTemporaryFile(suffix=".json", dir="/dev/shm") as file:
        file.write(_lines(messages))
        file.flush()
        with duckdb.connect(config={"threads": 1}) as connection:
            columns = {field.name: _sql(field.type) for field in schema}
            found = connection.read_json(
                file.name, columns=columns, format="newline_delimited", maximum_object_size=1 << 26
            )
            return found.to_arrow_table()


def _sql(type_: pa.DataType) -> str:
    if pa.types.is_struct(type_):
        return f"STRUCT({', '.join(f'{each.name} {_sql(each.type)}' for each in type_)})"
    if pa.types.is_list(type_):
        return f"{_sql(type_.value_type)}[]"
    return {pa.int64(): "BIGINT", pa.float64(): "DOUBLE", pa.string(): "VARCHAR"}.get(
        type_, "BOOLEAN"
    )


def _ours(messages: list[bytes], types: Shape) -> Any:
    count = len(messages)
    columns = [[0] * count, range(count), [0] * count, messages, [None] * count, [None] * count]
    arrays = [pa.array(each, field.type) for each, field in zip(columns, MESSAGES, strict=True)]
    table = pa.Table.from_arrays(arrays, schema=MESSAGES)
    return lambda: read_json(table, Columns(types, types), RowRules())


def _without_c(read: Callable[[], Any]) -> Any:
    """Read as where nothing was compiled."""
    with patch.object(json_rows, "plain_reader", return_value=None):
        return read()


def seconds(parse: Callable[[], Any]) -> float:
    """Return the least CPU seconds of three runs."""
    found = []
    for _ in range(3):
        began = time.process_time()
        parse()
        found.append(time.process_time() - began)
    return min(found)


TRAPS: Mapping[str, bytes] = {
    "fraction in an int64": b'{"id":0.5}',
    "text in an int64": b'{"id":"7"}',
    "integer beyond int64": b'{"id":9223372036854775808}',
    "a key twice": b'{"id":1,"id":2}',
    "NaN": b'{"value":NaN}',
    "no UTF-8": b'{"device":"\xff"}',
    "two texts": b'{"id":1}{"id":2}',
    "an unknown field": b'{"new":1}',
    "number as text": b'{"device":7}',
}


def let_pass(parse: Callable[[], Any]) -> bool:
    """Tell whether a parser makes one row, or more, of a message."""
    try:
        return len(parse()) > 0
    except BaseException:  # noqa: BLE001 - polars panics
        return False


def main() -> None:
    """Print both tables, as Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=float, default=16)
    size = parser.parse_args().megabytes * 1e6
    known = dict(parsers())
    names = ["ours", "ours without C", *known]
    print(f"| MB a CPU second | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    rng = random.Random(1)  # noqa: S311 - a fixed one is what is wanted
    for name, (types, make) in shapes(rng).items():
        messages = [orjson.dumps(make()) for _ in range(64)]
        messages = (messages * int(size / sum(map(len, messages)) + 1))[:40_000]
        schema, total = pa.schema(list(arrow_type(types))), sum(map(len, messages)) / 1e6
        ours = _ours(messages, types)
        figures = [total / seconds(ours), total / seconds(partial(_without_c, ours))]
        figures += [total / seconds(partial(parse, messages, schema)) for parse in known.values()]
        print(f"| {name} | {' | '.join(f'{figure:,.0f}' for figure in figures)} |", flush=True)
    types, make = shapes(rng)["flat, 70 bytes"]
    bad = [orjson.dumps(make()) if n % 10 else b'{"id":' for n in range(40_000)]
    ours, total = _ours(bad, types), sum(map(len, bad)) / 1e6
    figures = [total / seconds(ours), total / seconds(partial(_without_c, ours))]
    shown = [f"{figure:,.0f}" for figure in figures] + ["fails"] * len(known)
    print(f"| flat, 10 % bad | {' | '.join(shown)} |")
    print(f"\n| becomes a row | {' | '.join(names)} |\n|---|{'---|' * len(names)}")
    schema = pa.schema(list(arrow_type(types)))
    for trap, message in TRAPS.items():
        reading = _ours([message], types)
        passed = [_is_read(reading), _is_read(partial(_without_c, reading))]
        passed += [let_pass(partial(parse, [message], schema)) for parse in known.values()]
        print(f"| {trap} | {' | '.join('yes' if each else 'no' for each in passed)} |", flush=True)


def _is_read(reading: Callable[[], Any]) -> bool:
    try:
        return not reading().faults
    except SchemaChange:  # the cycle is planned again
        return False


if __name__ == "__main__":
    main()
