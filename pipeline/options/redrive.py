"""What ``redrive`` is asked to do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from transforms.decoding.rules import RowRules

if TYPE_CHECKING:
    from batch_collection.log.entry import Entry
    from batch_collection.schema.types import Schema
    from transforms.writing.layout import Output

__all__ = ["Asked", "RedriveOptions"]


@dataclass(frozen=True, slots=True)
class Asked:
    """How dead letters are read again; see the flags of the same names."""

    schema: Schema
    input_format: str
    numbers: str
    timestamp_unit: str | None
    files: Output
    batch_size: int

    def rules(self, newest: Entry) -> RowRules:
        """Return how messages become rows in a collection."""
        return RowRules(
            input_format=self.input_format,
            row_time=newest.row_time,
            timestamp_unit=self.timestamp_unit,
            metadata=self.files.metadata,
            numbers=self.numbers,
            kind=newest.source.kind,
        )


@dataclass(frozen=True, slots=True)
class RedriveOptions:
    """What ``redrive`` was asked to do; see the flags of the same names."""

    path: str
    asked: Asked
    dry_run: bool
