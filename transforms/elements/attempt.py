"""One attempt at reading what a task asks for, as it goes through the graph."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from apache_beam.pvalue import TaggedOutput

from batch_collection.errors import CollectionError
from transforms.elements.chunk import REPORTS
from transforms.elements.observers import clocked, tell
from transforms.elements.report import report_on
from transforms.process.events import MessagesRead
from transforms.process.process import current

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import pyarrow as pa

    from transforms.elements.chunk import Chunk
    from transforms.elements.report import Report

__all__ = ["attempted"]


def attempted(
    end: Chunk, tables: Iterable[pa.Table], report: Callable[[Chunk], Report]
) -> Iterator[Chunk | TaggedOutput]:
    """Yield messages as chunks of an attempt, then its ``end`` and the report on it.

    What is raised while they are read is the report's failure, and then there is no end. Of an
    attempt that is abandoned meanwhile no more is read.

    Args:
        end: the chunk marked ``last``.
        tables: the messages, some at a time.
        report: makes the report, once all are read.
    """
    try:
        for table in clocked("read", tables):
            tell(MessagesRead(end.task.plan.collection, table.num_rows))
            yield replace(end, table=table, last=False)
            if end.attempt in current().abandoned:
                return
    except CollectionError as error:
        yield TaggedOutput(REPORTS, report_on(end).failed(error))
        return
    finally:
        current().abandoned.discard(end.attempt)
    yield end
    yield TaggedOutput(REPORTS, report(end))
