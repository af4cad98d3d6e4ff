"""What the log tells of a collection's columns: which cycle gave them their types, and why."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from batch_collection.log.entry import Entry

__all__ = [
    "BY_DROP",
    "BY_EXPIRED",
    "BY_MESSAGES",
    "BY_PIN",
    "BY_SCHEMA",
    "ColumnHistory",
    "TypeChange",
    "schema_history",
]


BY_MESSAGES, BY_SCHEMA, BY_PIN, BY_DROP = "messages", "--schema", "--pin", "--drop"
BY_EXPIRED = "expired entries"


@dataclass(frozen=True, slots=True)
class TypeChange:
    """A column was given a type, by the entry of a cycle; None: it is a column no more.

    ``by``: the ``messages`` that the cycle read, its ``--schema``, ``--pin`` or ``--drop``; or one
    of the ``expired entries`` up to that cycle.
    """

    cycle: int
    committed_at: datetime
    type: Any
    by: str


@dataclass(frozen=True, slots=True)
class ColumnHistory:
    """A column, and how it came to its type: at least one change, oldest first."""

    name: str
    changes: tuple[TypeChange, ...]

    @property
    def type(self) -> Any:
        """The type that it has now, None if it is a column no more."""
        return self.changes[-1].type

    @property
    def types(self) -> tuple[Any, ...]:
        """All types that it had, oldest first."""
        return tuple(change.type for change in self.changes if change.type is not None)


def schema_history(
    entries: Iterable[Entry], folded: Entry | None = None
) -> tuple[ColumnHistory, ...]:
    """Return all columns that a collection ever had, in their order, from all its entries.

    ``folded`` is the last of those that were expired, if any were.
    """
    changes: dict[str, list[TypeChange]] = {}
    for entry in chain([] if folded is None else [folded], entries):
        gone = dict.fromkeys(changes.keys() - entry.schema.keys())
        for name, type_ in (*entry.schema.items(), *gone.items()):
            known = changes.setdefault(name, [])
            if not known or known[-1].type != type_:
                by = BY_EXPIRED if entry is folded else _by(entry, name)
                known.append(TypeChange(entry.cycle, entry.committed_at, type_, by))
    return tuple(ColumnHistory(name, tuple(found)) for name, found in changes.items())


def _by(entry: Entry, name: str) -> str:
    if name in entry.dropped:
        return BY_DROP
    if name not in entry.pinned:
        return BY_MESSAGES
    return BY_PIN if entry.cause == "pin" else BY_SCHEMA
