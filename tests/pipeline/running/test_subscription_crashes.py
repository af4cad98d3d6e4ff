"""Wherever a collector of a subscription dies, the next one loses, doubles and leaves nothing."""

from __future__ import annotations

import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage
from batch_collection.storage.opening import open_storage
from tests.builders import at
from tests.collecting import dead_letters_of, entries_of, strays_of
from tests.interposed import interposed
from tests.leased_stream import BEGIN
from tests.pulls_in_memory import INTERVAL, SECOND, Pulls
from tests.storages import Died, DyingStorage, some_points
from transforms.elements.plan import ACKNOWLEDGED

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from tests.pulls_in_memory import MemoryReader

_EARLIER, _WAITING = 11, 9


class _Silenced(DyingStorage):
    """A storage whose process, once it is dead, tells its source nothing any more either."""

    def __init__(self, path: Path, k: int | None, reader: MemoryReader) -> None:
        super().__init__(open_storage(str(path)), k)
        self._reader = reader

    def reach(self) -> None:
        try:
            super().reach()
        except Died:
            self._reader.source.away = True
            raise


class Scene:
    """A collection with rows and lists of ids that wait, about to run a cycle with all it can have.

    What it did not hear to be acknowledged comes again, and new messages do, one of them bad.
    """

    def __init__(self, folder: Path) -> None:
        """Collect so often that lists are to be merged, then publish for the cycle at 10:30:11."""
        self._folder, self._copies = folder, 0
        self._before = Pulls(folder / "before")
        self._before.stream.stamp = _published
        self._before.publish(0, 1, 2)
        self._before.once_unheard()
        for number in range(3, _EARLIER, 2):
            self._before.publish(number, number + 1)
            self._before.once()
        self._before.publish(*range(_EARLIER, _EARLIER + _WAITING))
        self._before.stream.publish(b"{")

    def copy(self) -> Pulls:
        """Return a collector of a copy of the collection, from a copy of the stream."""
        self._copies += 1
        output = self._folder / f"copy-{self._copies}"
        shutil.copytree(self._before.output, output)
        return Pulls(output, self._before.stream.copy(), now=at("10:30:11"))

    def collect(self, pulls: Pulls, k: int | None) -> _Silenced:
        """Collect with a storage that dies at its ``k``-th point."""
        dying = _Silenced(pulls.path, k, pulls.reader)
        with interposed(dying):
            try:
                pulls.once()
            except (Died, RuntimeError):  # Beam makes the second of the first
                assert dying.is_dead
        return dying

    def check_after_another_run(self, pulls: Pulls, case: str) -> None:
        """Collect on the plain storage, and see that all is there once, and nothing else."""
        pulls.reader.source.away = False
        pulls.stream.lapse()
        pulls.now += INTERVAL
        pulls.once()
        assert pulls.ids() == [*range(_EARLIER + _WAITING)], case
        (letter,) = dead_letters_of(pulls.path).values()
        assert letter["value"] == b"{", case
        assert not pulls.stream.left, case
        assert audit(LocalStorage(str(pulls.path))).findings == (), case
        assert strays_of(pulls.path) == [], case
        kept = {file.path for file in entries_of(pulls.path)[-1].ids}
        there = {each.relative_to(pulls.path).as_posix() for each in pulls.path.glob("ids/**/*.*")}
        assert there == kept, case
        shutil.rmtree(pulls.output)


def _published(number: int) -> datetime:
    """Stamp messages: those of the cycle are of a window that is closed, and of one that waits."""
    later = INTERVAL if number > _EARLIER + _WAITING // 2 else timedelta(0)
    return BEGIN + later + SECOND * number / 1_000


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """Set the scene once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("transforms.sources.pubsub.keeper._TICK_SECONDS", 0.02)
        patch.setattr("transforms.sources.pubsub.keeper._LONGEST_PAUSE", 0.1)
        yield Scene(tmp_path_factory.mktemp("crashes"))


def test_the_cycle_of_these_tests_has_all_that_a_cycle_of_pulls_can_have(scene: Scene) -> None:
    """Carry taken up and left, a dead letter, repeats, merged lists; then what is acknowledged."""
    pulls = scene.copy()
    before = entries_of(pulls.path)[-1]
    points = scene.collect(pulls, None).points
    cycle, last = entries_of(pulls.path)[before.cycle + 1 :]
    assert [pane.timing for pane in cycle.panes] == ["on_time"]
    assert before.carry
    assert cycle.carry
    assert sum(file.messages for file in cycle.dead_letters) == 1
    assert cycle.repeated == 3
    assert len(cycle.ids_released) == 4
    assert last.cause == ACKNOWLEDGED
    assert points > 50
    scene.check_after_another_run(pulls, "did not die")


@some_points(13)
def test_a_storage_that_dies_anywhere_in_a_cycle_of_pulls_costs_nothing(
    scene: Scene, every: int
) -> None:
    """For points before and after each change: what was not acknowledged comes to the next one."""
    k, committed = 0, set[int]()
    while True:
        pulls = scene.copy()
        before = len(entries_of(pulls.path))
        if not scene.collect(pulls, k).is_dead:
            break
        committed.add(len(entries_of(pulls.path)) - before)
        scene.check_after_another_run(pulls, f"died at point {k}")
        k += every
    scene.check_after_another_run(pulls, "did not die")
    assert k > 50
    assert {0, 1} <= committed <= {0, 1, 2}
