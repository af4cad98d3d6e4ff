"""Random messages under random flags: rows as they were sent, the same ones for every reader."""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl
import pyarrow.dataset as ds
import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.schema.columns import METADATA_COLUMNS, PATH_KEYS
from batch_collection.storage.local import LocalStorage
from tests.builders import at
from tests.collecting import Collecting, Sending, Stream, dead_letters_of, entries_of
from tests.decoding import substance

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from batch_collection.collection import Collection
    from transforms.sources.kafka.embedded import EmbeddedBroker

    Rows = list[dict[str, Any]]

NAMES = (
    *("a", "b", "c", "k", "A", "a.b", "userId", "userID", "é", "É", "ß", "ss", "", "x y"),
    *("n" * 50, "d", "Window_Date", "_Offset", "_key", "0", "list", "select"),
)
SCALARS = (
    *(None, True, False, 0, 1, -1, 2**31, 2**53 + 1, -(2**63), 2**63 - 1, 0.5, 1.0, -0.0, 1e300),
    *(1e-300, 123456789.123456789, "", "x", "é\u2028", "2026-11-22T10:30:00Z", "1", "\0"),
)
OTHERS = (b"", b"{", b"\xff", b"1", b"[]", b"[{}]", b"{}", b"null", b'{"a":1,"a":2}', b"[null]")
BEGIN = at("04:30:02")


def value(rng: random.Random, depth: int = 2) -> Any:
    """Return any JSON value."""
    kind = rng.random()
    if depth == 0 or kind < 0.55:
        return rng.choice(SCALARS)
    if kind < 0.75:
        return [value(rng, depth - 1) for _ in range(rng.choice([0, 0, 1, 2, 3]))]
    return {name: value(rng, depth - 1) for name in rng.sample(NAMES, rng.choice([0, 0, 1, 2]))}


def _some(rng: random.Random, *elements: Any) -> list[Any]:
    return [rng.choice(elements) for _ in range(rng.choice([0, 1, 3]))]


KINDS: dict[str, Callable[[random.Random], Any]] = {
    "integer": lambda rng: rng.randint(-(10**9), 10**9),
    "fraction": lambda rng: rng.random() * 10 ** rng.randint(-3, 9),
    "text": lambda rng: rng.choice(["", "x", "é", "\u2028"]),
    "flag": lambda rng: rng.random() < 0.5,
    "integers": lambda rng: _some(rng, 1, 2, None),
    "fractions": lambda rng: _some(rng, 0.5, None, 1),
    "texts": lambda rng: _some(rng, "a", None, ""),
    "object": lambda rng: {name: rng.choice([1, None, 5]) for name in rng.sample("pq", 1)},
    "objects": lambda rng: _some(rng, {"p": 1}, {"p": None}, {}, None),
    "nothing": lambda _: None,
    "empty": lambda rng: rng.choice([[], {}, None, [None]]),
    "anything": value,
}
"""What a sender puts under a name, most of the time."""


@dataclass(slots=True)
class Sender:
    """Makes messages most of which have the same fields, of the same kinds."""

    rng: random.Random
    fields: dict[str, str]

    @classmethod
    def drawn(cls, rng: random.Random) -> Sender:
        """Draw one."""
        return cls(rng, {name: rng.choice([*KINDS]) for name in rng.sample(NAMES, 4)})

    def message(self) -> bytes:
        """Return an object, an array of some, or something else."""
        chance = self.rng.random()
        if chance < 0.04:
            return self.rng.choice(OTHERS)
        count = self.rng.randint(0, 3)
        sent = [self._object() for _ in range(count)] if chance < 0.15 else self._object()
        return json.dumps(sent, ensure_ascii=self.rng.random() < 0.5).encode()

    def _object(self) -> dict[str, Any]:
        made = {
            name: KINDS[kind](self.rng)
            for name, kind in self.fields.items()
            if self.rng.random() < 0.8
        }
        return made | (
            {self.rng.choice(NAMES): value(self.rng)} if self.rng.random() < 0.08 else {}
        )


def flags(rng: random.Random) -> dict[str, str]:
    """Return flags of the collector."""
    form, compression = rng.choice(
        [("parquet", "zstd"), ("parquet", "snappy"), ("jsonl", "none"), ("jsonl", "gzip")]
    )
    return {
        "interval": "10s",
        "batch_size": str(rng.choice([3, 10, 1000])),
        "output_format": form,
        "compression": compression,
        "metadata": rng.choice(["none", "position", "position", "full"]),
        "shards": str(rng.choice([1, 1, 2])),
        "numbers": rng.choice(["infer", "infer", "infer", "double"]),
    }


def collect(rng: random.Random, collecting: Collecting) -> None:
    """Send and collect a few times, early and late, and in the end all that waits."""
    clock, sender = BEGIN, Sender.drawn(rng)
    (stream,) = collecting.streams
    for _ in range(rng.randint(1, 4)):
        for _ in range(rng.choice([0, 1, 5, 40])):
            stamp = clock + timedelta(seconds=rng.choice([-1, -1, -5, -20, 3]))
            text = sender.message() if rng.random() > 0.03 else None
            twice: Any = [("h", b"1"), ("h", None)] if rng.random() < 0.2 else None
            key = rng.choice([None, b"k", b"\xff"])
            stream.post(Sending(text, stamp, rng.randrange(4), key, twice))
        stream.flush()
        collecting.once(clock, *(["--flush"] if rng.random() < 0.2 else []))
        clock += timedelta(seconds=rng.choice([3, 10, 20]))
        sender = Sender.drawn(rng) if rng.random() < 0.3 else sender
    collecting.once(clock + timedelta(seconds=40))


def sent_rows(collecting: Collecting) -> dict[tuple[int, int, int | None], dict[str, Any]]:
    """Return the rows of the messages that are no dead letters, by their places."""
    dead = dead_letters_of(collecting.path)
    rows: dict[tuple[int, int, int | None], dict[str, Any]] = {}
    for partition, offset, sent, _ in collecting.streams[0].produced:
        if sent is not None and (partition, offset) not in dead:
            content = json.loads(sent)
            each = enumerate(content) if isinstance(content, list) else [(None, content)]
            rows |= {(partition, offset, index): row for index, row in each}
    return rows


def same(found: Any, sent: Any) -> bool:
    """Tell whether a column holds what was sent; numbers of its rows may all be doubles."""
    if isinstance(found, dict) and isinstance(sent, dict):
        return found.keys() == sent.keys() and all(same(found[key], sent[key]) for key in sent)
    if isinstance(found, list) and isinstance(sent, list):
        return len(found) == len(sent) and all(map(same, found, sent))
    if isinstance(found, float) and type(sent) in {int, float}:
        return found == float(sent)
    return type(found) is type(sent) and bool(found == sent)


def canonical(rows: Iterable[dict[str, Any]]) -> list[str]:
    """Return rows as texts that can be compared, in no order: paths and the hours of days apart."""
    left_out = PATH_KEYS | {"_timestamp"}
    kept = ({name: cell for name, cell in row.items() if name not in left_out} for row in rows)
    return sorted(json.dumps(substance(row), sort_keys=True, default=repr) for row in kept)


def by_others(collection: Collection, data: Path) -> dict[str, Rows]:
    """Read files as docs/format.md says that others do."""
    schema, files = collection.schema, f"{data}/**/*.parquet"
    with duckdb.connect() as connection:
        united = connection.sql(f"FROM read_parquet('{files}', union_by_name=true)")
        in_duckdb = united.to_arrow_table().to_pylist()
    frame: Any = pl.from_arrow(schema.empty_table())
    scan = pl.scan_parquet(
        files,
        schema=frame.schema,
        missing_columns="insert",
        cast_options=pl.ScanCastOptions(missing_struct_fields="insert"),
    )
    return {
        "DuckDB": in_duckdb,
        "pyarrow": ds.dataset(data, schema=schema, format="parquet").to_table().to_pylist(),
        "Polars": scan.collect().to_arrow().to_pylist(),
    }


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(10, id="short"),
        pytest.param(400, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(1800)]),
    ],
)
def test_whatever_is_sent_is_read_as_it_was_by_every_reader(
    embedded: EmbeddedBroker, tmp_path: Path, tell: Callable[[str], None], count: int
) -> None:
    """Each message is rows, or a dead letter; the audit is clean."""
    first, rows, dead = random.randrange(2**32), 0, 0
    for seed in range(first, first + count):
        print(f"seed={seed}")
        rng = random.Random(seed)
        drawn = flags(rng)
        words = [f"--{name}={word}" for name, word in drawn.items()]
        collecting = Collecting.of(Stream(embedded), tmp_path / str(seed), *words)
        collect(rng, collecting)

        assert audit(LocalStorage(str(collecting.path))).findings == ()
        assert entries_of(collecting.path)[-1].carry == ()
        collection, sent = batch_collection.open(collecting.path), sent_rows(collecting)
        table = collection.table()
        assert table.num_rows == collection.rows == len(sent)
        assert table.num_rows == sum(batch.table().num_rows for batch in collection)
        own = METADATA_COLUMNS[drawn["metadata"]]
        for row in table.to_pylist() if own else ():
            place = row["_partition"], row["_offset"], row.get("_index")
            payload = {name: cell for name, cell in row.items() if name not in own}
            assert same(substance(payload), substance(sent.pop(place))), place
        if drawn["output_format"] == "parquet" and table.num_rows:
            wanted = canonical(table.to_pylist())
            for reader, seen in by_others(collection, collecting.path / "data").items():
                assert canonical(seen) == wanted, reader
        rows, dead = rows + table.num_rows, dead + len(dead_letters_of(collecting.path))
    tell(f"{count} collections of {rows} rows and {dead} dead letters, seeds from {first}")

    assert rows > count
