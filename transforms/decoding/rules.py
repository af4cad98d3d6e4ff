"""How messages become rows: what a user chose."""

from __future__ import annotations

from dataclasses import dataclass

from batch_collection.schema.columns import METADATA_COLUMNS, PATH_KEYS

__all__ = ["RowRules"]


@dataclass(frozen=True, slots=True)
class RowRules:
    """How messages become rows.

    ``input_format`` names a decoder (``known``) or is ``module:function``; ``row_time`` is
    ``record``, ``field:NAME`` (dots lead into structs) or ``collected``; ``timestamp_unit`` (``s``,
    ``ms``, ``us``, ``ns``) is that of numbers in the field; ``metadata`` is ``none``, ``position``
    or ``full``; ``numbers`` is ``infer``, or ``double`` for all new ones.
    """

    input_format: str = "json"
    row_time: str = "record"
    timestamp_unit: str | None = None
    metadata: str = "position"
    numbers: str = "infer"

    @property
    def reserved(self) -> frozenset[str]:
        """Names that a payload's field may not have."""
        return METADATA_COLUMNS[self.metadata] | PATH_KEYS
