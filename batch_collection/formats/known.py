"""The formats there are; adding one is a line here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.errors import StorageError
from batch_collection.formats.json_lines import JsonLines
from batch_collection.formats.parquet import Parquet

if TYPE_CHECKING:
    from batch_collection.formats.contract import Format


__all__ = ["FORMATS", "format_named", "format_of"]


FORMATS: dict[str, Format] = {"parquet": Parquet(), "jsonl": JsonLines()}

_NULLS: Format = JsonLines(has_words=False)


def format_named(name: str, version: int) -> Format:
    """Return a format, as it is written to collections whose log is of format ``version``."""
    return _NULLS if version == 1 and name == _NULLS.name else FORMATS[name]


def format_of(path: str) -> Format:
    """Return the format of a batch file, by the ending of its name.

    Raises:
        StorageError: no format has it.
    """
    for known in FORMATS.values():
        if path.endswith(tuple(known.endings.values())):
            return known
    endings = dict.fromkeys(each for known in FORMATS.values() for each in known.endings.values())
    message = f"cannot read {path}: no format has this ending; known are {', '.join(endings)}"
    raise StorageError(message)
