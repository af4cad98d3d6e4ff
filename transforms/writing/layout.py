"""How batch files look: format, compression, metadata columns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.log.entry import FORMAT, FORMS
from batch_collection.schema.columns import PLACEHOLDER
from transforms.elements.headers import headers_by

if TYPE_CHECKING:
    from collections.abc import Callable

    from batch_collection.log.entry import Form

    _Finish = Callable[[], dict[str, Any]]  # makes the file durable, gives its place
    _Encode = Callable[[], _Finish]  # writes the last rows

__all__ = ["METADATA", "Output", "visible_rows"]


METADATA = ("none", "position", "full")


@dataclass(frozen=True, slots=True)
class Output:
    """How batch files look: format and compression (``formats``), metadata columns."""

    format: str = "parquet"
    compression: str = "zstd"
    metadata: str = "position"


def visible_rows(
    rows: pa.Table, metadata: str, *, indexed: bool, form: Form = FORMS[FORMAT]
) -> pa.Table:
    """Return rows as they stand in a batch file: the payload's columns, then the metadata's.

    Where there are none of either, a column of nulls, ``PLACEHOLDER``, keeps the rows.

    Args:
        rows: ``POSITION`` and ``payload``.
        metadata: ``none``, ``position`` or ``full``.
        indexed: whether messages hold arrays, so that a row's place in its message counts.
        form: how the collection's files look.
    """
    payload = rows.column("payload")
    columns: dict[str, Any] = dict(
        zip([f.name for f in payload.type], payload.flatten(), strict=True)
    )
    if metadata != "none":
        columns |= {f"_{name}": rows.column(name) for name in ("partition", "offset", "timestamp")}
        if indexed:
            columns["_index"] = rows.column("index")
    if metadata == "full":
        headers = headers_by(form, rows.select(["headers"])).column(0)
        columns |= {"_key": rows.column("key"), "_headers": headers}
    return pa.table(columns or {PLACEHOLDER: pa.nulls(rows.num_rows, pa.bool_())})
