"""Why messages became dead letters, as their files say."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import TYPE_CHECKING

import pyarrow as pa
import pyarrow.parquet as pq

from batch_collection.checkpoints.gathered import gathered
from batch_collection.errors import (
    CollectionError,
    DamagedFileError,
    FileGoneError,
    in_one_line,
)
from batch_collection.log.batch import open_published
from batch_collection.storage.contract import PartedStorage
from batch_collection.storage.fetching import each

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.log.entry import DeadLetterFile, Entry
    from batch_collection.storage.contract import Storage

__all__ = [
    "commonest_reason",
    "entries_with_letters",
    "grouped",
    "live_dead_letters",
    "reason_kind",
    "reasons_of",
]


_MOST_READ = 1000  # of a file, where one reason is wanted
_VALUE = re.compile(r"(can't hold ).*(; (?:send|give) )", re.DOTALL)
_NUMBER = re.compile(r"(?<![\w.`])-?\d[\d.]*(?:[eE][+-]?\d+)?(?!\w)")
_QUOTED = re.compile(r"(: )'.*'(; send RFC 3339)", re.DOTALL)


def reason_kind(reason: str) -> str:
    """Return a reason without what only its message holds: a value, where in it, a schema's id."""
    kind = _QUOTED.sub(r"\1...\2", _VALUE.sub(r"\1...\2", reason))
    return _NUMBER.sub("N", kind)


def grouped(reasons: Mapping[str, int]) -> Counter[str]:
    """Count reasons that differ in nothing but values together, under one example of them.

    It is the commonest, or the first by its text.
    """
    examples: dict[str, str] = {}
    found: Counter[str] = Counter()
    for reason, count in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
        found[examples.setdefault(reason_kind(reason), reason)] += count
    return found


def live_dead_letters(entries: Iterable[Entry]) -> dict[str, DeadLetterFile]:
    """Return, by path, the files of dead letters that no later entry has redriven."""
    live: dict[str, DeadLetterFile] = {}
    for entry in entries:
        for path in entry.redriven:
            live.pop(path, None)
        live.update({file.path: file for file in entry.dead_letters})
    return live


def entries_with_letters(storage: Storage, first: int, last: int) -> Iterator[Entry]:
    """Yield those of the entries ``first`` to ``last`` that name dead letters, or redrove some."""

    def of_checkpoint(summary: Summary) -> tuple[Entry, ...] | None:
        return None if summary.sums.dead_letters or summary.sums.taken_up else ()

    def of_entries(entries: Iterable[Entry]) -> tuple[Entry, ...]:
        return tuple(entry for entry in entries if entry.dead_letters or entry.redriven)

    return chain.from_iterable(gathered(storage, first, last, of_checkpoint, of_entries))


def reasons_of(storage: Storage, files: Iterable[DeadLetterFile]) -> Counter[str]:
    """Count the dead letters of some files by their reason.

    Raises:
        DamagedFileError: a file can't be read.
        FileGoneError: a file is not there.
    """
    found: Counter[str] = Counter()
    for counts in each(storage, partial(_reasons, storage), files):
        found.update(counts)
    return found


def commonest_reason(storage: Storage, files: Iterable[DeadLetterFile]) -> str:
    """Return what most of the first dead letters of each file say; "" if none can be read.

    However many there are, a part is read: it is for a line that people glance at.
    """
    found: Counter[str] = Counter()
    for file in files:
        with suppress(CollectionError, pa.ArrowException, KeyError, OSError):
            found.update(_first_reasons(storage, file))
    return grouped(found).most_common(1)[0][0] if found else ""


def _first_reasons(storage: Storage, letters: DeadLetterFile) -> list[str]:
    """Read some reasons; of a bucket's file only the parts where they lie are fetched."""
    names = list(dict.fromkeys([letters.path, letters.staged]))
    if isinstance(storage, PartedStorage):
        source = storage.open_parts(names, letters.bytes, lambda: FileGoneError(letters.path))
    else:
        source = open_published(storage, letters.path, letters.staged)
    with source, pq.ParquetFile(source) as file:
        first = next(file.iter_batches(_MOST_READ, columns=["error"]), None)
        return [] if first is None else first.column("error").to_pylist()


def _reasons(storage: Storage, letters: DeadLetterFile) -> Counter[str]:
    counts = read_letters(storage, letters, ("error",)).column("error").value_counts().to_pylist()
    return Counter({str(item["values"]): item["counts"] for item in counts})


def read_letters(storage: Storage, letters: DeadLetterFile, columns: Sequence[str]) -> pa.Table:
    """Read columns of a file of dead letters, in that order.

    Raises:
        DamagedFileError: it can't be read.
        FileGoneError: it is not there.
    """
    try:
        with (
            open_published(storage, letters.path, letters.staged) as source,
            pq.ParquetFile(source) as file,
        ):
            return file.read(columns=list(columns)).select(columns)
    except (pa.ArrowException, KeyError) as error:
        message = (
            f"cannot read dead letters {letters.path}: {in_one_line(error)}; "
            "run `batch-collection audit`"
        )
        raise DamagedFileError(message) from error
