"""Which epoch the workers of a loader loop over: agreed on by words of memory that all share.

Workers are started, or told to begin anew, one by one; the fast ones may be through before the slow
ones begin. Each writes one word, its own, whole; so no lock is needed. See ``to_torch``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["ALONE", "MOST_WORKERS", "Loop", "begun", "loop_name", "next_epoch", "word"]


MOST_WORKERS = 2**10 - 1

ALONE = 0
"""The name of a loop, or of a place that was set, in the process that workers work for."""

_EPOCHS = 2**21
_NAMES = 2**31


class Loop(NamedTuple):
    """What a worker says of its last loop: name, workers, first epoch, whether it is through.

    A loop without workers is said as one of a single worker.
    """

    name: int
    workers: int
    epoch: int
    done: bool


def loop_name(seed: int, workers: int, nth: int) -> int:
    """Name the ``nth`` loop of workers who were started with one seed: all of them find it alone.

    Loops that are seeded alike are told apart by what a worker said last (``begun``), unless there
    was one of another number of workers between.
    """
    return 1 + hash((seed, workers, nth)) % (_NAMES - 1)


def word(loop: Loop) -> int:
    """Write it in 63 bits."""
    names = loop.name * (MOST_WORKERS + 1) + loop.workers
    return (names * _EPOCHS + loop.epoch % _EPOCHS) * 2 + loop.done


def begun(
    words: Sequence[int],
    worker: int,
    workers: int,
    name: int,
    repeat: int,
    epoch: int | None = None,
) -> Loop:
    """Return what a worker says when it begins a loop: the epoch of others in it, or the next.

    Args:
        words: What all say.
        worker: Whose turn it is, of ``workers``.
        name: That of the loop. A worker that says it already is in another one of the same seed.
        repeat: The epochs of a loop.
        epoch: The one to begin with, where a place was loaded.
    """
    if _loop(words[worker]).name == name:
        name = name % (_NAMES - 1) + 1
    if epoch is None:
        said = [loop.epoch for loop in map(_loop, words) if loop.name == name]
        epoch = said[0] if said else next_epoch(words, repeat)
    return Loop(name, workers, epoch, done=False)


def next_epoch(words: Sequence[int], repeat: int) -> int:
    """Return the epoch that the next loop begins with: one that was left comes again."""
    workers = max(_loop(words[0]).workers, 1)
    last = [_loop(each) for each in words[:workers]]
    return min(loop.epoch + repeat * loop.done for loop in last)


def _loop(written: int) -> Loop:
    names, place = divmod(written, 2 * _EPOCHS)
    return Loop(*divmod(names, MOST_WORKERS + 1), place // 2, bool(place % 2))
