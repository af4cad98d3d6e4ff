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

_ADDRESS = {"_partition": "partition", "_offset": "offset", "_timestamp": "timestamp"}
_IDENTITY = {"_message_id": "id", "_publish_time": "published"}
_ATTRIBUTES = pa.list_(pa.struct({"key": pa.string(), "value": pa.string()}))


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

    Rows of messages with ids show these: their addresses are the collection's own. Where there are
    no columns of either, one of nulls, ``PLACEHOLDER``, keeps the rows.

    Args:
        rows: ``POSITION`` or ``LEASED_POSITION``, and ``payload``.
        metadata: ``none``, ``position`` or ``full``.
        indexed: whether messages hold arrays, so that a row's place in its message counts.
        form: how the collection's files look.
    """
    payload = rows.column("payload")
    columns: dict[str, Any] = dict(
        zip([f.name for f in payload.type], payload.flatten(), strict=True)
    )
    has_ids = "id" in rows.column_names
    if metadata != "none":
        shown = _IDENTITY if has_ids else _ADDRESS
        columns |= {name: rows.column(column) for name, column in shown.items()}
        if indexed:
            columns["_index"] = rows.column("index")
    if metadata == "full":
        columns |= _texts_sent(rows) if has_ids else _bytes_sent(rows, form)
    return pa.table(columns or {PLACEHOLDER: pa.nulls(rows.num_rows, pa.bool_())})


def _texts_sent(rows: pa.Table) -> dict[str, Any]:
    """Return what senders of a source with ids gave beside the value: all of it is text."""
    return {
        "_ordering_key": rows.column("key").cast(pa.string()),
        "_attributes": rows.column("headers").cast(_ATTRIBUTES),
    }


def _bytes_sent(rows: pa.Table, form: Form) -> dict[str, Any]:
    headers = headers_by(form, rows.select(["headers"])).column(0)
    return {"_key": rows.column("key"), "_headers": headers}
