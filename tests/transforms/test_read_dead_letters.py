"""Dead letters as messages again: whole, unchanged, one row group at a time."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from batch_collection.errors import DamagedFileError
from batch_collection.log.entry import FORMAT, FORMS, DeadLetterFile, PartitionRead
from batch_collection.storage.known import DIRECTORY, STORAGES
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests import decoding
from tests.damage import DAMAGES, damage, flipped
from tests.decoding import with_ids
from tests.pipelines import MAIN, run
from tests.storages import file_crc32c
from tests.tasks import MINUTE, NOON, chunk, end, task
from transforms.decoding.contract import Columns
from transforms.decoding.decode import DEAD_LETTERS, decode
from transforms.decoding.rules import RowRules
from transforms.elements.chunk import REPORTS
from transforms.elements.plan import RedrivePlan, Task
from transforms.read_dead_letters import ReadDeadLetters
from transforms.sources.contract import MESSAGES
from transforms.write_dead_letters import WriteDeadLetters
from transforms.writing.dead_letters import read_letters

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from batch_collection.storage.contract import Storage
    from transforms.elements.report import Report

LETTERS: list[dict[str, Any]] = [
    {
        "partition": 1,
        "offset": 2**40,
        "timestamp": 1_700_000_000_123,
        "value": b"\xff\x00",
        "key": None,
        "headers": [{"key": "a", "value": b"\xff"}, {"key": "a", "value": None}],
    },
    {
        "partition": 0,
        "offset": 7,
        "timestamp": None,
        "value": b"{",
        "key": b"k",
        "headers": None,
    },
]


def redrive_plan(
    collection: Path | str, *letters: DeadLetterFile, format_: int = FORMAT
) -> RedrivePlan:
    """Build the plan of a redrive."""
    return RedrivePlan(
        collection=str(collection),
        cycle=1001,
        run="run",
        id="plan",
        cause="redrive",
        planned_at=NOON,
        interval=MINUTE,
        batch_size=100,
        boundary=NOON,
        previous_boundary=NOON,
        ahead_limit=NOON,
        schema={},
        tasks=1,
        flush=True,
        letters=letters,
        format=format_,
        form=FORMS[format_],
    )


def written(collection: Path | str, *chunks: pa.Table, format_: int = FORMAT) -> DeadLetterFile:
    """Write a file as the collector does: a chunk a row group."""
    of = task(redrive_plan(collection, format_=format_))
    out = run(WriteDeadLetters(), [*(chunk(table, of) for table in chunks), end(of)])
    (report,) = (seen.element for seen in out[MAIN])
    return report.dead_letters[0]


def dead(letters: list[dict[str, Any]]) -> pa.Table:
    """Build dead letters."""
    reasons = [{"stage": "decode", "error": "bad"} | letter for letter in letters]
    return pa.Table.from_pylist(reasons, schema=DEAD_LETTERS)


def read(task: Task) -> tuple[list[pa.Table], list[bool], Report]:
    """Read a task: its chunks' tables, whether each is the last, and the report."""
    out = run(ReadDeadLetters(), [task], Task)
    chunks = [seen.element for seen in out.get(MAIN, [])]
    (report,) = (seen.element for seen in out[REPORTS])
    return [each.table for each in chunks], [each.last for each in chunks], report


@pytest.mark.parametrize("format_", FORMS)
def test_messages_come_back_as_they_were_a_chunk_a_row_group(tmp_path: Path, format_: int) -> None:
    """All columns, nulls and header keys that stand twice; the report counts by partition."""
    one, other = dead(LETTERS), dead([LETTERS[1] | {"offset": 9}])
    files = [
        written(tmp_path, one, other, format_=format_),
        written(tmp_path, other, format_=format_),
    ]

    tables, last, report = read(Task(redrive_plan(tmp_path, *files), 0, (), ()))

    assert last == [False, False, False, True]
    assert all(table.schema.equals(MESSAGES) for table in tables)
    assert tables[0].to_pylist() == LETTERS
    assert [table.num_rows for table in tables] == [2, 1, 1, 0]
    assert report.read
    assert report.reads == (
        PartitionRead(0, 7, 10, messages=3),
        PartitionRead(1, 2**40, 2**40 + 1, messages=1),
    )


def test_ids_come_back_with_their_messages(tmp_path: Path) -> None:
    """Of a leased source: as they were pulled; a redrive makes their rows of them."""
    messages = with_ids(decoding.chunk(b"{", b'{"a":1}', b"[{},7]"))
    columns, rules = Columns({}, {}), RowRules(kind="pubsub", metadata="full")
    done = decode(messages, columns, rules, NOON, MINUTE)

    file = written(tmp_path, done.dead_letters)
    tables, _, report = read(Task(redrive_plan(tmp_path, file), 0, (), ()))

    assert tables[0] == messages.take([0, 2])
    assert report.reads == (PartitionRead(3, 1000, 1003, messages=2),)
    again = decode(tables[0], columns, replace(rules, input_format="bytes"), NOON, MINUTE)
    assert again.rows.column("id").to_pylist() == ["id-1000", "id-1002"]
    assert again.rows.column("published") == tables[0].column("published")
    assert again.rows.column("headers") == tables[0].column("headers")


@pytest.mark.parametrize("format_", [1, 2])
def test_stamps_that_no_date_holds_come_back_as_they_were(tmp_path: Path, format_: int) -> None:
    """Of a producer that stamps in microseconds, say; the file has dates, and can be read."""
    last = 253_402_300_799_999
    stamps = [None, 0, last, last + 1, 1_700_000_000_000_000, -(2**63), 2**63 - 1, -62135596800001]
    letters = [LETTERS[1] | {"offset": n, "timestamp": stamp} for n, stamp in enumerate(stamps)]

    file = written(tmp_path, dead(letters[:3]), dead(letters[3:]), format_=format_)

    storage = LocalStorage(str(tmp_path))
    assert [row for table in read_letters(storage, file) for row in table.to_pylist()] == letters
    table = pq.ParquetFile(tmp_path / file.staged).read()
    dates = [None if at is None else at.isoformat() for at in table["timestamp"].to_pylist()]
    assert dates == [
        None,
        "1970-01-01T00:00:00+00:00",
        "9999-12-31T23:59:59.999000+00:00",
        *[None] * 5,
    ]
    assert ("timestamp_ms" in table.column_names) == (format_ == 2)
    told = [reason.removeprefix("bad") for reason in table["error"].to_pylist()]
    beyond = [f"; record timestamp {stamp} ms" for stamp in stamps[3:]]
    assert told == [""] * 3 + (beyond if format_ == 1 else [""] * 5)


def test_files_of_before_are_read(tmp_path: Path) -> None:
    """Format 1 once wrote such stamps as dates, which other readers refuse."""
    stamps = [1_700_000_000_000_000, None, 0]
    table = dead([LETTERS[1] | {"timestamp": stamp} for stamp in stamps])
    place = table.schema.get_field_index("timestamp")
    dates = table["timestamp"].cast(pa.timestamp("ms", "UTC"))
    pq.write_table(table.set_column(place, "timestamp", dates), tmp_path / "old.parquet")
    storage = LocalStorage(str(tmp_path))
    size, checksum = file_crc32c(storage, "old.parquet")
    file = DeadLetterFile("old.parquet", "staging/old.parquet", 3, size, checksum)

    (read_again,) = read_letters(storage, file)

    assert read_again["timestamp"].to_pylist() == stamps


def test_a_file_that_is_gone_is_a_failure_and_not_a_crash(tmp_path: Path) -> None:
    """Another redrive may have had it."""
    gone = DeadLetterFile("dead_letters/gone.parquet", "staging/gone.parquet", 1, 1, "")

    tables, _, report = read(Task(redrive_plan(tmp_path, gone), 0, (), ()))

    assert tables == []
    assert report.failure is not None
    assert report.failure.kind == "FileGoneError"
    assert f"{tmp_path}/dead_letters/gone.parquet is missing; " in report.failure.text


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_file_is_a_failure_that_names_it(new_uri: Callable[[], str], kind: str) -> None:
    """No message of it comes out."""
    uri = new_uri()
    storage, file = open_storage(uri), written(uri, dead(LETTERS), dead(LETTERS))
    damage(storage, file.staged, kind)

    tables, _, report = read(Task(redrive_plan(uri, file), 0, (), ()))

    assert tables == []
    assert report.failure is not None
    assert report.failure.kind == ("FileGoneError" if kind == "missing" else "DamagedFileError")
    assert report.failure.text.startswith(f"{uri}/{file.path} ")
    assert "\n" not in report.failure.text


def test_messages_of_a_file_of_which_any_one_bit_is_another_are_not_read(storage: Storage) -> None:
    """Nor any of its row groups that are whole."""
    file = written(storage.uri, dead(LETTERS[:1]))
    for _ in flipped(storage, file.staged, every=7):
        with pytest.raises(DamagedFileError, match=file.path):
            next(read_letters(storage, file))
    assert len(list(read_letters(storage, file))) == 1


def test_what_the_log_says_and_is_no_parquet_is_one_clear_error(storage: Storage) -> None:
    """Whoever wrote it."""
    storage.replace("dead_letters/a.parquet", b"PAR1" * 20)
    size, checksum = file_crc32c(storage, "dead_letters/a.parquet")
    file = DeadLetterFile("dead_letters/a.parquet", "staging/a.parquet", 1, size, checksum)
    with pytest.raises(DamagedFileError, match=r"dead_letters/a.parquet cannot be decoded: .*"):
        list(read_letters(storage, file))


def test_a_folder_that_is_cleared_meanwhile_is_a_failure_of_the_task(tmp_path: Path) -> None:
    """Whoever has won the cycle may remove what a loser is writing: no crash of the loser."""

    class _Cleared(LocalStorage):
        def write(self, path: str) -> object:  # type: ignore[override]
            sink = super().write(path)
            (tmp_path / path).unlink()
            (tmp_path / path).parent.rmdir()
            return sink

    of = task(redrive_plan(tmp_path))
    for elements in ([chunk(dead(LETTERS), of), end(of)], [chunk(dead(LETTERS), of)]):
        with pytest.MonkeyPatch.context() as patch:
            patch.setitem(STORAGES, DIRECTORY, _Cleared)
            out = run(WriteDeadLetters(), elements)
        (report,) = (seen.element for seen in out[MAIN])
        assert report.failure.kind == "FileNotFoundError"
