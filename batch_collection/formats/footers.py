"""The footers of files of which parts are read again and again."""

from __future__ import annotations

from collections import OrderedDict
from contextlib import suppress
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import pyarrow.parquet as pq

__all__ = ["Footers"]


_MOST = 32 * 1024
"""Column chunks that kept footers tell of: each takes about a kilobyte."""

_LEAST = 64  # column chunks: smaller footers are parsed sooner than those to give up are found


class Footers:
    """Keeps those that were read last: to parse a large one takes longer than a row group does.

    Threads may use it at once. It has no lock, which a loader's worker could inherit held.
    """

    def __init__(self) -> None:
        """Keep none yet."""
        self._kept: OrderedDict[int, _Kept] = OrderedDict()

    def of(self, file: int) -> pq.FileMetaData | None:
        """Return that of a file, if it is kept."""
        found = self._kept.pop(file, None)
        if found is None:
            return None
        self._kept[file] = found
        return found.footer

    def keep(self, file: int, footer: pq.FileMetaData) -> None:
        """Keep that of a file, and no more of the others than may be in memory."""
        chunks = footer.num_row_groups * footer.num_columns
        if not _LEAST <= chunks <= _MOST:
            return
        self._kept[file] = _Kept(footer, chunks)
        while sum(each.chunks for each in list(self._kept.values())) > _MOST:
            with suppress(KeyError):  # other threads give some up as well
                self._kept.popitem(last=False)


class _Kept(NamedTuple):
    footer: pq.FileMetaData
    chunks: int
