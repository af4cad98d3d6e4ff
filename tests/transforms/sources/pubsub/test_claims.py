"""Claims: of tasks that race for the same messages, one decodes each."""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import FileGoneError
from batch_collection.paths import claim_path, staged_cycle
from batch_collection.storage.opening import open_storage
from transforms.sources.pubsub.claims import claim

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.storage.contract import Storage

Attempt = tuple[str, list[int]]
"""A task's name, and the numbers of the messages that were pulled for it."""
ATTEMPTS = st.lists(
    st.tuples(st.sampled_from("abcd"), st.lists(st.integers(0, 12), unique=True)), max_size=6
)


def claimed(storage: Storage, attempt: Attempt, plan: str = "p") -> tuple[str, set[int]]:
    """Let an attempt claim; return its file, and the numbers that are its own."""
    task, numbers = attempt
    ids = pa.array([str(n) for n in numbers], pa.string())
    path, ours = claim(storage, 7, plan, task, ids)
    return path, {n for n, is_ours in zip(numbers, ours.tolist(), strict=True) if is_ours}


def held_to_the_law(attempts: list[Attempt], found: list[tuple[str, set[int]]]) -> None:
    """See that claims are numbered without a gap, and what each of them leaves to the others."""
    order = sorted(zip(found, attempts, strict=True))
    assert [path for (path, _), _ in order] == [claim_path(7, "p", n) for n in range(len(order))]
    for index, ((_, ours), (task, numbers)) in enumerate(order):
        lower = [each for _, each in order[:index]]
        others = {n for other, theirs in lower if other != task for n in theirs}
        assert ours == set(numbers) - others


@given(ATTEMPTS)
@settings(max_examples=30)
def test_an_attempt_leaves_out_what_another_task_has_claimed(attempts: list[Attempt]) -> None:
    """Even if that left it out itself; an earlier attempt of its own task keeps nothing."""
    with tempfile.TemporaryDirectory() as folder:
        storage = open_storage(folder)
        held_to_the_law(attempts, [claimed(storage, each) for each in attempts])


@given(ATTEMPTS.filter(bool))
@settings(max_examples=30)
def test_tasks_that_race_decode_no_message_twice(attempts: list[Attempt]) -> None:
    """Whoever comes first; and whichever attempt of each task counts in the end."""
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(attempts)) as threads:
        storage, start = open_storage(folder), Barrier(len(attempts))

        def run(attempt: Attempt) -> tuple[str, set[int]]:
            start.wait()
            return claimed(storage, attempt)

        found = list(threads.map(run, attempts))
    held_to_the_law(attempts, found)
    for one, (_, ours) in zip(attempts, found, strict=True):
        for other, (_, theirs) in zip(attempts, found, strict=True):
            assert one[0] == other[0] or not ours & theirs


def test_every_storage_numbers_claims(storage: Storage) -> None:
    """Attempts that pulled the same are two; those of another plan are none of ours."""
    first, _ = claimed(storage, ("a", [1, 2]))
    assert claimed(storage, ("a", [1, 2])) == (claim_path(7, "p", 1), {1, 2})
    second, ours = claimed(storage, ("b", [2, 3]))
    assert (first, second) == (claim_path(7, "p", 0), claim_path(7, "p", 2))
    assert ours == {3}
    assert claimed(storage, ("b", [2, 3]), plan="q") == (claim_path(7, "q", 0), {2, 3})
    assert {staged_cycle(path) for path in storage.list("staging")} == {7}


def test_a_claim_whose_cycle_is_over_is_no_claim(tmp_path: Path) -> None:
    """A task that comes too late finds nobody to compare with, and gives up."""
    storage = open_storage(str(tmp_path))
    claimed(storage, ("a", [1]))

    class Swept:
        """The storage, from which another sweeps what we are about to read."""

        create = staticmethod(storage.create)

        @staticmethod
        def read(path: str) -> bytes:
            storage.delete([path])
            return storage.read(path)

    with pytest.raises(FileGoneError, match="its cycle is over"):
        claim(Swept(), 7, "p", "c", pa.array(["1"]))  # type: ignore[arg-type]
