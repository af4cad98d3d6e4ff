"""What is compiled gives columns as memory of its own, which Arrow takes without a copy."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import pyarrow as pa

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["Given", "foreign_array"]

Given: TypeAlias = tuple[int, int, object] | None
"""Memory: its address, its bytes, and what frees it; None: nothing is there."""


def foreign_array(
    type_: pa.DataType,
    rows: int,
    buffers: Sequence[Given],
    nulls: int = 0,
    validity: Given = None,
    children: Sequence[pa.Array] = (),
) -> Any:
    """Return an array over memory that was given; ``validity`` counts where there are nulls."""
    given = [validity if nulls else None, *buffers]
    taken = [None if each is None else pa.foreign_buffer(*each) for each in given]
    return pa.Array.from_buffers(type_, rows, taken, nulls, children=list(children))
