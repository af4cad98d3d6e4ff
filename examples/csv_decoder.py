"""A decoder of CSV: each message is one line, as ``device-1,20.5``.

batch-collection --input_format=csv_decoder:decode ...
"""

from __future__ import annotations

import io

import pyarrow as pa
import pyarrow.csv

TYPES = {"device": pa.string(), "value": pa.float64()}


def decode(messages: pa.Table) -> pa.Table:
    """Return a row for each message."""
    lines = messages.column("value").to_pylist()
    if any(line.splitlines() != [line] for line in lines):
        error = "it is not one line"
        raise ValueError(error)
    return pa.csv.read_csv(
        io.BytesIO(b"\n".join(lines)),
        pa.csv.ReadOptions(column_names=[*TYPES]),
        convert_options=pa.csv.ConvertOptions(column_types=TYPES),
    )
