"""A source from outside: streams are folders, partitions files of JSON lines, offsets lines.

It shows what adding a source takes: one class for each part of the contract, and a line in
``pipeline.options.sources.SOURCES``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pyarrow as pa

from batch_collection.errors import CollectionError, DataLossError
from batch_collection.log.entry import Source
from batch_collection.windows import EPOCH, from_microseconds
from transforms.sources.contract import MESSAGES, Answer, Bounds, Gap

if TYPE_CHECKING:
    import argparse
    from collections.abc import Generator, Mapping, Sequence
    from datetime import datetime

    from batch_collection.log.entry import Entry
    from pipeline.options.flags import Flags
    from transforms.sources.contract import Slice

__all__ = ["FolderReader", "FolderSettings", "check", "configure", "is_asked_for", "put", "retain"]

KIND = "folder"
_CHUNK = 3


def configure(group: argparse._ArgumentGroup) -> None:
    """Declare the flags."""
    group.add_argument("--folder", metavar="DIR")
    group.add_argument("--streams", metavar="A,B")


def is_asked_for(args: argparse.Namespace) -> bool:
    """Tell whether a folder is named."""
    return bool(args.folder)


def check(flags: Flags) -> FolderSettings:
    """Turn the flags into settings."""
    return FolderSettings(flags.names("streams"), Path(flags.given("folder")))


def put(folder: Path, name: str, partition: int, *messages: tuple[datetime, bytes | None]) -> None:
    """Append messages, each with its stamp."""
    (folder / name).mkdir(parents=True, exist_ok=True)
    with (folder / name / f"{partition}.jsonl").open("a", encoding="utf-8") as lines:
        for at, value in messages:
            text = None if value is None else value.decode()
            lines.write(json.dumps([(at - EPOCH).total_seconds() * 1000, text]) + "\n")


def retain(folder: Path, name: str, partition: int, first: int) -> None:
    """Let what is before an offset be gone."""
    (folder / name / f"{partition}.first").write_text(str(first))


@dataclass(frozen=True, slots=True)
class FolderSettings:
    """Streams below a folder."""

    kind: ClassVar[str] = KIND
    remembering: ClassVar[None] = None
    packages: ClassVar[tuple[str, ...]] = ()
    names: tuple[str, ...]
    folder: Path

    @property
    def where(self) -> str:
        """What it is and where it is asked."""
        return f"streams of {self.folder}"

    @property
    def collections(self) -> tuple[str, ...]:
        """What the collections are called: as their streams."""
        return self.names

    def prepare(self) -> list[str]:
        """Create nothing."""
        return []

    def connect(self) -> FolderSettings:
        """Return itself: there is nothing to connect to."""
        return self

    def sources(self, names: Sequence[str]) -> list[FolderStream]:
        """Look streams up."""
        for name in names:
            if not (self.folder / name).is_dir():
                message = f"no stream={name} in {self.folder}"
                raise CollectionError(message)
        return [FolderStream(self.folder, name) for name in names]

    def close(self) -> None:
        """Do nothing."""

    def reader(self) -> FolderReader:
        """Return what reads files."""
        return FolderReader(self.folder)


@dataclass
class FolderStream:
    """One stream."""

    folder: Path
    name: str

    def __post_init__(self) -> None:
        """Look for partitions."""
        self.refresh()

    def identity(self) -> Source:
        """Say what it is."""
        return Source(KIND, self.name)

    def refresh(self) -> Source:
        """Look for partitions."""
        files = (self.folder / self.name).glob("*.jsonl")
        self.partitions = tuple(sorted(int(file.stem) for file in files))
        return self.identity()

    def bounds(self) -> dict[int, Bounds]:
        """Count lines."""
        return {
            partition: Bounds(
                _first(self.folder, self.name, partition), len(self._lines(partition))
            )
            for partition in self.partitions
        }

    def at(self, instant: datetime) -> dict[int, Answer]:
        """Look through all stamps."""
        found: dict[int, Answer] = {}
        for partition, (first, _) in self.bounds().items():
            stamps = [from_microseconds(int(at * 1000)) for at, _ in self._lines(partition)]
            later = (n for n, at in enumerate(stamps) if n >= first and at >= instant)
            offset = next(later, None)
            found[partition] = Answer(offset, None if offset is None else stamps[offset])
        return found

    def remembered(self) -> dict[int, int]:
        """Read what ``release`` wrote."""
        try:
            ends = json.loads((self.folder / self.name / "released").read_text())
        except FileNotFoundError:
            return {}
        return {int(partition): end for partition, end in ends.items()}

    def reset(self) -> None:
        """Do nothing."""

    def release(self, entry: Entry) -> None:
        """Write where the entry ends."""
        (self.folder / self.name / "released").write_text(json.dumps(entry.ends))

    def _lines(self, partition: int) -> list[Any]:
        return _lines(self.folder, self.name, partition)


@dataclass(frozen=True, slots=True)
class FolderReader:
    """Reads lines by their numbers."""

    folder: Path

    def read(
        self, slices: Sequence[Slice], *, skip_lost: bool
    ) -> Generator[pa.RecordBatch | Gap, None, None]:
        """Yield three messages at a time."""
        for part in slices:
            first = min(max(part.first, _first(self.folder, part.topic, part.partition)), part.end)
            if first > part.first:
                if not skip_lost:
                    message = f"{part.topic} has no offset {part.first} any more"
                    raise DataLossError(message)
                yield Gap(part.partition, part.first, first)
            lines = _lines(self.folder, part.topic, part.partition)
            for start in range(first, part.end, _CHUNK):
                yield _batch(part.partition, start, lines[start : min(start + _CHUNK, part.end)])


def _first(folder: Path, name: str, partition: int) -> int:
    file = folder / name / f"{partition}.first"
    return int(file.read_text()) if file.exists() else 0


def _lines(folder: Path, name: str, partition: int) -> list[Any]:
    text = (folder / name / f"{partition}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def _batch(partition: int, start: int, lines: Sequence[Any]) -> pa.RecordBatch:
    columns: Mapping[str, list[Any]] = {
        "partition": [partition] * len(lines),
        "offset": list(range(start, start + len(lines))),
        "timestamp": [int(at) for at, _ in lines],
        "value": [None if value is None else value.encode() for _, value in lines],
        "key": [None] * len(lines),
        "headers": [None] * len(lines),
    }
    return pa.RecordBatch.from_pydict(columns, schema=MESSAGES)
