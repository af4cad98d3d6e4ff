"""Where rows wait: a carry file gives the rows that were put there, or none."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batch_collection.errors import DamagedFileError, FileGoneError
from batch_collection.log.entry import CarryFile
from batch_collection.paths import entry_path
from batch_collection.storage.checksum import ChecksumFile
from tests.damage import DAMAGES, damage, flipped
from tests.tasks import MINUTE, NOON, rows
from transforms.cutting.waiting import Carried
from transforms.elements.tables import COMPRESSED

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

CYCLE = 7
PATH = "carry/0000000006/00-0-token.arrow"


def carried(storage: Storage, *values: int, path: str = PATH) -> CarryFile:
    """Write rows that wait, as ``write_batch_files`` does."""
    table = rows(values)
    with (
        ChecksumFile(storage.write(path)) as sink,
        pa.ipc.new_stream(sink, table.schema, options=COMPRESSED) as writer,
    ):
        writer.write_table(table, max_chunksize=2)
    return CarryFile(path, NOON - MINUTE, len(values), 0, sink.bytes, sink.crc32c)


def values_of(storage: Storage, file: CarryFile, start: int, count: int) -> list[int]:
    """Read rows back."""
    pieces = Carried(storage, file, CYCLE).pieces(start, count)
    return [row["payload"]["value"] for piece in pieces for row in piece.to_pylist()]


def test_any_part_of_a_carry_file_can_be_read(storage: Storage) -> None:
    """Across its record batches."""
    file = carried(storage, 0, 1, 2, 3, 4)
    for start in range(6):
        for count in range(6 - start):
            assert values_of(storage, file, start, count) == list(range(start, start + count))


def test_rows_of_a_file_of_which_any_one_bit_is_another_are_not_read(storage: Storage) -> None:
    """A tenth of such files decode to other rows."""
    file, refused = carried(storage, 666, 1), 0
    storage.create(entry_path(CYCLE - 1), b"{}")
    for bit in flipped(storage, file.path):
        with pytest.raises(DamagedFileError, match=PATH):
            values_of(storage, file, 0, 2)
        refused = bit
    assert refused > 8 * file.bytes - 1000
    assert values_of(storage, file, 0, 2) == [666, 1]


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_carry_file_is_that_of_a_rival_once_its_cycle_is_committed(
    storage: Storage, kind: str
) -> None:
    """Whoever has committed the cycle has released the file; before, somebody has damaged it."""
    file = carried(storage, 1, 2)
    storage.create(entry_path(CYCLE - 1), b"{}")
    damage(storage, file.path, kind)

    with pytest.raises((DamagedFileError, FileGoneError), match=PATH):
        values_of(storage, file, 0, 2)
    with pytest.raises((DamagedFileError, FileGoneError), match=PATH):
        Carried(storage, file, CYCLE).stored_payload()

    storage.create(entry_path(CYCLE), b"{}")
    with pytest.raises(FileNotFoundError, match=PATH):
        values_of(storage, file, 0, 2)


def test_a_carry_file_that_is_no_stream_of_rows_is_refused(storage: Storage) -> None:
    """Though its bytes are those that the log says."""
    with ChecksumFile(storage.write(PATH)) as sink:
        sink.write(b"x" * 200)
    file = CarryFile(PATH, NOON, 1, 0, sink.bytes, sink.crc32c)
    with pytest.raises(DamagedFileError, match=rf"{PATH} cannot be decoded: "):
        values_of(storage, file, 0, 1)
