"""Dead letters as files hold them, and as messages again."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from batch_collection.errors import StorageError, in_one_line
from batch_collection.log.entry import DeadLetterFile
from batch_collection.log.verified import decoding, open_verified
from transforms.decoding.row_time import within_years
from transforms.elements.headers import headers_by
from transforms.sources.contract import message_schema

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.log.entry import DeadLetterFile
    from batch_collection.storage.contract import Storage
    from transforms.elements.plan import Plan

__all__ = ["RAW_STAMP", "filed", "read_letters"]


RAW_STAMP = ("; record timestamp ", " ms")
"""What stands around a stamp behind the reasons of format 1."""

_RAW_STAMP = rf"{RAW_STAMP[0]}(?P<ms>-?\d+){RAW_STAMP[1]}$"


def read_letters(storage: Storage, file: DeadLetterFile) -> Iterator[pa.Table]:
    """Yield the messages of a file of dead letters as they were read, row group by row group.

    Raises:
        DamagedFileError: it is not the file that the log tells of.
        FileGoneError: it isn't there.
        StorageError: it can't be read just now.
    """
    try:
        with (
            open_verified(storage, file) as source,
            decoding(storage, file),
            pq.ParquetFile(source) as letters,
        ):
            for group in range(letters.num_row_groups):
                yield _messages(letters.read_row_group(group))
    except OSError as error:
        message = f"cannot read {storage.uri}/{file.path}: {in_one_line(error)}"
        raise StorageError(message) from error


def _messages(letters: pa.Table) -> pa.Table:
    """Return what ``filed`` made of dead letters as messages again."""
    if "timestamp_ms" in letters.column_names:
        stamps = letters.column("timestamp_ms")
    else:
        raw = pc.extract_regex(letters.column("error"), _RAW_STAMP)
        stamps = letters.column("timestamp").cast(pa.int64())
        stamps = pc.coalesce(stamps, pc.struct_field(raw, "ms").cast(pa.int64()))
    place, schema = letters.schema.get_field_index("timestamp"), message_schema(letters)
    return letters.set_column(place, "timestamp", stamps).select(schema.names).cast(schema)


def filed(letters: pa.Table, plan: Plan) -> pa.Table:
    """Return dead letters as they stand in a file of the plan's collection.

    ``timestamp`` is an instant, null where it is beyond what readers can show. The milliseconds as
    they came are in ``timestamp_ms``, in format 1, which has no such column, behind the reason.
    """
    place = letters.schema.get_field_index("timestamp")
    stamps = letters.column(place)
    fits = within_years(stamps)
    shown = pc.if_else(fits, stamps, pa.scalar(None, pa.int64())).cast(pa.timestamp("ms", "UTC"))
    table = headers_by(plan.form, letters.set_column(place, "timestamp", shown))
    if plan.format > 1:
        return table.add_column(place + 1, "timestamp_ms", stamps)
    errors = letters.column("error")
    beyond = pc.if_else(fits, pa.scalar(None, pa.int64()), stamps).cast(pa.string())
    told = pc.binary_join_element_wise(errors, RAW_STAMP[0], beyond, RAW_STAMP[1], "")
    place = letters.schema.get_field_index("error")
    return table.set_column(place, "error", pc.coalesce(told, errors))
