"""Where a follower stands in the log, remembered under a name."""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from batch_collection.errors import CollectionError, LogError, StorageError
from batch_collection.paths import cursor_path, entry_path
from batch_collection.storage.opening import open_storage

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

__all__ = ["Cursor", "Place"]


_FORMAT = 1
_MOST = 10**20  # names of entries have twenty digits
_CURSOR = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class Place:
    """The next batch is number ``index`` of the entry of ``cycle``, of which ``row`` rows are used.

    ``stub`` is the newest one (``Expiry.number``) of which the follower knows that it has missed
    what was expired by it; None: it knows of none.
    """

    cycle: int
    index: int = 0
    stub: int | None = None
    row: int = 0


class Cursor:
    """A follower's place in a log, under a name or in a file elsewhere."""

    def __init__(self, storage: Storage, name: str | None, file: str | None = None) -> None:
        """Take a log's storage, and the name there or the file, one of the two.

        Raises:
            CollectionError: both or none is given, or ``name`` is none for a file.
        """
        self._log = self._storage = storage
        if file is not None and name is None:
            folder, slash, self._path = file.rpartition("/")
            self._storage = open_storage(folder or slash or ".")
            if not self._path:
                message = f"cursor_file must be a file, got {file!r}"
                raise CollectionError(message)
            return
        if name is None or file is not None:
            message = f"give one of cursor and cursor_file, got {name!r} and {file!r}"
            raise CollectionError(message)
        if not _CURSOR.fullmatch(name):
            message = (
                f"cursor must be up to 100 letters, digits, '.', '_' or '-', got {name!r}; "
                "give a name such as my-group"
            )
            raise CollectionError(message)
        self._path = cursor_path(name)

    def load(self, first: Place, kept: int = 0) -> Place:
        """Return the place, ``first`` if there is none; that is remembered, too.

        Args:
            first: Where a new one stands.
            kept: The first cycle whose entry expiring has left in the log.
        """
        try:
            content = self._storage.read(self._path)
        except FileNotFoundError:
            self.store(first)
            return first
        except StorageError as error:
            self._fail("look up", error)
        place = self._parse(content)
        reached = place.cycle if place.index or place.row else place.cycle - 1
        if reached >= kept:
            self._check_reached(reached)
        return place

    def store(self, place: Place) -> None:
        """Remember a place, durably."""
        fields = {"format": _FORMAT, **asdict(place)}
        if not place.row:
            del fields["row"]  # as it always was
        content = json.dumps(fields)
        try:
            self._storage.replace(self._path, content.encode() + b"\n")
        except StorageError as error:
            self._fail("remember", error)

    def _fail(self, doing: str, error: StorageError) -> NoReturn:
        message = (
            f"cannot {doing} the place in {self.path}: {error}; where it may not be written it can "
            "be elsewhere: --cursor_file (follow(cursor_file=...))"
        )
        raise StorageError(message) from error

    @property
    def is_far(self) -> bool:
        """Whether remembering is an upload."""
        return self._storage.is_far

    @property
    def path(self) -> str:
        """The file it is remembered in, its whole path."""
        return f"{self._storage.uri}/{self._path}"

    def refuse(self, why: str) -> NoReturn:
        """Say what is wrong with what the file holds.

        Raises:
            CollectionError: always.
        """
        message = f"cannot read cursor {self.path}: {why}; remove it to start again"
        raise CollectionError(message)

    def _parse(self, content: bytes) -> Place:
        try:
            fields = json.loads(content)
        except (ValueError, RecursionError):
            self.refuse("it is no JSON")
        if not isinstance(fields, dict):
            self.refuse("it is no JSON object")
        if not _is_count(fields.get("format")):
            self.refuse("it has no format")
        if fields["format"] > _FORMAT:
            message = (
                f"cursor {self.path} of format={fields['format']}, this version reads up to "
                f"{_FORMAT}; update batch-collection"
            )
            raise CollectionError(message)
        fields.setdefault("row", 0)
        for name in ("cycle", "index", "row"):
            if not _is_count(fields.get(name)):
                self.refuse(f"{name} must be a whole number, got {fields.get(name)!r:.80}")
        stub = fields.get("stub")
        if stub is not None and not _is_count(stub):
            self.refuse(f"stub must be a whole number or null, got {stub!r:.80}")
        return Place(fields["cycle"], fields["index"], stub, fields["row"])

    def _check_reached(self, cycle: int) -> None:
        """Refuse a place that the log never had: the collection was made anew under the cursor."""
        if self._log.size(entry_path(cycle)) is None:
            message = (
                f"cursor {self.path} is behind cycle={cycle}, which the log of "
                f"{self._log.uri} does not have; remove it to start again"
            )
            raise LogError(message)


def _is_count(value: Any) -> bool:
    return type(value) is int and 0 <= value < _MOST
