"""DuckDB, Polars and pyarrow read ``data/`` as anybody would, and agree."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import TYPE_CHECKING, NamedTuple

import duckdb
import polars as pl
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

import batch_collection
from batch_collection.audit import audit
from batch_collection.storage import LocalStorage
from pipeline.local import utc_now
from tests.builders import at
from tests.collecting import (
    Collecting,
    CollectorProcess,
    Sending,
    Stream,
    check,
    dead_letters_of,
    sending,
)
from tests.storages import Died, DyingStorage
from transforms import write_batch_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.embedded import EmbeddedBroker
    from tests.services.kafka import KafkaBroker

SECOND = timedelta(seconds=1)


class Seen(NamedTuple):
    """What a reader says of a collection: rows, the sum of ``x``, and that of the offsets."""

    rows: int
    x: float
    offsets: int


def of_duckdb(data: Path, options: str = "") -> Seen:
    """Ask DuckDB."""
    query = (
        f"SELECT count(*), sum(x), sum(_offset) FROM read_parquet('{data}/**/*.parquet'{options})"
    )
    with duckdb.connect() as connection:
        found = connection.execute(query).fetchone()
    assert found is not None
    return Seen(found[0], float(found[1] or 0), int(found[2] or 0))


def of_polars(frame: pl.DataFrame) -> Seen:
    """Ask a Polars frame."""
    return Seen(frame.height, float(frame["x"].sum()), int(frame["_offset"].sum()))


def of_pyarrow(table: pa.Table) -> Seen:
    """Ask a pyarrow table."""
    x, offsets = (pc.sum(table.column(name)).as_py() for name in ("x", "_offset"))
    return Seen(table.num_rows, float(x or 0), int(offsets or 0))


READERS: dict[str, Callable[[Path], Seen]] = {
    "duckdb **": of_duckdb,
    "polars **": lambda data: of_polars(pl.read_parquet(f"{data}/**/*.parquet")),
    "polars directory": lambda data: of_polars(pl.read_parquet(data)),
    "polars lazy": lambda data: of_polars(pl.scan_parquet(f"{data}/**/*.parquet").collect()),
    "pyarrow dataset": lambda data: of_pyarrow(
        ds.dataset(data, format="parquet", partitioning="hive").to_table()
    ),
    "pyarrow dataset, no partitioning": lambda data: of_pyarrow(
        ds.dataset(data, format="parquet").to_table()
    ),
    "pyarrow read_table": lambda data: of_pyarrow(pq.read_table(data)),
}
"""Readers with their defaults, as their manuals have them."""


def all_of(data: Path) -> dict[str, Seen]:
    """Ask every reader."""
    return {name: read(data) for name, read in READERS.items()}


def assert_all_say(data: Path, expected: Seen) -> None:
    """See that every reader says the same, and the right thing."""
    assert all_of(data) == dict.fromkeys(READERS, expected)


def expected_of(values: list[float], offsets: int) -> Seen:
    """Return what readers must say of rows with these values of ``x``."""
    return Seen(len(values), float(sum(values)), offsets)


def test_readers_agree_with_dead_letters_and_a_crashed_stage_lying_about(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is staged, carried or dead lies outside of ``data/``, and no reader meets it."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--batch_size=7")
    stream.send(*(sending(at("10:30:00") + n * SECOND / 2, n % 4, x=n) for n in range(40)))
    stream.send(*(Sending(b"bad", at("10:30:05"), n) for n in range(4)))
    collecting.once(at("10:30:12"))
    before = all_of(collecting.path / "data")
    assert len(set(before.values())) == 1

    stream.send(*(sending(at("10:30:15"), n % 4, x=n) for n in range(40, 60)))
    dying = DyingStorage(LocalStorage(str(collecting.path)), k=9)
    monkeypatch.setattr(write_batch_files, "open_storage", lambda _: dying)
    with pytest.raises((Died, RuntimeError)):
        collecting.once(at("10:30:22"))
    monkeypatch.undo()

    assert list((collecting.path / "staging").rglob("*.parquet"))
    assert list((collecting.path / "carry").rglob("*.arrow"))
    assert len(dead_letters_of(collecting.path)) == 4
    assert all_of(collecting.path / "data") == before

    collecting.once(at("10:30:32"))
    written = [m for m in stream.produced if m.value != b"bad"]
    offsets = sum(message.offset for message in written)
    assert_all_say(collecting.path / "data", expected_of([*range(60)], offsets))


def test_a_fraction_after_an_integer_is_a_dead_letter_and_no_reader_rounds(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """First 1, then 0.6 in one field: the files fit together, and nothing is 1 that was 0.6."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(sending(at("10:30:01"), x=1))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:11"), x=0.6), sending(at("10:30:12"), x=3))

    collecting.once(at("10:30:22"))

    assert_all_say(collecting.path / "data", expected_of([1, 3], 0 + 2))
    letter = dead_letters_of(collecting.path)[0, 1]
    assert letter["value"] == b'{"x": 0.6}'
    assert "column x is int64 and can't hold 0.6" in letter["error"]
    assert "--numbers=double" in letter["error"]
    check(collecting.path, stream.produced, dead=[(0, 1)])


def test_numbers_pinned_as_doubles_read_alike(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """With ``--numbers=double`` the 0.6 after the 1 is a row, for every reader."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--numbers=double")
    stream.send(sending(at("10:30:01"), x=1))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:11"), x=0.6))

    collecting.once(at("10:30:22"))

    assert_all_say(collecting.path / "data", expected_of([1, 0.6], 0 + 1))
    check(collecting.path, stream.produced)


def test_a_column_added_later_needs_the_readers_options(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """With them all agree, and the new column is null where files lack it."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*(sending(at("10:30:01"), x=n) for n in range(3)))
    collecting.once(at("10:30:12"))
    stream.send(*(sending(at("10:30:11"), x=n, y=f"y{n}") for n in range(3, 5)))

    collecting.once(at("10:30:22"))

    data, expected = collecting.path / "data", expected_of([*range(5)], 0 + 1 + 2 + 3 + 4)
    files, newest = f"{data}/**/*.parquet", max(data.rglob("*.parquet"))
    frame = pl.scan_parquet(
        files, schema=pl.read_parquet_schema(newest), missing_columns="insert"
    ).collect()
    table = ds.dataset(data, pq.read_schema(newest), format="parquet").to_table()
    assert of_duckdb(data, ", union_by_name = true") == expected
    assert of_polars(frame) == expected
    assert of_pyarrow(table) == expected
    assert frame["y"].to_list() == [None, None, None, "y3", "y4"]
    assert table.column("y").to_pylist() == [None, None, None, "y3", "y4"]
    with duckdb.connect() as connection:
        query = f"SELECT count(y) FROM read_parquet('{files}', union_by_name = true)"
        assert connection.execute(query).fetchone() == (2,)
    check(collecting.path, stream.produced)


@pytest.mark.integration
def test_readers_agree_while_collecting(kafka: KafkaBroker, tmp_path: Path) -> None:
    """They read whole files only, never fewer than before, and in the end all of them."""
    stream, stop = Stream(kafka), threading.Event()

    def produce() -> None:
        number = 0
        while not stop.wait(0.02):
            for _ in range(20):
                stream.post(sending(utc_now(), number % 4, x=number))
                number += 1

    producer = threading.Thread(target=produce, daemon=True)
    producer.start()
    data, rows = tmp_path / stream.name / "data", [0]
    flags = ("--interval=1s", "--grace=0s", "--batch_size=100")
    with CollectorProcess([stream], tmp_path, *flags) as collector:
        for _ in range(6):
            collector.wait_for(" files  ")
            for read in READERS.values():
                seen = read(data)
                assert seen.rows >= rows[-1]
                rows.append(seen.rows)
    stop.set()
    producer.join()
    stream.flush()
    assert rows[-1] > rows[1] > 0

    Collecting.of(stream, tmp_path, *flags).once(utc_now() + SECOND, "--flush")

    check(tmp_path / stream.name, stream.produced)
    offsets = sum(message.offset for message in stream.produced)
    assert_all_say(data, expected_of([*range(len(stream.produced))], offsets))


def test_rows_without_any_column_are_seen_by_every_reader(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Messages ``{}`` without metadata, alone in their file; another file has a column."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--metadata=none")
    data = collecting.path / "data"
    for clock, values, rows in (("10:30:01", [b"{}", b"{}"], 2), ("10:30:11", [b'{"x":1}'], 3)):
        stream.send(*(Sending(value, at(clock)) for value in values))

        collecting.once(at(clock) + 12 * SECOND)

        query = f"SELECT count(*) FROM read_parquet('{data}/**/*.parquet', union_by_name=true)"
        with duckdb.connect() as connection:
            assert connection.execute(query).fetchall() == [(rows,)]
        files = sorted(data.rglob("*.parquet"))
        assert sum(pl.read_parquet(file).height for file in files) == rows
        assert ds.dataset(data, partitioning="hive").count_rows() == rows
        assert batch_collection.open(collecting.path).to_arrow().num_rows == rows
        assert audit(LocalStorage(str(collecting.path))).findings == ()
