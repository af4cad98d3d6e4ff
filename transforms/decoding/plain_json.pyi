"""What ``plain_json.c`` offers; it is there only where it could be compiled."""

from typing import TypeAlias

__all__ = ["know_powers", "read_plain"]

_Shape: TypeAlias = tuple[
    bytes, int, bytes, tuple[_Shape, ...]
]  # kind, bytes a value, name, fields
_Buffer: TypeAlias = tuple[int, int, object]  # address, size, and what keeps it
# rows, nulls, validity, values, bytes of texts, fields
_Column: TypeAlias = tuple[int, int, _Buffer, _Buffer | None, _Buffer | None, tuple[_Column, ...]]

def read_plain(
    shape: _Shape, content: int, bounds: int, numbers: int, count: int
) -> tuple[_Column, _Buffer]:
    """Return the column of the messages that are plain, and of each a byte: 1 if it is.

    ``content`` is the address of all messages, ``bounds`` of the int32 where each begins and the
    last ends, ``numbers`` of the int64 of those to read, ``count`` of them.
    """

def know_powers(powers: bytes) -> None:
    """Take the upper 128 bits of 5 ** -342 to 5 ** 308, each as two native uint64, high and low.

    Raises:
        ValueError: it is not so long.
    """
