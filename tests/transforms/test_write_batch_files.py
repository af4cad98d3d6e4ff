"""Staging: what is in a file, and what the report says of it."""

from __future__ import annotations

import gc
import gzip
import io
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, BinaryIO, ClassVar

import apache_beam as beam
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.errors import StorageError
from batch_collection.formats.known import FORMATS
from batch_collection.formats.parquet import Parquet
from batch_collection.formats.told import Told
from batch_collection.log import verified
from batch_collection.log.entry import CarryFile
from batch_collection.log.file_types import METADATA_TYPES
from batch_collection.paths import entry_path
from batch_collection.schema.arrow import PRIMITIVES, from_arrow, to_arrow
from batch_collection.schema.types import MAX_LEVELS
from batch_collection.storage.checksum import ChecksumFile, crc32c, stream_crc32c
from batch_collection.storage.contract import TOGETHER
from batch_collection.storage.known import DIRECTORY, STORAGES
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.damage import DAMAGES, damage
from tests.pipelines import MAIN, run
from tests.storages import file_crc32c
from tests.tasks import MINUTE, NOON, chunk, end, plan, rows, rows_with_ids, task
from transforms import write_batch_files
from transforms.cut_batches import MEMORY_LIMIT, CutBatches
from transforms.cutting.waiting import Carried
from transforms.decoding.additions import objection
from transforms.elements.chunk import Chunk
from transforms.elements.report import add_up
from transforms.elements.tables import POSITION
from transforms.into_windows import IntoWindows
from transforms.write_batch_files import ENCODERS, MOST_CLOSING, MOST_SMALL, WriteBatchFiles
from transforms.writing import rows as rows_of_batches
from transforms.writing import staging
from transforms.writing.layout import Output, visible_rows
from transforms.writing.rows import BLOCK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from typing_extensions import Buffer

    from batch_collection.storage.contract import Sink
    from transforms.elements.report import Report


PUBLISHED = NOON - timedelta(seconds=30) + timedelta(microseconds=7)
IDENTITY = {"_message_id": "id-1", "_publish_time": PUBLISHED}


class Written(beam.PTransform):
    """Windows, cut and write, as in the graph."""

    def __init__(self, output: Output, memory_limit: int) -> None:
        """Write files that look like ``output``."""
        super().__init__()
        self._output = output
        self._memory_limit = memory_limit

    def expand(self, chunks: Any) -> Any:
        """Wire it."""
        windowed = chunks | IntoWindows(MINUTE, 100)
        batches = (windowed | CutBatches(self._memory_limit)).batches
        return batches | WriteBatchFiles(self._output)


def write(
    elements: list[Chunk],
    output: Output | None = None,
    memory_limit: int = MEMORY_LIMIT,
) -> list[Report]:
    """Write chunks; give the reports."""
    out = run(Written(output or Output(), memory_limit), elements, Chunk)
    return [seen.element for seen in out[MAIN]]


def test_a_batch_is_staged_as_one_file_and_described(tmp_path: Path) -> None:
    """Rows, bytes, checksum, times and offsets are those of the file."""
    of = task(plan(tmp_path))
    table = rows(range(10), NOON - MINUTE, step=timedelta(seconds=2), first_offset=40)
    (report,) = write([chunk(table, of), end(of)])
    (batch,) = report.batches
    file = batch.file
    assert batch.window_start == NOON - MINUTE
    assert (file.rows, file.offsets) == (10, {0: (40, 49, 10)})
    assert (file.min_time, file.max_time) == (NOON - MINUTE, NOON - timedelta(seconds=42))
    assert (file.bytes, file.crc32c) == file_crc32c(open_storage(str(tmp_path)), file.staged)
    read = pq.read_table(tmp_path / file.staged)
    assert read.column_names == ["value", "_partition", "_offset", "_timestamp"]
    assert read["value"].to_pylist() == list(range(10))
    assert not (tmp_path / file.path).exists()


def test_columns_that_came_later_are_null_before(tmp_path: Path) -> None:
    """Chunks of one batch may differ in the columns that were seen so far."""
    of = task(plan(tmp_path))
    later = rows([2], payload={"value": [2], "new": ["x"]})
    (report,) = write([chunk(rows([1]), of), chunk(later, of), end(of)])
    read = pq.read_table(tmp_path / report.batches[0].file.staged)
    assert read.select(["value", "new"]).to_pylist() == [
        {"value": 1, "new": None},
        {"value": 2, "new": "x"},
    ]


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("waits", [False, True])
def test_rows_without_columns_are_rows_of_their_file(
    tmp_path: Path,
    name: str,
    compression: str,
    waits: bool,  # noqa: FBT001
) -> None:
    """Messages ``{}`` without metadata: at once, or after they have waited as carry."""
    output = Output(name, compression, "none")
    boundary = NOON - MINUTE if waits else NOON
    of = task(plan(tmp_path, boundary=boundary, schema={}))
    nothing = pa.array([{}] * 3, pa.struct([]))
    table = rows([0] * 3).set_column(len(POSITION), "payload", nothing)
    (report,) = write([chunk(table, of), chunk(table, of), end(of)], output)
    if waits:
        then = task(plan(tmp_path, cycle=2, schema={}), carry=report.carried)
        (report,) = write([end(then)], output)

    (batch,) = report.batches

    content = (tmp_path / batch.file.staged).read_bytes()
    assert batch.file.rows == 6
    if name == "jsonl":
        assert (gzip.decompress(content) if compression == "gzip" else content) == b"{}\n" * 6
    else:
        assert pq.read_metadata(io.BytesIO(content)).num_rows == 6
        assert pq.read_table(io.BytesIO(content)).to_pylist() == [{"_empty": None}] * 6


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_rows_without_columns_come_before_others(tmp_path: Path, name: str) -> None:
    """In one batch, also behind more row groups than one; a column that comes later is null."""
    of = task(plan(tmp_path, schema={}))
    nothing = pa.array([{}] * 3, pa.struct([]))
    early = rows([0] * 3).set_column(len(POSITION), "payload", nothing)
    for limit in (BLOCK, 2):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(rows_of_batches, "BLOCK", limit)
            (report,) = write(
                [chunk(early, of), chunk(rows([7]), of), end(of)], Output(name, "none", "none")
            )
        file = report.batches[0].file
        with (tmp_path / file.staged).open("rb") as source:
            told = Told(file.rows, lambda: [{"value": pa.int64()}])
            found = FORMATS[name].read(source, file.path, None, told)
        assert (file.rows, found.to_pylist()) == (4, [{"value": None}] * 3 + [{"value": 7}])


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_rows_nested_as_deep_as_may_be_wait_anywhere_and_are_written(
    tmp_path: Path, name: str
) -> None:
    """On disk in the cycle, as carry after it, and in the end in their file."""
    value: Any = 1
    for level in range(MAX_LEVELS - 1):
        value = {"a": value} if level % 3 else [value]
    waiting = task(plan(tmp_path, boundary=NOON - MINUTE, schema={}))
    deep = rows([0, 0], payload={"deep": [value, value]})
    assert objection({}, from_arrow(deep.schema.field("payload").type), "ascii") is None
    (report,) = write([chunk(deep, waiting)] * 2 + [end(waiting)], memory_limit=1)
    due = task(plan(tmp_path, cycle=2, schema={}), carry=report.carried)

    (report,) = write([chunk(deep, due), end(due)], Output(name, "none"), memory_limit=1)

    content = (tmp_path / report.batches[0].file.staged).read_bytes()
    if name == "jsonl":
        found = [json.loads(line) for line in content.splitlines()]
    else:
        found = pq.read_table(io.BytesIO(content)).to_pylist()
    assert [row["deep"] for row in found] == [value] * 6


@pytest.mark.parametrize("name", ["parquet", "jsonl"])
def test_a_file_that_lacks_rows_fails_its_task(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the finished file holds is compared with what the log would say."""
    of = task(plan(tmp_path))
    whole = visible_rows
    monkeypatch.setattr(
        rows_of_batches,
        "visible_rows",
        lambda table, *_, **__: whole(table[1:], "none", indexed=False),
    )

    (report,) = write([chunk(rows([1, 2, 3]), of), end(of)], Output(name, "none"))

    assert (report.batches, report.failure is not None) == ((), True)
    assert report.failure is not None
    assert "was written with rows=2 of 3, so nothing is committed" in report.failure.text


def test_carry_is_written_and_taken_up_again(tmp_path: Path) -> None:
    """Rows that wait come back in a later cycle, before the new ones."""
    first = task(plan(tmp_path, boundary=NOON - MINUTE))
    (report,) = write([chunk(rows([1, 2]), first), end(first)])
    (carry,) = report.carried
    assert (carry.rows, carry.window_start, carry.shard) == (2, NOON - MINUTE, 0)
    second = task(plan(tmp_path, cycle=2), carry=[carry])
    (report,) = write([chunk(rows([3]), second), end(second)])
    read = pq.read_table(tmp_path / report.batches[0].file.staged)
    assert read["value"].to_pylist() == [1, 2, 3]


@pytest.mark.parametrize("is_due", [True, False])
def test_carry_with_numbers_that_are_none_is_taken_up(tmp_path: Path, is_due: bool) -> None:  # noqa: FBT001
    """When a column was added, too; into one file with the others."""
    waits = {"boundary": NOON - MINUTE}
    first = task(plan(tmp_path, **waits, schema={"value": "double"}))
    table = rows([0, 0], payload={"value": [float("nan"), 0.5]})
    (report,) = write([chunk(table, first), end(first)])
    schema = {"value": "double", "new": "int64"}
    second = task(
        plan(tmp_path, cycle=2, schema=schema, **({} if is_due else waits)), carry=report.carried
    )
    fresh = rows([0], payload={"value": [1.5], "new": [1]})

    (report,) = write([chunk(fresh, second), end(second)])

    found = (
        pq.read_table(tmp_path / report.batches[0].file.staged)
        if is_due
        else payload_of(tmp_path / report.carried[0].path)
    )
    assert str(found["value"].to_pylist()) == "[nan, 0.5, 1.5]"
    assert found["new"].to_pylist() == [None, None, 1]


def test_waiting_rows_that_cannot_be_written_fail_their_task(tmp_path: Path) -> None:
    """Arrow's streams hold no more than 64 levels; the report names the column, nothing is left."""
    deep: Any = "int64"
    for _ in range(70):
        deep = {"a": deep}
    asked = plan(tmp_path, boundary=NOON - MINUTE, schema={"value": "int64", "deep": deep})
    of = task(asked)
    (report,) = write([chunk(rows([1, 2]), of), end(of)])
    assert report.failure is not None
    assert report.failure.kind == "WriteError"
    assert report.failure.text.startswith(
        f"cannot write column deep in waiting rows of window 2026-11-22T11:59:00Z of {tmp_path}, "
        "cycle=1: "
    )
    assert "\n" not in report.failure.text
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


@pytest.mark.parametrize("error", [RuntimeError("broken"), pa.ArrowInvalid("broken"), ValueError()])
def test_whatever_goes_wrong_while_rows_are_encoded_fails_their_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    """In the thread that writes the last rows, of dead letters too; others are written."""

    class Breaking(Parquet):
        def writer(self, sink: Any, schema: pa.Schema, compression: str) -> Any:
            writer = super().writer(sink, schema, compression)
            if "bad" in schema.names:
                monkeypatch.setattr(writer, "write", _raising(error), raising=False)
            return writer

    monkeypatch.setitem(FORMATS, "parquet", Breaking())
    bad, good = (task(plan(tmp_path / name, id=name)) for name in ("bad", "good"))
    table = rows([0], payload={"bad": [1]})
    reports = write([chunk(table, bad), end(bad), chunk(rows([1]), good), end(good)])
    found = {report.plan.id: report for report in reports}
    assert found["bad"].failure is not None
    assert found["bad"].failure.kind == "WriteError"
    assert found["bad"].failure.text == (
        f"cannot write a parquet file of window 2026-11-22T11:59:00Z of {tmp_path}/bad, cycle=1: "
        f"{str(error) or 'ValueError'}"
    )
    assert len(found["good"].batches) == 1


def _raising(error: Exception) -> Any:
    def write(_: Any) -> None:
        raise error

    return write


@pytest.mark.parametrize(
    ("kind", "waiting", "pinned", "files"),
    [
        ("int64", [1, 2], "double", [("double", [1.0, 2.0, 0.5])]),
        ("int64", [2**53 + 1], "double", [("double", [0.5]), ("int64", [2**53 + 1])]),
        ("double", [2.0], "int64", [("int64", [2, 3])]),
        ("double", [0.5], "int64", [("int64", [3]), ("double", [0.5])]),
        ("double", [0.1], "float", [("float", [0.5]), ("double", [0.1])]),
        ("int64", [1], "string", [("string", ["a"]), ("int64", [1])]),
    ],
)
@pytest.mark.parametrize("is_due", [True, False])
def test_carry_whose_type_was_changed_keeps_its_values(
    tmp_path: Path,
    kind: str,
    waiting: list[object],
    pinned: str,
    files: list[tuple[str, list[object]]],
    is_due: bool,  # noqa: FBT001
) -> None:
    """It is cast where that is exact; else it leaves, or goes on waiting, as a file of its own."""
    new = {"double": 0.5, "int64": 3, "float": 0.5, "string": "a"}[pinned]
    waits = {"boundary": NOON - MINUTE}
    first = task(plan(tmp_path, **waits, schema={"value": kind}))
    table = rows([0] * len(waiting), payload={"value": waiting})
    (report,) = write([chunk(table, first), end(first)])
    changes = {} if is_due else waits
    second = task(
        plan(tmp_path, cycle=2, schema={"value": pinned}, **changes), carry=report.carried
    )
    typed = pa.array([new], to_arrow({"value": pinned}).field("value").type)
    fresh = rows([0], payload={"value": typed})

    reports = write([chunk(fresh, second), end(second)])

    if is_due:
        found = [pq.read_table(tmp_path / b.file.staged) for r in reports for b in r.batches]
        counts = [batch.file.rows for r in reports for batch in r.batches]
    else:
        found = [payload_of(tmp_path / file.path) for r in reports for file in r.carried]
        counts = [file.rows for r in reports for file in r.carried]
    types = [PRIMITIVES[name] for name, _ in files]
    assert [each["value"].type for each in found] == types
    assert [each["value"].to_pylist() for each in found] == [values for _, values in files]
    assert counts == [len(values) for _, values in files]
    staged = {path for path in tmp_path.rglob("*") if path.is_file()}
    assert len(staged) == len(files) + 1  # what was given up is gone


def payload_of(path: Path) -> pa.Table:
    """Return the payload of a carry file."""
    with pa.OSFile(str(path)) as source, pa.ipc.open_stream(source) as stream:
        return pa.Table.from_struct_array(stream.read_all()["payload"])


@pytest.mark.parametrize("kind", DAMAGES)
@pytest.mark.parametrize("is_due", [True, False])
def test_damaged_carry_is_a_failure_of_its_task_alone(
    new_uri: Callable[[], str],
    kind: str,
    is_due: bool,  # noqa: FBT001
) -> None:
    """Due or merged: one line that names the file, and nothing is staged of it."""
    uri, other = new_uri(), new_uri()
    storage, waits = open_storage(uri), {"boundary": NOON - MINUTE}
    first = task(plan(uri, **waits))
    (report,) = write([chunk(rows([1, 2]), first), end(first)])
    (file,) = report.carried
    damage(storage, file.path, kind)
    before = set(storage.list(""))
    second = task(plan(uri, cycle=2, id="bad", **({} if is_due else waits)), carry=[file])
    whole = task(plan(other))

    elements = [chunk(rows([3]), second), end(second), chunk(rows([4]), whole), end(whole)]
    reports = {report.plan.id: report for report in add_up(write(elements))}
    gc.collect()

    failure = reports["bad"].failure
    assert failure is not None
    assert failure.kind == ("FileGoneError" if kind == "missing" else "DamagedFileError")
    assert failure.text.startswith(f"{uri}/{file.path} ")
    assert "\n" not in failure.text
    assert set(storage.list("")) == before
    assert [batch.file.rows for batch in reports["plan"].batches] == [1]


def test_carry_that_another_collector_has_taken_up_is_no_damage(tmp_path: Path) -> None:
    """Its entry is there: what the drive does then is no matter of the file."""
    gone = CarryFile("carry/0000000000/gone.arrow", NOON - MINUTE, 2, 0, 1, "0")
    of = task(plan(tmp_path), carry=[gone])
    for cycle in (0, 1):
        open_storage(str(tmp_path)).create(entry_path(cycle), b"{}")
    (report,) = write([end(of)])
    assert report.failure is not None
    assert report.failure.kind == "FileNotFoundError"
    assert "gone.arrow" in report.failure.text


def test_carry_that_goes_while_it_is_read_is_a_failure_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is left of the file, and no destructor complains that it is gone."""
    first = task(plan(tmp_path, boundary=NOON - MINUTE))
    (report,) = write([chunk(rows([0, 0]), first), end(first)])
    (carry,) = report.carried
    second = task(plan(tmp_path, cycle=2), carry=[carry])
    before = set(tmp_path.rglob("*"))

    def gone(carried: Carried, *_: int) -> Iterator[pa.Table]:
        raise FileNotFoundError(carried.file.path)

    monkeypatch.setattr(Carried, "pieces", gone)
    (failed,) = write([end(second)])
    gc.collect()

    assert failed.failure is not None
    assert carry.path in failed.failure.text
    assert not [path for path in set(tmp_path.rglob("*")) - before if path.is_file()]


@pytest.mark.parametrize(
    "output", [Output("parquet", "zstd"), Output("jsonl", "gzip"), Output("jsonl", "none")]
)
@pytest.mark.parametrize("works", range(4))
def test_a_write_that_fails_is_one_failure_whichever_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, output: Output, works: int
) -> None:
    """Its report is all that is told, and a file that could be written is whole."""
    left, write_content = [None] * works, ChecksumFile.write

    def limited(file: ChecksumFile, content: Buffer) -> int:
        if not left:
            message = "cannot write: the disk is full"
            raise StorageError(message)
        left.pop()
        return write_content(file, content)

    monkeypatch.setattr(ChecksumFile, "write", limited)
    of = task(plan(tmp_path))
    (report,) = write([chunk(rows([1, 2]), of), end(of)], output)
    gc.collect()

    staged = [path for path in tmp_path.rglob("*") if path.is_file()]
    if report.failure is None:
        assert [tmp_path / batch.file.staged for batch in report.batches] == staged
    else:
        assert report.failure.text == "cannot write: the disk is full"
        assert staged == []


@pytest.mark.parametrize(
    ("metadata", "columns"),
    [
        ("none", ["value"]),
        ("position", ["value", "_partition", "_offset", "_timestamp"]),
        ("full", ["value", "_partition", "_offset", "_timestamp", "_key", "_headers"]),
    ],
)
def test_metadata_columns_are_those_asked_for(
    tmp_path: Path, metadata: str, columns: list[str]
) -> None:
    """The payload's columns come first."""
    of = task(plan(tmp_path))
    (report,) = write([chunk(rows([1]), of), end(of)], Output(metadata=metadata))
    assert pq.read_table(tmp_path / report.batches[0].file.staged).column_names == columns


@pytest.mark.parametrize(
    ("metadata", "columns"),
    [
        ("none", {}),
        ("position", IDENTITY),
        (
            "full",
            IDENTITY | {"_ordering_key": "key", "_attributes": [{"key": "n", "value": "1"}]},
        ),
    ],
)
@pytest.mark.parametrize("output", ["parquet", "jsonl"])
def test_rows_with_ids_show_these_and_no_addresses(
    tmp_path: Path, output: str, metadata: str, columns: dict[str, Any]
) -> None:
    """Ids and attributes are text; both formats give them back under types that the log tells."""
    of = task(plan(tmp_path))
    file_format = FORMATS[output]
    compression = next(iter(file_format.endings))

    (report,) = write(
        [chunk(rows_with_ids([1]), of), end(of)], Output(output, compression, metadata)
    )

    file = report.batches[0].file
    types = {**METADATA_TYPES, "value": pa.int64()}
    with (tmp_path / file.staged).open("rb") as source:
        table = file_format.read(source, file.path, None, Told(1, lambda: [types]))
    assert table.to_pylist() == [{"value": 1} | columns]
    assert all(each.type == types[each.name] for each in table.schema)
    assert file.offsets == {0: (0, 0, 1)}


@pytest.mark.parametrize("memory_limit", [0, MEMORY_LIMIT])
def test_ids_go_with_their_rows_wherever_these_wait(tmp_path: Path, memory_limit: int) -> None:
    """In carry that is written anew, on the disk beside memory; an array's rows share theirs."""
    first = task(plan(tmp_path, boundary=NOON - MINUTE, schema={}))
    indexed = rows_with_ids([2, 3]).set_column(4, "index", pa.array([0, 1], pa.int32()))
    (report,) = write([chunk(rows_with_ids([1]), first), chunk(indexed, first), end(first)])
    second = task(plan(tmp_path, cycle=2, boundary=NOON - MINUTE), carry=report.carried)
    more = rows_with_ids([4, 5, 6, 7])
    (report,) = write([chunk(more, second), end(second)], memory_limit=memory_limit)
    (carry,) = report.carried
    third = task(plan(tmp_path, cycle=3), carry=[carry])
    last = [chunk(rows_with_ids([each]), third) for each in (8, 9)]
    (report,) = write([*last, end(third)], memory_limit=memory_limit)

    read = pq.read_table(tmp_path / report.batches[0].file.staged)

    assert carry.rows == 7
    assert read.column_names == ["value", "_message_id", "_publish_time", "_index"]
    assert read["value"].to_pylist() == [*range(1, 10)]
    assert read["_message_id"].to_pylist() == [f"id-{each}" for each in range(1, 10)]
    assert read["_publish_time"].unique().to_pylist() == [PUBLISHED]
    assert read["_index"].to_pylist() == [None, 0, 1, *[None] * 6]


def test_json_lines_hold_the_same_rows(tmp_path: Path) -> None:
    """The other format, compressed."""
    of = task(plan(tmp_path))
    (report,) = write([chunk(rows([1, 2]), of), end(of)], Output("jsonl", "gzip", "none"))
    file = report.batches[0].file
    assert file.path.endswith(".jsonl.gz")
    content = gzip.decompress((tmp_path / file.staged).read_bytes())
    assert content == b'{"value":1}\n{"value":2}\n'


def test_files_that_wait_at_once_never_have_one_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many windows are open, and whatever tokens are drawn."""
    monkeypatch.setattr(staging, "new_token", lambda: "0badcafe")
    of = task(plan(tmp_path, boundary=NOON - 10 * MINUTE))
    table = rows(range(5), NOON - 5 * MINUTE, step=MINUTE)

    reports = write([chunk(table, of), end(of)])

    carried = [file for report in reports for file in report.carried]
    assert len({file.path for file in carried}) == len(carried) == 5
    assert [report.failure for report in reports] == [None]


def test_carry_of_several_record_batches_is_cut_in_the_middle(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Long carry is read piece by piece; a batch may end within it, and arrays keep their index.

    Its checksum is compared once.
    """
    summed: list[BinaryIO] = []

    def noted(source: BinaryIO) -> tuple[int, str]:
        summed.append(source)
        return stream_crc32c(source)

    monkeypatch.setattr(verified, "stream_crc32c", noted)
    first = task(plan(tmp_path, boundary=NOON - MINUTE, batch_size=10**6))
    table = rows(range(300_000))
    table = table.set_column(4, "index", pa.array([7] * 300_000, pa.int32()))
    (report,) = write([chunk(table, first), end(first)])
    second = task(plan(tmp_path, cycle=2, batch_size=140_000), carry=report.carried)
    reports = write([end(second)])
    found = [pq.read_table(tmp_path / batch.file.staged) for r in reports for batch in r.batches]
    assert [each.num_rows for each in found] == [140_000, 140_000, 20_000]
    assert pa.concat_tables(found)["value"].to_pylist() == list(range(300_000))
    assert found[2]["_index"].unique().to_pylist() == [7]
    assert len(summed) == 1


def test_row_groups_of_large_rows_are_bounded_by_bytes(tmp_path: Path) -> None:
    """A row of megabytes does not make a row group of terabytes."""
    of = task(plan(tmp_path, schema={"value": "string"}))
    large = [rows([0], payload={"value": ["x" * (5 << 20)]}) for _ in range(8)]
    (report,) = write([*(chunk(table, of) for table in large), end(of)])
    file = pq.ParquetFile(tmp_path / report.batches[0].file.staged)
    assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [4, 4]


def test_a_small_file_of_large_rows_does_not_wait_in_memory(tmp_path: Path) -> None:
    """Few rows may have many bytes; the file, and its checksum, are as of any other."""
    of = task(plan(tmp_path, schema={"value": "binary"}))
    random = [rows([0], payload={"value": [os.urandom(3 << 19)]}) for _ in range(3)]
    (report,) = write([*(chunk(table, of) for table in random), end(of)])
    (file,) = [batch.file for batch in report.batches]
    content = (tmp_path / file.staged).read_bytes()
    assert (file.bytes, file.crc32c) == (len(content), crc32c(content))
    assert pq.read_table(io.BytesIO(content)).num_rows == 3


def test_row_groups_bound_what_is_in_memory(tmp_path: Path) -> None:
    """A large batch has several row groups."""
    of = task(plan(tmp_path, batch_size=10**6))
    chunks = [chunk(rows(range(20_000), first_offset=20_000 * n), of) for n in range(15)]
    (report,) = write([*chunks, end(of)])
    file = pq.ParquetFile(tmp_path / report.batches[0].file.staged)
    groups = [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)]
    assert sum(groups) == 300_000
    assert max(groups) <= 140_000


class SlowStorage(LocalStorage):
    """A storage that takes bytes once ``ready`` is set, and is durable once ``go`` is."""

    ready: ClassVar[threading.Event]
    go: ClassVar[threading.Event]
    opened: ClassVar[list[str]]
    written: ClassVar[list[str]]
    begun: ClassVar[list[str]]

    def write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
        """Wait once for all."""
        paths = [path for path, _ in files]
        self.opened.extend(paths)
        self.begun.extend(paths)
        if not self.go.wait(30):
            gone = f"cannot write {paths[0]}: gone"
            raise StorageError(gone)
        super().write_all(files)

    def write(self, path: str) -> Sink:
        """Open a file whose ``write`` and ``close`` wait."""
        sink = super().write(path)
        self.opened.append(path)
        write, close, gone = sink.write, sink.close, f"cannot write {path}: gone"

        def write_slowly(content: Buffer) -> int:
            self.written.append(path)
            self.ready.wait(30)
            return write(content)

        def slowly() -> None:
            if not sink.closed:
                self.begun.append(path)
                if not self.go.wait(30):
                    sink.abandon()
                    raise StorageError(gone)
            close()

        sink.write = write_slowly  # type: ignore[method-assign]
        sink.close = slowly  # type: ignore[method-assign]
        return sink


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> type[SlowStorage]:
    """Let batches be written to a storage that waits."""
    SlowStorage.go, SlowStorage.ready = threading.Event(), threading.Event()
    SlowStorage.ready.set()
    SlowStorage.opened, SlowStorage.written, SlowStorage.begun = [], [], []
    monkeypatch.setitem(STORAGES, DIRECTORY, SlowStorage)
    return SlowStorage


def wait_for(paths: list[str], count: int) -> int:
    """Wait until so many files have come so far; return how many have."""
    deadline = time.monotonic() + 20
    while len(paths) < count and time.monotonic() < deadline:
        time.sleep(0.01)
    return len(paths)


def entered(monkeypatch: pytest.MonkeyPatch, owner: object, name: str) -> threading.Event:
    """Return an event that is set when a function is called: when the only writer waits in it."""
    event, whole = threading.Event(), getattr(owner, name)

    def noted(*arguments: Any, **named: Any) -> Any:
        event.set()
        return whole(*arguments, **named)

    monkeypatch.setattr(owner, name, noted)
    return event


def test_reports_wait_for_durable_files_while_others_are_written(
    tmp_path: Path, slow: type[SlowStorage]
) -> None:
    """All files are begun before the first is durable; the reports come when it is."""
    of, count = task(plan(tmp_path, batch_size=1)), 5
    chunks = [chunk(rows([n]), of) for n in range(count)]
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, [*chunks, end(of)])
        begun = wait_for(slow.begun, count)
        is_done = written.done()
        slow.go.set()
        reports = written.result()

    assert (begun, is_done) == (count, False)
    files = [batch.file for report in reports for batch in report.batches]
    assert sorted(file.staged for file in files) == sorted(slow.begun)
    assert all(pq.read_table(tmp_path / file.staged).num_rows == 1 for file in files)


@pytest.mark.parametrize(("few", "ahead"), [(0, 1), (1000, 0)])
def test_no_more_files_than_agreed_become_durable_at_once(
    tmp_path: Path,
    slow: type[SlowStorage],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    ahead: int,
) -> None:
    """What they hold in memory is bounded; the next one is begun, unless it is small."""
    monkeypatch.setattr(staging, "_FEW_ROWS", few)
    monkeypatch.setattr(write_batch_files, "TOGETHER", 1)
    waits = entered(monkeypatch, write_batch_files._Closing, "given")  # noqa: SLF001
    of = task(plan(tmp_path, batch_size=1))
    chunks = [chunk(rows([n]), of) for n in range(3 * MOST_CLOSING)]
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, [*chunks, end(of)])
        has_waited = waits.wait(20)
        opened, begun = len(slow.opened), wait_for(slow.begun, MOST_CLOSING)
        slow.go.set()
        reports = written.result()

    assert (has_waited, opened, begun) == (True, MOST_CLOSING + ahead, MOST_CLOSING)
    assert sum(len(report.batches) for report in reports) == 3 * MOST_CLOSING
    assert not any(report.failure for report in reports)


def test_of_small_files_that_are_far_away_more_become_durable_at_once(
    tmp_path: Path, slow: type[SlowStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each takes little memory, and most of its time is waiting."""
    monkeypatch.setattr(slow, "is_far", True)
    monkeypatch.setattr(write_batch_files, "BundlingStorage", type(None))
    of = task(plan(tmp_path, batch_size=1))
    chunks = [chunk(rows([n]), of) for n in range(2 * MOST_SMALL)]
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, [*chunks, end(of)])
        begun = wait_for(slow.begun, MOST_SMALL)
        slow.go.set()
        reports = written.result()

    assert begun == MOST_SMALL
    assert sum(len(report.batches) for report in reports) == 2 * MOST_SMALL
    assert not any(report.failure for report in reports)


def test_no_more_files_than_agreed_are_encoded_at_once(
    tmp_path: Path, slow: type[SlowStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their last row groups are in memory, and that of one more file, which waits for its turn."""
    waits = entered(monkeypatch, write_batch_files, "wait")
    monkeypatch.setattr(staging, "_FEW_ROWS", 0)
    of = task(plan(tmp_path, batch_size=1))
    chunks = [chunk(rows([n]), of) for n in range(3 * ENCODERS)]
    slow.go.set()
    slow.ready.clear()
    with ThreadPoolExecutor(1) as pool:
        written = pool.submit(write, [*chunks, end(of)], Output("jsonl", "none"))
        has_waited = waits.wait(20)
        opened, encoded = len(slow.opened), wait_for(slow.written, ENCODERS)
        slow.ready.set()
        reports = written.result()

    assert (has_waited, opened, encoded) == (True, ENCODERS + 1, ENCODERS)
    assert sum(len(report.batches) for report in reports) == 3 * ENCODERS


def test_a_file_that_does_not_become_durable_is_a_failure(
    tmp_path: Path, slow: type[SlowStorage], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report says why; the other files' reports are whole."""
    of = task(plan(tmp_path, batch_size=1))
    monkeypatch.setattr(write_batch_files, "TOGETHER", 1)
    monkeypatch.setattr(slow.go, "wait", lambda _: len(slow.begun) != 1)
    reports = write([chunk(rows([1]), of), chunk(rows([2]), of), end(of)])

    (failure,) = [report.failure for report in reports if report.failure]
    assert failure.kind == "StorageError"
    assert failure.text == f"cannot write {slow.begun[0]}: gone"
    assert sum(len(report.batches) for report in reports) == 1


@pytest.mark.parametrize("most", [1 << 20, 1])
def test_small_files_become_durable_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """Some at once, whether they wait in memory or have grown too large for it; all are whole."""
    groups: list[int] = []

    class Counting(LocalStorage):
        def write_all(self, files: Sequence[tuple[str, bytes]]) -> None:
            groups.append(len(files))
            super().write_all(files)

    monkeypatch.setitem(STORAGES, DIRECTORY, Counting)
    monkeypatch.setattr(staging, "_SMALL", most)
    of, count = task(plan(tmp_path, batch_size=1)), 2 * TOGETHER + 1
    (report,) = write([*(chunk(rows([n]), of) for n in range(count)), end(of)])

    assert sorted(groups) == ([1, TOGETHER, TOGETHER] if most > 1 else [0, 0, 0])
    assert report.failure is None
    files = [batch.file for batch in report.batches]
    assert [pq.read_table(tmp_path / file.staged)["value"].to_pylist() for file in files] == [
        [n] for n in range(count)
    ]
    storage = LocalStorage(str(tmp_path))
    sums = [file_crc32c(storage, file.staged) for file in files]
    assert sums == [(file.bytes, file.crc32c) for file in files]


def test_batches_end_by_bytes_whether_rows_come_or_have_waited(tmp_path: Path) -> None:
    """In memory, spilled or carried; the log tells the bytes of what waits, uncompressed."""
    schema = {"value": "string"}
    texts = {"value": [f"{number:010}" for number in range(11)]}
    for limit, folder in ((MEMORY_LIMIT, "memory"), (1, "spilled")):
        asked = plan(tmp_path / folder, schema=schema, boundary=None, target_bytes=45)
        of = task(asked)
        parts = [rows([0] * 11, payload=texts).slice(first, 3) for first in range(0, 11, 3)]
        (report,) = write([*(chunk(part, of) for part in parts), end(of)], memory_limit=limit)
        assert [batch.file.rows for batch in report.batches] == [4, 4]
        assert [(file.rows, file.size) for file in report.carried] == [(3, 30)]
        later = task(replace(asked, cycle=2, flush=True), carry=report.carried)
        (report,) = write(
            [chunk(rows([0] * 2, payload={"value": ["x" * 10] * 2}), later), end(later)]
        )
        assert [batch.file.rows for batch in report.batches] == [4, 1]
