"""A collection's columns in a file: for readers of ``data/``, or for ``--schema``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.parquet as pq

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from batch_collection.collection import Collection

__all__ = ["ENDINGS", "exported"]


ENDINGS = (".parquet", ".json")


def exported(collection: Collection, file: str) -> str:
    """Write the columns of a collection to a file; say how many they are.

    Args:
        collection: A view; its newest entry says the types of the payload.
        file: A name that ends in ``.parquet``, for an empty file with all columns that any file
            has, or in ``.json``, for the payload's types as a schema file.

    Raises:
        CollectionError: it can't be written, or a column has no type.
    """
    target, payload = Path(file).expanduser(), collection.newest.schema
    is_json = file.endswith(".json")
    columns = len(payload) if is_json else len(collection.schema)
    try:
        if is_json:
            content = json.dumps(payload, indent=1, ensure_ascii=False)
            target.write_text(f"{content}\n", encoding="utf-8")
        else:
            with target.open("wb") as sink:  # Arrow's own error is no line for people
                pq.write_table(collection.schema.empty_table(), sink)
    except OSError as error:
        message = f"--export={file}: {error.strerror or error}"
        raise CollectionError(message) from error
    return f"{file} holds {columns} columns, as of cycle {collection.newest.cycle}"
