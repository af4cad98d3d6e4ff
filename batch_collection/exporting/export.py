"""A view written as files that other programs read: all of it, or nothing."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO

import pyarrow as pa

from batch_collection.errors import CollectionError
from batch_collection.exporting.tfrecord import example, framed
from batch_collection.formats.json_lines import JsonLines
from batch_collection.paths import new_token
from batch_collection.schema.conforming import beyond_range
from batch_collection.storage.syncing import sync_folder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from pathlib import Path

    from batch_collection.collection import Collection

__all__ = ["EXPORTS", "Exported", "export"]


_ROWS = 16 * 1024  # turned into Python objects at once


@dataclass(frozen=True, slots=True)
class Exported:
    """What became of one view: ``name`` is its folder, empty for the only one."""

    name: str
    files: int
    rows: int


def export(
    views: Mapping[str, Collection],
    target: Path,
    to: str,
    *,
    shards: int = 1,
    columns: Sequence[str] | None = None,
    shuffle: int | None = None,
) -> tuple[Exported, ...]:
    """Write each view to ``shards`` files in a folder of its name; an empty name is ``target``.

    ``target`` is there, whole and durable, when this returns; before that, and after an error, it
    isn't. Its ``export.json`` says what it was made of. The same views give the same bytes.

    Raises:
        CollectionError: ``target`` exists, or a column has no place in the format.
    """
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        message = f"{target} is not empty; remove it, or name another directory"
        raise CollectionError(message)
    draft = target.parent / f".{target.name}.{new_token()}.partial"
    try:
        found = tuple(
            _write(view, draft / name, name, _Form(to, shards, columns, shuffle))
            for name, view in views.items()
        )
        _describe(draft / "export.json", views, found, to)
        for folder in (*(path for path in draft.rglob("*") if path.is_dir()), draft):
            sync_folder(str(folder))
        draft.rename(target)
        sync_folder(str(target.parent))
    except (OSError, pa.ArrowException) as error:
        message = f"cannot write {target}: {getattr(error, 'strerror', None) or error}"
        raise CollectionError(message) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return found


@dataclass(frozen=True, slots=True)
class _Form:
    to: str
    shards: int
    columns: Sequence[str] | None
    shuffle: int | None


def _write(view: Collection, folder: Path, name: str, form: _Form) -> Exported:
    folder.mkdir(parents=True)
    rows = 0
    for index in range(form.shards):
        path = folder / f"part-{index:05d}-of-{form.shards:05d}.{form.to}"
        batches = view.to_arrow_batches(
            _ROWS, form.columns, shard=(index, form.shards), shuffle=form.shuffle
        )
        with path.open("xb") as file:
            for batch in batches:
                rows += batch.num_rows
                EXPORTS[form.to](file, batch)
            file.flush()
            os.fsync(file.fileno())
    return Exported(name, form.shards, rows)


def _write_json(file: BinaryIO, rows: pa.Table) -> None:
    writer = JsonLines().writer(file, rows.schema, "none")
    writer.write(rows)
    writer.close()


def _write_examples(file: BinaryIO, rows: pa.Table) -> None:
    """Write one ``tf.train.Example`` a row: a feature for each column that is not null in it."""
    flat = _flattened(rows)
    columns = [
        _values(name, column) for name, column in zip(flat.column_names, flat.columns, strict=True)
    ]
    for values in zip(*columns, strict=True):
        features = {
            name: value if isinstance(value, list) else [value]
            for name, value in zip(flat.column_names, values, strict=True)
            if value is not None
        }
        file.write(framed(example(features)))


EXPORTS: dict[str, Callable[[BinaryIO, pa.Table], None]] = {
    "jsonl": _write_json,
    "tfrecord": _write_examples,
}
"""What writes rows, by the ending of file names."""


def _flattened(rows: pa.Table) -> pa.Table:
    """Give each field of a struct a column of its own: ``place.x``.

    Raises:
        CollectionError: two would have one name.
    """
    for column in rows.column_names:
        if twice := _twice(_leaves(rows.select([column]))):
            message = (
                f"two fields of column {column} would be feature {twice}; leave it out with "
                "--columns, or use --to=jsonl"
            )
            raise CollectionError(message)
    flat = _leaves(rows)
    if twice := _twice(flat):
        message = f"two columns would be feature {twice}; leave one of them out with --columns"
        raise CollectionError(message)
    return flat


def _leaves(rows: pa.Table) -> pa.Table:
    while any(pa.types.is_struct(field.type) for field in rows.schema):
        rows = rows.flatten()
    return rows


def _twice(rows: pa.Table) -> str | None:
    return next((name for name, count in Counter(rows.column_names).items() if count > 1), None)


def _values(name: str, column: pa.ChunkedArray) -> Iterator[Any]:
    """Yield values of which a feature can be made, None for null."""
    type_ = column.type
    element = type_.value_type if pa.types.is_list(type_) else type_
    if pa.types.is_timestamp(element):
        micro = pa.timestamp("us", element.tz)
        whole = (micro, pa.int64()) if element is type_ else (pa.list_(micro), pa.list_(pa.int64()))
        column = column.cast(whole[0]).cast(whole[1])
    elif pa.types.is_nested(element):
        message = f"column {name} is {type_}, which no feature holds; choose others with --columns"
        raise CollectionError(message)
    elif element is not type_ and column.combine_chunks().flatten().null_count:
        message = f"column {name} has lists with nulls, which no feature holds"
        raise CollectionError(message)
    if pa.types.is_uint64(element):
        column = column.cast(pa.int64() if element is type_ else pa.list_(pa.int64()))
    if pa.types.is_floating(element):
        flat = column.combine_chunks()
        flat = flat if element is type_ else flat.flatten()
        if (beyond := beyond_range(flat, flat.cast(pa.float32()))) is not None:
            message = (
                f"column {name} holds {beyond}, and features have floats of 32 bits; leave it out "
                "with --columns"
            )
            raise CollectionError(message)
        column = column.cast(pa.float32() if element is type_ else pa.list_(pa.float32()))
    return iter(column.to_pylist())


def _describe(
    path: Path, views: Mapping[str, Collection], found: Sequence[Exported], to: str
) -> None:
    content = {
        "format": 1,
        "to": to,
        "of": {name: repr(view) for name, view in views.items()},
        "rows": {each.name: each.rows for each in found},
    }
    with path.open("x", encoding="utf-8") as file:
        file.write(json.dumps(content, indent=1) + "\n")
        file.flush()
        os.fsync(file.fileno())
