"""What an audit found, for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    return [*found.findings, f"{count} finding{'s' * (count > 1)} in {looked_at}"]


def _looked_at(counts: Counts) -> str:
    place, column = ("message id", "_message_id") if counts.has_ids else ("offset", "_offset")
    positions = f"every {place} in one place"
    came = f"{counts.messages:,} messages, {counts.dead_letters:,} dead letters"
    if counts.panes:
        came, positions = f"{counts.panes:,} panes", "each pane once, offsets there are none"
    elif not counts.positions_checked:
        positions = f"{place}s not checked, some files have no {column}"
    more = ""
    if counts.expired_entries or counts.expired_files:
        more = (
            f"; expired: {counts.expired_entries:,} entries, {counts.expired_files:,} files, "
            f"{counts.expired_rows:,} rows"
        )
    if counts.unpublished_files:
        more += f"; {counts.unpublished_files:,} files committed, not visible yet"
    return (
        f"{counts.entries:,} entries, {counts.files:,} files ({humanised_bytes(counts.bytes)}), "
        f"{counts.rows:,} rows and {counts.carried_rows:,} waiting of {came}; "
        f"{positions}{more}"
    )
