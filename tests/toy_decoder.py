"""A decoder from outside: lines of CSV, a name and an amount each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.conforming import conform
from transforms.decoding.contract import Piece, Reading, grow

if TYPE_CHECKING:
    from transforms.decoding.contract import Columns
    from transforms.decoding.rules import RowRules

__all__ = ["NAME", "TYPES", "read_csv"]

NAME = "csv"
TYPES = {"name": "string", "amount": "int64"}


def read_csv(messages: pa.Table, columns: Columns, _: RowRules) -> Reading:
    """Return a row a line; a message that has one line amiss is none."""
    faults: dict[int, str] = {}
    made: dict[int, list[dict[str, Any]]] = {}
    for number, value in enumerate(messages.column("value").to_pylist()):
        try:
            if value is not None:
                made[number] = [_row(line) for line in value.decode().splitlines()]
        except ValueError as error:
            faults[number] = f"no CSV: {error}"
    if not made:
        return Reading([], faults, columns.known, {})
    types = {name: type_ for name, type_ in TYPES.items() if name not in columns.dropped}
    schema = grow(columns.known, columns.pinned, types)
    rows = pa.array([row for of in made.values() for row in of], to_arrow(types))
    piece = Piece(
        np.array([*made]),
        np.array([number for number, of in made.items() for _ in of], np.int64),
        np.array([place for of in made.values() for place in range(len(of))], np.int32),
        conform(rows, to_arrow(schema)),
    )
    return Reading([piece], faults, schema, {})


def _row(line: str) -> dict[str, Any]:
    name, amount = line.split(",")
    if not -(2**63) <= int(amount) < 2**63:
        message = f"{amount} is no int64"
        raise ValueError(message)
    return {"name": name, "amount": int(amount)}
