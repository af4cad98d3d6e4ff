"""How messages become rows: what a user chose."""

from __future__ import annotations

from dataclasses import dataclass

from batch_collection.schema.columns import reserved_names

__all__ = ["RowRules"]


@dataclass(frozen=True, slots=True)
class RowRules:
    """How messages become rows.

    ``input_format`` names a decoder (``known``) or is ``module:function``; ``row_time`` is
    ``record``, ``field:NAME`` (dots lead into structs), ``attribute:NAME`` or ``collected``;
    ``timestamp_unit`` (``s``, ``ms``, ``us``, ``ns``) is that of numbers there; ``metadata`` is
    ``none``, ``position`` or ``full``; ``numbers`` is ``infer``, or ``double`` for all new ones.
    ``kind`` is the source's (``SourceSettings``).
    """

    input_format: str = "json"
    row_time: str = "record"
    timestamp_unit: str | None = None
    metadata: str = "position"
    numbers: str = "infer"
    kind: str = "kafka"

    @property
    def reserved(self) -> frozenset[str]:
        """Names that a payload's field may not have."""
        return reserved_names(self.kind, self.metadata)
