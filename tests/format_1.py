"""Collections of format 1 that the old program left, their topics, and what must be read of them.

``tests/data/format_1/make.py`` made them, and wrote down the messages that they were made of.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import tarfile
from collections import Counter
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

import batch_collection
from batch_collection.windows import EPOCH
from pipeline.cli import main
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, json_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from transforms.sources.kafka.embedded import EmbeddedBroker

    Position = tuple[int, int]
    Row = dict[str, Any]
    Rows = dict[tuple[int, int, int | None], Row]

__all__ = [
    "EXPIRED",
    "FILES",
    "NEXT_MORNING",
    "Old",
    "dead_among",
    "headers_of",
    "rows_among",
    "rows_in",
    "since",
    "without",
]

KEPT = Path(__file__).parent / "data" / "format_1"
FLAGS = ("--interval=10s", "--batch_size=6", "--metadata=full", "--shards=2")
FILES = {
    "parquet": ("--output_format=parquet", "--compression=zstd"),
    "jsonl": ("--output_format=jsonl", "--compression=none"),
    "jsonl-gzip": ("--output_format=jsonl", "--compression=gzip"),
}
EXPIRED = at("07:00:00")  # windows before it were taken away by the old program
NEXT_MORNING = at("04:05:13") + timedelta(days=1)


def bytes_of(text: str | None) -> bytes | None:
    """Return what ``make.py`` wrote down as text, one character a byte."""
    return None if text is None else text.encode("latin-1")


def kept_messages() -> list[Sending]:
    """Return what the old program has collected, in the order in which it was produced."""
    lines = map(json.loads, (KEPT / "messages.jsonl").read_text().splitlines())
    return [
        Sending(
            bytes_of(kept["value"]),
            datetime.fromisoformat(kept["at"]),
            kept["partition"],
            bytes_of(kept["key"]),
            kept["headers"] and {name: bytes_of(text) for name, text in kept["headers"].items()},
        )
        for kept in lines
    ]


def new_messages() -> list[Sending]:
    """Return what came since: for windows that wait, are closed, expired or new; and dead letters.

    Those of the last moments before the next morning's start wait again.
    """
    headers: dict[str, str | bytes | None] = {"source": b"gate-9", "raw": b"\xfe", "none": None}
    old = ["10:00:19", "10:00:01", "04:10:07"]
    new = [NEXT_MORNING + timedelta(seconds=n - 12) for n in range(14)]
    rows = [
        Sending(json_of({"id": n, "level": n / 2, "load": n}), when, n % 4, b"new", headers)
        for n, when in enumerate([*map(at, old), *new], 2000)
    ]
    array = json_of([{"id": 3000}, {"id": 3001, "samples": [2.5, None], "added": 2}])
    return [
        *rows,
        Sending(array, new[0], 1, None, headers),
        Sending(json_of({"id": 3002, "load": 2.5}), new[1], 2, b"half", headers),
        Sending(b'{"id": ', new[2], 0, b"torn", headers),
        Sending(None, new[3], 3, b"gone"),
    ]


def placed(messages: Iterable[Sending]) -> dict[Position, Sending]:
    """Return messages by partition and offset, in order."""
    ends: Counter[int] = Counter()
    found = {}
    for message in messages:
        found[message.partition, ends[message.partition]] = message
        ends[message.partition] += 1
    return found


def content_of(message: Sending, *, halves: bool) -> Any:
    """Return a message's JSON, None if it is a dead letter: fractions are without ``halves``."""
    try:
        content = json.loads(message.value or b"")
    except ValueError:
        return None
    is_half = isinstance(content, dict) and isinstance(content.get("load"), float)
    return None if is_half and not halves else content


def dead_among(
    messages: Mapping[Position, Sending], start: datetime = EPOCH, *, halves: bool = False
) -> set[Position]:
    """Return the places of messages from ``start`` on that must be dead letters."""
    return {
        place
        for place, message in messages.items()
        if message.value is not None
        and (message.at or EPOCH) >= start
        and content_of(message, halves=halves) is None
    }


def rows_among(messages: Mapping[Position, Sending], *, halves: bool = False) -> Rows:
    """Return the rows that must be made of messages."""
    found: Rows = {}
    for (partition, offset), message in messages.items():
        content = content_of(message, halves=halves)
        rows = [(None, content)] if isinstance(content, dict) else enumerate(content or ())
        for index, row in rows:
            own = {"_timestamp": message.at, "_key": message.key, "_headers": headers_of(message)}
            found[partition, offset, index] = without_nulls(row | own)
    return found


def headers_of(message: Sending) -> list[tuple[str, bytes | None]] | None:
    """Return a message's headers as they are read."""
    headers = message.headers or {}
    pairs = ((name, v.encode() if isinstance(v, str) else v) for name, v in headers.items())
    return list(pairs) or None


def without_nulls(value: Any) -> Any:
    """Leave out null fields, at any depth: a column that a row lacks reads as null."""
    if isinstance(value, dict):
        return {k: without_nulls(v) for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [without_nulls(item) for item in value]
    return value


def rows_in(*tables: pa.Table) -> Rows:
    """Return the rows of tables; bytes may be base64, and headers pairs or of key and value."""
    found: Rows = {}
    for row in (row for table in tables for row in table.to_pylist()):
        place = row.pop("_partition"), row.pop("_offset"), row.pop("_index", None)
        headers = row.pop("_headers") or []
        pairs = [tuple(each.values()) if isinstance(each, dict) else each for each in headers]
        own = {
            "_key": raw(row["_key"]),
            "_headers": [(name, raw(value)) for name, value in pairs] or None,
        }
        assert place not in found, f"{place} is there twice"
        found[place] = without_nulls(row | own)
    return found


def raw(value: str | bytes | None) -> bytes | None:
    """Return bytes, which JSON lines hold as base64."""
    return base64.b64decode(value) if isinstance(value, str) else value


def since(rows: Rows, instant: datetime) -> Rows:
    """Return the rows from an instant on."""
    return {place: row for place, row in rows.items() if row["_timestamp"] >= instant}


def without(rows: Rows, others: Rows) -> Rows:
    """Return the rows that are not among others."""
    return {place: row for place, row in rows.items() if place not in others}


class Old:
    """A collection that the old program left, and its topic on another broker, with more in it.

    Attributes:
        name: of its output format, one of ``FILES``.
        path: where it is; to be read only.
        before: by place, the messages that are collected.
        messages: by place, all that are in the topic.
    """

    def __init__(self, name: str, broker: EmbeddedBroker, folder: Path) -> None:
        """Unpack it, and produce its messages again."""
        self.name, self._folder, self._copies = name, folder, 0
        with tarfile.open(KEPT / f"{name}.tar.xz") as packed:
            packed.extractall(folder / "kept", filter="data")
        self.path = folder / "kept" / "sensor"
        kept = kept_messages()
        self.before, self.messages = placed(kept), placed([*kept, *new_messages()])
        self.stream = Stream(broker, name="sensor")
        sent = self.stream.send(*self.messages.values())
        found = {(each.partition, each.offset): each.value for each in sent}
        assert found == {place: message.value for place, message in self.messages.items()}

    @property
    def visible(self) -> Rows:
        """The rows that are in batches now: neither expired nor waiting."""
        return without(since(rows_among(self.before), EXPIRED), self.waiting)

    @property
    def waiting(self) -> Rows:
        """The rows that wait."""
        places = set()
        for file in batch_collection.open(self.path).newest.carry:
            with pa.OSFile(str(self.path / file.path)) as source, pa.ipc.open_stream(source) as it:
                rows = it.read_all().select(["partition", "offset", "index"]).to_pylist()
            places |= {tuple(row.values()) for row in rows}
        return {place: row for place, row in rows_among(self.before).items() if place in places}

    def all_rows(self, *, halves: bool = False) -> Rows:
        """Return what is there once all is collected.

        What comes for an expired window later is there.
        """
        new = {place: m for place, m in self.messages.items() if place not in self.before}
        left = since(rows_among(self.before, halves=halves), EXPIRED)
        return left | rows_among(new, halves=halves)

    def copy(self) -> Collecting:
        """Return a collector of a copy."""
        self._copies += 1
        output = self._folder / f"copy-{self._copies}"
        shutil.copytree(self.path, output / "sensor", copy_function=os.link)  # none is written to
        return Collecting.of(self.stream, output, *FLAGS, *FILES[self.name])

    def redrive(self, path: Path) -> None:
        """Let fractions be rows."""
        assert main(["schema", str(path), "--pin=load=double"]) == 0
        assert main(["redrive", str(path), "--metadata=full", *FILES[self.name]]) == 0
