"""What a view is, as plain JSON: enough to open it again, anywhere."""

from __future__ import annotations

import base64
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from batch_collection.checkpoints.narrowing import Narrowing
from batch_collection.errors import UNREADABLE, CollectionError
from batch_collection.reading.filters import Filter
from batch_collection.reading.splits import Side
from batch_collection.windows import format_instant, parse_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from batch_collection.log.batch import Batch
    from batch_collection.reading.row_sequence import RowSequence

__all__ = ["ViewSpec", "fingerprint_of"]


_FORMAT = 1


@dataclass(frozen=True, slots=True)
class ViewSpec:
    """A view of a collection as of a cycle; ``fingerprint`` is that of its rows."""

    collection: str
    cycle: int
    narrowing: Narrowing
    sides: tuple[Side, ...]
    filters: tuple[Filter, ...]
    fingerprint: str

    def as_json(self) -> dict[str, Any]:
        """Return it as plain JSON values; hashes are text, since not all JSON has such integers."""
        bounds = self.narrowing
        return {
            "format": _FORMAT,
            "collection": self.collection,
            "cycle": self.cycle,
            "start": _text(bounds.start),
            "end": _text(bounds.end),
            "closed_by": _text(bounds.boundary),
            "since": bounds.since,
            "sides": list(map(_side_json, self.sides)),
            "where": [
                {"text": str(each), "arrow": base64.b64encode(each.content).decode()}
                for each in self.filters
            ],
            "fingerprint": self.fingerprint,
        }

    @classmethod
    def parse(cls, given: Any) -> ViewSpec:
        """Read what ``as_json`` returned.

        Raises:
            CollectionError: it is something else, or a newer version's.
        """
        try:
            if given["format"] > _FORMAT:
                message = (
                    f"the spec is of format={given['format']}, this version reads up to {_FORMAT}; "
                    "update batch-collection"
                )
                raise CollectionError(message)
            return cls(
                str(given["collection"]),
                int(given["cycle"]),
                Narrowing(
                    start=_instant(given["start"]),
                    end=_instant(given["end"]),
                    boundary=_instant(given["closed_by"]),
                    since=None if given["since"] is None else int(given["since"]),
                ),
                tuple(_side(each) for each in given["sides"]),
                tuple(Filter.read(base64.b64decode(each["arrow"])) for each in given["where"]),
                str(given["fingerprint"]),
            )
        except UNREADABLE as error:
            message = f"not the spec of a view: {type(error).__name__} {error}"
            raise CollectionError(message) from error


def fingerprint_of(sequence: RowSequence, sides: Iterable[Side], filters: Iterable[Filter]) -> str:
    """Return the same for the same rows: files, what is left of them, and columns' types.

    It does not matter by which bounds the files were chosen, nor what was collected elsewhere.
    """
    content = {
        "batches": [_batch_json(batch) for batch in sequence.batches],
        "columns": [[name, str(type_)] for name, type_ in sequence.unified.fields.items()],
        "sides": sorted((_side_json(side) for side in sides), key=json.dumps),
        "where": sorted({each.key for each in filters}),
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _batch_json(batch: Batch) -> list[Any]:
    """Name a file: its path has a random part."""
    return [batch.path, batch.rows]


def _side_json(side: Side) -> dict[str, Any]:
    return {"by": list(side.by), "low": str(side.low), "high": str(side.high), "salt": side.salt}


def _side(given: Mapping[str, Any]) -> Side:
    return Side(tuple(given["by"]), int(given["low"]), int(given["high"]), given["salt"])


def _text(instant: datetime | None) -> str | None:
    return None if instant is None else format_instant(instant)


def _instant(text: str | None) -> datetime | None:
    return None if text is None else parse_instant(text)
