"""Where things are in a collection. Every path is relative to it, with ``/`` between its parts."""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Any

from batch_collection.windows import compact_instant, parse_compact_instant

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "CARRY",
    "CHECKPOINT",
    "CURSORS",
    "DATA",
    "DEAD_LETTERS",
    "EXPIRED",
    "IDS",
    "LOG",
    "STAGING",
    "WINDOWS",
    "batch_path",
    "carry_path",
    "checkpoint_path",
    "checkpoint_range",
    "claim_path",
    "cursor_path",
    "cycle_name",
    "dead_letters_path",
    "draft_path",
    "drafted_path",
    "entry_cycle",
    "entry_path",
    "ids_path",
    "is_checkpoint",
    "lies_in",
    "manifest_path",
    "manifest_window",
    "new_token",
    "of_cycle",
    "outcome_path",
    "staged_cycle",
    "staged_path",
    "stub_number",
    "stub_path",
    "visible_place",
    "window_folder",
]


DATA, DEAD_LETTERS, LOG, WINDOWS = "data", "dead_letters", "log", "windows"
CARRY, STAGING, CURSORS, EXPIRED = "carry", "staging", "cursors", "expired"
IDS = "ids"
_LEAVES = re.compile(r"(?:^|/)(?:\.{0,2})(?:/|$)")
_DRAFTS = f"{STAGING}/drafts"
CHECKPOINT = f"{LOG}/checkpoint-"
"""How the paths of checkpoints begin."""
_CHECKPOINT_NAME = re.compile(rf"{CHECKPOINT}(\d{{20}})-(\d{{20}})\.(?:json|parquet)")


def lies_in(path: Any, folder: str) -> bool:
    """Tell whether a path that was read from a file leads to a place below a folder."""
    return (
        isinstance(path, str)
        and path.startswith(f"{folder}/")
        and "\0" not in path
        and not _LEAVES.search(path)
    )


def new_token() -> str:
    """Return eight random hexadecimal digits: what makes a staged file's name its own."""
    return secrets.token_hex(4)


def cycle_name(cycle: int) -> str:
    """Return the cycle as it stands in names of staged files and folders."""
    return f"{cycle:010d}"


def entry_path(cycle: int) -> str:
    """Return the path of a log entry."""
    return f"{LOG}/{cycle:020d}.json"


def checkpoint_path(first: int, last: int, suffix: str) -> str:
    """Return the path of a file of the checkpoint of a range of entries."""
    return f"{CHECKPOINT}{first:020d}-{last:020d}{suffix}"


def is_checkpoint(path: str) -> bool:
    """Tell whether a path is that of a checkpoint's file."""
    return path.startswith(CHECKPOINT)


def checkpoint_range(path: str) -> tuple[int, int] | None:
    """Return the first and the last entry of a checkpoint by its path, None if it is none."""
    found = _CHECKPOINT_NAME.fullmatch(path)
    return (int(found[1]), int(found[2])) if found else None


def entry_cycle(path: str) -> int | None:
    """Return the cycle of a log entry's path, None for another file of that folder."""
    return _number(path, LOG)


def stub_path(number: int) -> str:
    """Return the path of the stub that an expiry leaves; they are numbered from 0."""
    return f"{EXPIRED}/{number:010d}.json"


def stub_number(path: str) -> int | None:
    """Return the number of a stub's path, None for another file of that folder."""
    return _number(path, EXPIRED)


def batch_path(
    window_start: datetime,
    cycle: int,
    shard: int,
    number: int,
    token: str,
    suffix: str,
    layout: str = "plain",
) -> str:
    """Return the visible path of a batch file; names sort by window, then cycle.

    ``layout`` says how the hour is written; see ``entry.Form``.
    """
    name = f"{compact_instant(window_start)}-{cycle_name(cycle)}-{shard:02d}-{number:04d}-{token}"
    return f"{window_folder(window_start, layout)}/{name}{suffix}"


def window_folder(window_start: datetime, layout: str = "plain") -> str:
    """Return the folder of the visible batch files of a window, and of others of its hour."""
    hour = f"{window_start:%H}" if layout == "padded" else str(window_start.hour)
    return f"{DATA}/{_date(window_start)}/window_hour={hour}"


def dead_letters_path(planned_at: datetime, cycle: int, shard: int, token: str) -> str:
    """Return the visible path of a file of dead letters, by the time their cycle was planned."""
    name = f"{compact_instant(planned_at)}-{cycle_name(cycle)}-{shard:02d}-{token}"
    return f"{DEAD_LETTERS}/{_date(planned_at)}/{name}.parquet"


def of_cycle(path: str, cycle: int) -> str:
    """Return the visible path of a file of batches or dead letters, had it been another cycle's."""
    folder, name = path.rsplit("/", maxsplit=1)
    instant, _, rest = name.split("-", maxsplit=2)
    return f"{folder}/{instant}-{cycle_name(cycle)}-{rest}"


def staged_path(cycle: int, visible: str) -> str:
    """Return where a file waits for its cycle's commit."""
    return f"{STAGING}/{cycle_name(cycle)}/{visible.rsplit('/', maxsplit=1)[1]}"


def carry_path(cycle: int, shard: int, number: int, token: str) -> str:
    """Return the path of a carry file, which is never moved.

    Of many windows many wait in one cycle: the number tells them apart, the token attempts.
    """
    return f"{CARRY}/{cycle_name(cycle)}/{shard:02d}-{number:04d}-{token}.arrow"


def outcome_path(cycle: int, plan: str) -> str:
    """Return where the commit says why a plan ended without an entry."""
    return f"{STAGING}/{cycle_name(cycle)}/outcome-{plan}.json"


def claim_path(cycle: int, plan: str, number: int) -> str:
    """Return where an attempt of a plan's task says which messages it decodes."""
    return f"{STAGING}/{cycle_name(cycle)}/claims-{plan}/{number:04d}"


def ids_path(cycle: int, shard: int, token: str) -> str:
    """Return the visible path of a list of message ids that a task's attempt has decoded."""
    return f"{IDS}/{cycle_name(cycle)}-{shard:02d}-{token}.parquet"


def manifest_path(window_start: datetime, revision: int) -> str:
    """Return the path of a closed window's manifest."""
    return f"{WINDOWS}/{compact_instant(window_start)}.r{revision}.json"


def manifest_window(path: str) -> datetime | None:
    """Return the start of a manifest's window, None for another file of that folder."""
    try:
        return parse_compact_instant(path.removeprefix(f"{WINDOWS}/").partition(".r")[0])
    except ValueError:
        return None


def visible_place(path: str) -> tuple[datetime, int] | None:
    """Return window start (of dead letters: planning) and cycle that a file's name says, if any."""
    instant, _, rest = path.rsplit("/", maxsplit=1)[-1].partition("-")
    cycle = rest.partition("-")[0]
    try:
        return parse_compact_instant(instant), int(cycle)
    except ValueError:
        return None


def cursor_path(name: str) -> str:
    """Return where a follower remembers its place."""
    return f"{CURSORS}/{name}.json"


def draft_path(path: str, token: str) -> str:
    """Return where a small file is written before it gets its name ``path``."""
    return f"{_DRAFTS}/{path.replace('/', '~')}~{token}"


def drafted_path(draft: str) -> str | None:
    """Return the path that a draft is written for, None for what is no draft."""
    folder, _, name = draft.rpartition("/")
    return name.rpartition("~")[0].replace("~", "/") if folder == _DRAFTS else None


def staged_cycle(path: str) -> int | None:
    """Return the cycle of a path below ``staging/`` or ``carry/``, None if it is of none."""
    name = path.split("/")[1]
    return int(name) if name.isdecimal() else None


def _number(path: str, folder: str) -> int | None:
    name = path.removeprefix(f"{folder}/").removesuffix(".json")
    return int(name) if name.isdecimal() else None


def _date(instant: datetime) -> str:
    return f"window_date={instant.year:04d}-{instant:%m-%d}"
