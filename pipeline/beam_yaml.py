"""What pipelines in Beam YAML call by its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from batch_collection.schema.arrow import to_arrow
from batch_collection.schema.files import read_type, type_text
from batch_collection.windows import parse_duration
from transforms.collect_batches import CollectBatches

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

__all__ = ["collect_batches"]


def collect_batches(  # noqa: PLR0913 - the arguments of CollectBatches
    *,
    output: str,
    interval: str,
    batch_size: int,
    shards: int = 1,
    allowed_lateness: str = "1d",
    output_format: str = "parquet",
    compression: str | None = None,
    schema: Mapping[str, Any] | None = None,
) -> CollectBatches:
    """Collect rows in batches, at the end of a pipeline.

    In: rows, as all steps of Beam YAML give them. Out: the path of each log entry made. All else,
    and the guarantee, is `CollectBatches`.

    Args:
        output: The collection: a directory, or ``gs://bucket/prefix``.
        interval: How long windows are, ``10s``, ``1m``, ``1h``.
        batch_size: Rows of a file at most.
        shards: How many panes a window has at once, in parallel on an engine.
        allowed_lateness: How long after its end a window's rows are taken, as ``interval``.
        output_format: ``parquet`` or ``jsonl``.
        compression: Of the files; default: that of the format.
        schema: Types by column, as in the file of ``collect --schema``.

    Raises:
        ValueError: an argument is wrong.
    """
    return CollectBatches(
        output=output,
        interval=_duration("interval", interval),
        batch_size=batch_size,
        shards=shards,
        allowed_lateness=_duration("allowed_lateness", allowed_lateness),
        output_format=output_format,
        compression=compression,
        schema=None if schema is None else _schema(schema),
    )


def _duration(name: str, text: str) -> timedelta:
    try:
        return parse_duration(str(text))
    except ValueError as error:
        message = f"{name}: {error}"
        raise ValueError(message) from error


def _schema(types: Mapping[str, Any]) -> pa.Schema:
    read = {name: read_type(type_text(type_), name) for name, type_ in types.items()}
    return pa.schema(list(to_arrow(read)))
