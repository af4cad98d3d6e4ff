"""What ``random_order.c`` offers; it is there only where it could be compiled."""

__all__ = ["sort_numbers"]

def sort_numbers(state: int, count: int, bits: int, room: int, buckets: int, order: int) -> bool:
    """Sort the numbers below ``count`` by the hashes that ``state`` makes of them.

    They are dealt to ``2 ** bits`` buckets by the first bits of their hashes. ``buckets`` is the
    address of room for so many int64 in each, ``order`` of where the numbers go, as int64.

    Returns:
        Whether it is done; false, if a bucket had too little room.
    """
