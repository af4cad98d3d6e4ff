"""Where rows wait, each way: they come back as they were, those of a carry file or nothing does."""

from __future__ import annotations

from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batch_collection.errors import DamagedFileError, FileGoneError
from batch_collection.log.entry import CarryFile
from batch_collection.paths import entry_path
from batch_collection.storage.checksum import ChecksumFile
from tests.damage import DAMAGES, damage, flipped
from tests.tasks import MINUTE, NOON, rows
from transforms.cutting.waiting import Carried, InMemory, SpillFile
from transforms.elements.tables import COMPRESSED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.storage.contract import Storage
    from transforms.cutting.waiting import RowSource

CYCLE = 7
PATH = "carry/0000000006/00-0-token.arrow"


def carried(storage: Storage, table: pa.Table) -> CarryFile:
    """Write rows that wait, as ``writing/staging`` does."""
    with (
        ChecksumFile(storage.write(PATH)) as sink,
        pa.ipc.new_stream(sink, table.schema, options=COMPRESSED) as writer,
    ):
        writer.write_table(table, max_chunksize=2)
    count, indexed = table.num_rows, InMemory(table).indexed
    return CarryFile(PATH, NOON - MINUTE, count, 0, sink.bytes, sink.crc32c, indexed)


def values_of(source: RowSource, start: int, count: int) -> list[int]:
    """Read rows back."""
    pieces = source.pieces(start, count)
    return [row["payload"]["value"] for piece in pieces for row in piece.to_pylist()]


def in_memory(_: Storage, __: SpillFile, table: pa.Table) -> RowSource:
    """Leave rows where they are."""
    return InMemory(table)


def spilled(_: Storage, file: SpillFile, table: pa.Table) -> RowSource:
    """Put rows into a spill file, behind and before others."""
    others = InMemory(rows([7, 8]))
    file.spill(others)
    source = file.spill(InMemory(table))
    file.spill(others)
    return source


def in_carry(storage: Storage, _: SpillFile, table: pa.Table) -> RowSource:
    """Put rows into a carry file."""
    return Carried(storage, carried(storage, table), CYCLE)


@pytest.fixture(params=[in_memory, spilled, in_carry])
def put(
    request: pytest.FixtureRequest, storage: Storage
) -> Iterator[Callable[[pa.Table], RowSource]]:
    """Give each way to let rows wait."""
    with closing(SpillFile()) as file:
        yield partial(request.param, storage, file)


def test_any_part_of_what_waits_can_be_read_again_and_again(
    put: Callable[[pa.Table], RowSource],
) -> None:
    """Across record batches, in any order."""
    source = put(rows(range(5)))
    assert source.rows == 5
    for start in (*range(5), 0):
        for count in range(1, 6 - start):
            assert values_of(source, start, count) == list(range(start, start + count))


def test_what_waits_comes_back_as_it_was(put: Callable[[pa.Table], RowSource]) -> None:
    """All columns; what a source says of them before is true."""
    table = rows(range(3), payload={"a": [[1], [], None], "b": ["x", None, "z"]})
    source = put(table)
    assert pa.concat_tables(source.pieces(0, 3)).equals(table)
    assert source.schema in {None, table.schema}


@pytest.mark.parametrize("index", [None, 0])
def test_what_waits_tells_whether_it_is_of_arrays(
    put: Callable[[pa.Table], RowSource], index: int | None
) -> None:
    """One such row is enough."""
    table = rows(range(3))
    column = pa.array([None, index, None], pa.int32())
    source = put(table.set_column(table.schema.get_field_index("index"), "index", column))
    assert source.indexed == (index is not None)


def test_rows_of_a_file_of_which_any_one_bit_is_another_are_not_read(storage: Storage) -> None:
    """A tenth of such files decode to other rows."""
    file, refused = carried(storage, rows([666, 1])), 0
    storage.create(entry_path(CYCLE - 1), b"{}")
    for bit in flipped(storage, file.path):
        with pytest.raises(DamagedFileError, match=PATH):
            values_of(Carried(storage, file, CYCLE), 0, 2)
        refused = bit
    assert refused > 8 * file.bytes - 1000
    assert values_of(Carried(storage, file, CYCLE), 0, 2) == [666, 1]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_carry_file_is_that_of_a_rival_once_its_cycle_is_committed(
    storage: Storage, kind: str
) -> None:
    """Whoever has committed the cycle has released the file; before, somebody has damaged it."""
    file = carried(storage, rows([1, 2]))
    storage.create(entry_path(CYCLE - 1), b"{}")
    damage(storage, file.path, kind)

    with pytest.raises((DamagedFileError, FileGoneError), match=PATH):
        values_of(Carried(storage, file, CYCLE), 0, 2)

    storage.create(entry_path(CYCLE), b"{}")
    with pytest.raises(FileNotFoundError, match=PATH):
        values_of(Carried(storage, file, CYCLE), 0, 2)


def test_a_carry_file_that_is_no_stream_of_rows_is_refused(storage: Storage) -> None:
    """Though its bytes are those that the log says."""
    with ChecksumFile(storage.write(PATH)) as sink:
        sink.write(b"x" * 200)
    file = CarryFile(PATH, NOON, 1, 0, sink.bytes, sink.crc32c)
    with pytest.raises(DamagedFileError, match=rf"{PATH} cannot be decoded: "):
        values_of(Carried(storage, file, CYCLE), 0, 1)
