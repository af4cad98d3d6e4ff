"""What an audit found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.counted import counted
from pipeline.showing.wording import humanised_bytes

if TYPE_CHECKING:
    from batch_collection.inspection.audit import Audit, Counts

__all__ = ["verdict"]


def verdict(found: Audit) -> list[str]:
    """Write an audit for people, a line for each finding and one that sums up."""
    looked_at = _looked_at(found.counts)
    if not found.findings:
        return [f"ok: {looked_at}"]
    count = len(found.findings)
    return [*found.findings, f"{counted(count, 'finding')} in {looked_at}"]


def _looked_at(counts: Counts) -> str:
    place, column = ("message id", "_message_id") if counts.has_ids else ("offset", "_offset")
    positions = f"every {place} in one place"
    letters = counted(counts.dead_letters, "dead letter")
    came = f"{counted(counts.messages, 'message')}, {letters}"
    if counts.panes:
        came, positions = counted(counts.panes, "pane"), "each pane once, offsets there are none"
    elif not counts.positions_checked:
        positions = f"{place}s not checked, some files have no {column}"
    more = ""
    if counts.expired_entries or counts.expired_files:
        more = (
            f"; expired: {counted(counts.expired_entries, 'entry')}, "
            f"{counted(counts.expired_files, 'file')}, {counted(counts.expired_rows, 'row')}"
        )
    if counts.unpublished_files:
        more += f"; {counted(counts.unpublished_files, 'file')} committed, not visible yet"
    return (
        f"{counted(counts.entries, 'entry')}, {counted(counts.files, 'file')} "
        f"({humanised_bytes(counts.bytes)}), "
        f"{counted(counts.rows, 'row')} and {counts.carried_rows:,} waiting of {came}; "
        f"{positions}{more}"
    )
