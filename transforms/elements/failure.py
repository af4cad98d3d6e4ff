"""Why a plan can't come to an entry, as tasks report it and notes beside staged files tell it."""

from __future__ import annotations

from typing import Any, NamedTuple

from batch_collection.errors import BY_NAME, UNREADABLE, CollectionError
from transforms.elements.records import from_json, to_json

__all__ = ["NOTHING", "OUTRUN", "SCHEMA_CHANGE", "TOO_MANY", "Failure", "text_of"]


SCHEMA_CHANGE = "SchemaChange"
"""The kind after which a cycle is planned again, with the failure's ``schema``."""

TOO_MANY = "TooManyWindows"
"""The kind after which a cycle is planned again, with ``limit`` messages at most."""

NOTHING = "Nothing"
"""The kind of a plan whose entry would say nothing: its pulls brought no message."""

OUTRUN = "Outrun"
"""The kind after which a redrive is planned again, with what is left of it."""

_CLASSES: dict[str, type[Exception]] = {**BY_NAME, "FileNotFoundError": FileNotFoundError}


def text_of(error: Exception) -> str:
    """Return what an error says, as JSON can hold it: names of files may be no Unicode."""
    return str(error).encode("utf-8", "backslashreplace").decode()


class Failure(NamedTuple):
    """Why a task can't be done: the name of an error's class, or a kind of those above; its text.

    The name is one of any version, so it may be unknown here.
    """

    kind: str
    text: str
    schema: dict[str, Any] | None = None
    limit: int | None = None

    @classmethod
    def of(cls, error: Exception) -> Failure:
        """Return what an error tells."""
        schema, limit = getattr(error, "schema", None), getattr(error, "limit", None)
        return cls(type(error).__name__, text_of(error), schema, limit)

    @property
    def error_class(self) -> type[Exception] | None:
        """The class of the error that it tells of; None if it is of another kind, or unknown."""
        return _CLASSES.get(self.kind)

    def error(self) -> CollectionError:
        """Return the error that it tells of."""
        return BY_NAME.get(self.kind, CollectionError)(self.text)

    def to_json(self) -> bytes:
        """Write it."""
        return to_json(self)

    @classmethod
    def from_json(cls, content: bytes) -> Failure | None:
        """Read what ``to_json`` wrote, in this version or another; None if it is damaged."""
        try:
            found = from_json(cls, content)
        except UNREADABLE:
            return None
        is_told = isinstance(found.kind, str) and isinstance(found.text, str)
        return found if is_told and isinstance(found.schema, dict | None) else None
