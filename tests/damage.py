"""What may become of a file on a disk, or in a bucket, that nobody should touch; and of a log."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from batch_collection.log.entries import digest, read_entry
from batch_collection.log.expiry import first_cycle
from batch_collection.paths import entry_path

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batch_collection.storage.contract import Storage
    from tests.builders import Collector

__all__ = ["DAMAGES", "damage", "flipped", "forge"]

DAMAGES = ("missing", "empty", "half", "longer", "garbage")


def damage(storage: Storage, path: str, kind: str) -> None:
    """Damage a file in one of the ways in ``DAMAGES``; ``garbage`` is as long as the file was."""
    content = storage.read(path)
    if kind == "missing":
        storage.delete([path])
        return
    left = {
        "empty": b"",
        "half": content[: len(content) // 2],
        "longer": content + b"\0",
        "garbage": random.Random(len(content)).randbytes(len(content)),
    }
    storage.replace(path, left[kind])


def flipped(storage: Storage, path: str, every: int = 1) -> Iterator[int]:
    """Flip one bit of a file after the other, and yield which it is; in a bucket fewer of them."""
    whole = storage.read(path)
    step = max(every, 997) if storage.is_far else every
    for bit in range(0, 8 * len(whole), step):
        content = bytearray(whole)
        content[bit // 8] ^= 1 << bit % 8
        _write(storage, path, bytes(content))
        yield bit
    _write(storage, path, whole)


def _write(storage: Storage, path: str, content: bytes) -> None:
    local = storage.local_path(path)
    if local is None:
        storage.replace(path, content)
    else:  # nothing need be durable here
        local.write_bytes(content)


def forge(collector: Collector, cycle: int, **changes: Any) -> None:
    """Change an entry and chain all later ones to it: what a faulty collector would write."""
    storage = collector.storage
    assert collector.newest is not None
    previous = read_entry(storage, first_cycle(storage)).previous
    for number in range(first_cycle(storage), collector.newest.cycle + 1):
        entry = read_entry(storage, number)
        if number == cycle:
            entry = replace(entry, **changes)
        entry = replace(entry, previous=previous)
        storage.replace(entry_path(number), entry.to_json())
        previous = digest(entry.to_json())
