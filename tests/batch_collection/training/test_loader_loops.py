"""What loader workers agree on without a lock: the epoch of their loop."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.training.loader_loops import (
    ALONE,
    MOST_WORKERS,
    Loop,
    begun,
    loop_name,
    next_epoch,
    word,
)


@settings(max_examples=300, deadline=None)
@given(st.data(), st.integers(1, 3), st.integers(0, 9), st.booleans())
def test_workers_loop_over_one_epoch_and_left_loops_come_again(
    data: st.DataObject,
    repeat: int,
    first: int,
    is_seeded: bool,  # noqa: FBT001
) -> None:
    """In whatever order they begin and end, and however many there are; or all seeds are one."""
    counts = st.just(data.draw(st.integers(1, 5))) if is_seeded else st.integers(1, 5)
    words = [0] * 5
    words[0] = word(Loop(ALONE, 1, first, done=False))
    expected = first
    for nth in range(data.draw(st.integers(1, 5))):
        workers = data.draw(counts)
        name = loop_name(99, workers, 1 if is_seeded else nth)
        is_left = data.draw(st.booleans())
        loops: dict[int, Loop] = {}
        steps = data.draw(st.permutations([*range(workers)] * 2))
        ends = [at for at, worker in enumerate(steps) if worker in steps[:at]]
        for worker in steps[: ends[-1] if is_left else None]:
            if worker in loops:
                words[worker] = word(loops[worker]._replace(done=True))
            else:
                loops[worker] = begun(words, worker, workers, name, repeat)
                words[worker] = word(loops[worker])
        assert {loop.epoch for loop in loops.values()} == {expected}
        expected += 0 if is_left else repeat
    assert next_epoch(words, repeat) == expected


def test_a_word_fits_into_63_bits_and_loops_of_other_seeds_have_other_names() -> None:
    """No name is that of a loop without workers."""
    largest = Loop(2**31 - 1, MOST_WORKERS, 2**21 - 1, done=True)

    assert word(largest) == 2**63 - 1
    names = {loop_name(seed, 2, nth) for seed in range(100) for nth in range(50)}
    assert len(names) == 5000
    assert ALONE not in names
