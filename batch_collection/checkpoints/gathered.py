"""Read a long log: checkpoints where there are good ones, entries elsewhere."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

from batch_collection.checkpoints.checkpoint import read_summary
from batch_collection.checkpoints.ranges import cover
from batch_collection.log.entries import Chain
from batch_collection.storage.fetching import each

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from batch_collection.checkpoints.checkpoint import Summary
    from batch_collection.checkpoints.ranges import Range
    from batch_collection.log.entry import Entry
    from batch_collection.storage.contract import Storage

__all__ = ["gathered"]


R = TypeVar("R")


def gathered(
    storage: Storage,
    first: int,
    last: int,
    of_checkpoint: Callable[[Summary], R | None],
    of_entries: Callable[[Iterable[Entry]], R],
) -> Iterator[R]:
    """Yield what the entries ``first`` to ``last`` come to, part by part, in the log's order.

    Args:
        storage: Where the log lies.
        first: The first cycle.
        last: The last one, included; its entry is there.
        of_checkpoint: What a checkpoint comes to; None if that can't be told from it. Then lower
            ones are asked, and the entries in the end.
        of_entries: What entries come to; all of them are taken.

    Raises:
        LogError: what is read does not follow what was read before.
    """
    chain = Chain(storage)

    def found(span: Range) -> tuple[Summary, R] | None:
        summary = None if span.level is None else read_summary(storage, span)
        result = None if summary is None else of_checkpoint(summary)
        return None if summary is None or result is None else (summary, result)

    def gather(spans: Sequence[Range]) -> Iterator[R]:
        for span, part in zip(spans, each(storage, found, spans), strict=True):
            if part is not None:
                summary, result = part
                chain.go_on(span.first, summary.previous, summary.digest)
                yield result
            elif span.parts:
                yield from gather(span.parts)
            else:
                yield of_entries(link.entry for link in chain.links(*span))

    return gather(tuple(cover(first, last)))
