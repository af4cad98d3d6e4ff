"""A view as notebooks show it: a few facts, its columns and its last windows, as HTML."""

from __future__ import annotations

from html import escape
from typing import TYPE_CHECKING

from batch_collection.errors import printable
from batch_collection.windows import format_instant

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from batch_collection.log.batch import Batch

__all__ = ["html_of"]

_MOST_WINDOWS = 10


def html_of(
    name: str, facts: Mapping[str, str], columns: Mapping[str, str], batches: Sequence[Batch]
) -> str:
    """Write a view; whatever names hold is text, and steers nothing.

    Args:
        name: Of the view.
        facts: What is said of it, by what it is about.
        columns: Their types, as text.
        batches: All of them, by window.
    """
    windows: dict[str, list[Batch]] = {}
    for batch in batches:
        windows.setdefault(format_instant(batch.window_start), []).append(batch)
    last = list(windows.items())[-_MOST_WINDOWS:]
    rows = [
        (start, f"{sum(batch.rows for batch in each):,}", f"{len(each):,}") for start, each in last
    ]
    title = f"the last {len(last)} of {len(windows):,} windows" if len(windows) > 1 else "window"
    return "".join(
        [
            f"<div><strong>{_text(name)}</strong>",
            _table((), facts.items()),
            f"<details><summary>{len(columns):,} columns</summary>",
            _table(("column", "type"), columns.items()),
            "</details>",
            f"<details><summary>{title}</summary>",
            _table(("start", "rows", "batches"), rows),
            "</details></div>",
        ]
    )


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    named = "".join(f"<th>{_text(each)}</th>" for each in head)
    first = f"<tr>{named}</tr>" if named else ""
    body = "".join(f"<tr>{''.join(f'<td>{_text(cell)}</td>' for cell in row)}</tr>" for row in rows)
    return f"<table>{first}{body}</table>"


def _text(text: str) -> str:
    return escape(printable(text))
