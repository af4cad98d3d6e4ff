"""What is said of a closed window: a CloudEvent."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from batch_collection.windows import format_instant
from pipeline.announcing.contract import Announcement

if TYPE_CHECKING:
    from batch_collection.announcing.closing import Closing, Manifest
    from batch_collection.storage.contract import Storage

__all__ = ["announcement_of", "source_of"]

_TYPE = "batch_collection.window.closed"


def source_of(storage: Storage) -> str:
    """Return a collection's URI, whatever folder the program runs in."""
    path = storage.local_path("")
    return storage.uri if path is None else Path(path).resolve().as_uri()


def announcement_of(source: str, closing: Closing, manifest: Manifest) -> Announcement:
    """Return what is said of a revision of a window.

    Args:
        source: The collection's URI.
        closing: What brought the revision.
        manifest: What the window holds since.
    """
    entry, pane = closing.entry, closing.pane
    digest = hashlib.sha256(source.encode()).hexdigest()[:12]
    name = f"{digest}-{manifest.path.rpartition('/')[2].removesuffix('.json')}"
    event = {
        "specversion": "1.0",
        "id": name,
        "source": source,
        "type": _TYPE,
        "subject": manifest.path,
        "time": format_instant(entry.committed_at),
        "datacontenttype": "application/json",
        "data": {
            "window_start": format_instant(pane.window_start),
            "window_end": format_instant(pane.window_end),
            "revision": manifest.revision,
            "timing": pane.timing,
            "rows": manifest.rows,
            "files": manifest.files,
            "cycle": entry.cycle,
            "closed_through": format_instant(entry.boundary or pane.window_end),
        },
    }
    return Announcement(name, event)
