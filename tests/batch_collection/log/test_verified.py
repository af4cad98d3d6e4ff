"""Files that rows are made of: unchanged, or refused in one line that says what to do."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, BinaryIO

import pytest

from batch_collection.errors import DamagedFileError, FileGoneError
from batch_collection.log import verified
from batch_collection.log.entries import PUT_BACK
from batch_collection.log.entry import CarryFile, DeadLetterFile
from batch_collection.log.verified import decoding, open_verified
from batch_collection.storage.checksum import ChecksumFile, stream_crc32c
from tests.builders import at
from tests.damage import DAMAGES, damage, flipped

if TYPE_CHECKING:
    from batch_collection.storage.contract import Storage

CONTENT = bytes(range(64))
CURE = f"; {PUT_BACK}; `batch-collection audit` finds what else is damaged"


def carry(storage: Storage, path: str = "carry/0000000001/00-0-token.arrow") -> CarryFile:
    """Write a carry file."""
    with ChecksumFile(storage.write(path)) as sink:
        sink.write(CONTENT)
    return CarryFile(path, at("10:30:00"), 1, 0, sink.bytes, sink.crc32c)


def letters(storage: Storage) -> DeadLetterFile:
    """Write a file of dead letters that is staged."""
    file = carry(storage, "staging/0000000001/dead_letters/a.parquet")
    return DeadLetterFile("dead_letters/a.parquet", file.path, 1, file.bytes, file.crc32c)


def test_an_unchanged_file_is_open_from_its_beginning(storage: Storage) -> None:
    """Carry where it lies, dead letters before and after they were published."""
    staged = letters(storage)
    for file in (carry(storage), staged):
        with open_verified(storage, file) as source:
            assert source.read() == CONTENT
    storage.move([(staged.staged, staged.path)])
    with open_verified(storage, staged) as source:
        assert source.read() == CONTENT


def test_a_file_of_which_any_one_bit_is_another_is_refused(storage: Storage) -> None:
    """The line says which file, what is wrong, and what to do."""
    file = carry(storage)
    for bit in flipped(storage, file.path):
        with pytest.raises(DamagedFileError) as raised:
            open_verified(storage, file)
        said, uri = str(raised.value), re.escape(f"{storage.uri}/{file.path}")
        expected = (
            rf"{uri} was changed: its crc32c is [0-9a-f]{{8}} instead of {file.crc32c}"
            f"{re.escape(CURE)}"
        )
        assert re.fullmatch(expected, said), bit
    open_verified(storage, file).close()


@pytest.mark.parametrize(
    ("kind", "what"),
    [
        ("missing", "is missing"),
        ("empty", "has 0 bytes instead of 64"),
        ("half", "has 32 bytes instead of 64"),
        ("longer", "has 65 bytes instead of 64"),
        ("garbage", "was changed: its crc32c is "),
    ],
)
def test_what_is_wrong_with_a_file_is_said(storage: Storage, kind: str, what: str) -> None:
    """And a file that is gone is another error than one that was changed."""
    assert kind in DAMAGES
    file = carry(storage)
    damage(storage, file.path, kind)

    with pytest.raises((DamagedFileError, FileGoneError)) as raised:
        open_verified(storage, file)

    assert isinstance(raised.value, FileGoneError) == (kind == "missing")
    assert str(raised.value).startswith(f"{storage.uri}/{file.path} {what}")
    assert str(raised.value).endswith(CURE)


def test_a_file_is_summed_up_once(storage: Storage, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is remembered that it was; a file that failed is not remembered."""
    summed: list[BinaryIO] = []

    def noted(source: BinaryIO) -> tuple[int, str]:
        summed.append(source)
        return stream_crc32c(source)

    monkeypatch.setattr(verified, "stream_crc32c", noted)
    file, known = carry(storage), set[tuple[str, str]]()
    damage(storage, file.path, "half")
    for _ in range(2):
        with pytest.raises(DamagedFileError):
            open_verified(storage, file, known)
    storage.replace(file.path, CONTENT)
    for _ in range(3):
        with open_verified(storage, file, known) as source:
            assert source.read() == CONTENT
    assert len(summed) == 3


def test_what_the_log_names_and_nobody_can_decode_is_said_in_one_line(storage: Storage) -> None:
    """What the system says of a disk is no fault of the file."""
    file = carry(storage)
    with (
        pytest.raises(DamagedFileError, match=r"arrow cannot be decoded: two lines; put it back"),
        decoding(storage, file),
    ):
        raise OSError("two\nlines")  # noqa: EM101, TRY003 - as Arrow says it
    with pytest.raises(OSError, match="broken"), decoding(storage, file):
        raise OSError(5, "broken")
