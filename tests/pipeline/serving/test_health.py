"""When a run is ready, and what is said when it isn't."""

from __future__ import annotations

from datetime import timedelta

from batch_collection.errors import LogError
from pipeline.serving.health import Health
from tests.builders import at, first_entry
from transforms.process.events import (
    Away,
    Back,
    CycleBegan,
    CycleCommitted,
    FileStaged,
    GivenUp,
    MessagesRead,
    Note,
    Waiting,
)

COMMITTED = CycleCommitted("/data/orders", first_entry(), left=0, took=timedelta(seconds=1))
WAITING = Waiting(at("10:31:00"), messages=0)


class Clock:
    """Seconds that a test lets pass."""

    now = 0.0

    def __call__(self) -> float:
        """Return them."""
        return self.now


def begun() -> tuple[Health, Clock]:
    """Return the health of a run that has begun, and its clock."""
    clock = Clock()
    health = Health(120, clock)
    assert health.reasons() == ["the source has not answered yet"]
    health.started()
    assert health.reasons() == []
    return health, clock


def test_a_topic_that_is_left_alone_is_a_reason_until_it_is_back() -> None:
    """Each topic for itself; one that is given up stays one."""
    health, _ = begun()
    health(Away("a", "no answer", is_of_source=True))
    health(Away("b", "no space left", is_of_source=False))
    assert health.reasons() == ["a: no answer", "b: no space left"]
    health(Back("a", is_of_source=True))
    health(Back("b", is_of_source=False))
    assert health.reasons() == []
    health(GivenUp("a", LogError("damaged")))
    health(COMMITTED)
    assert health.reasons() == ["a: damaged"]


def test_silence_is_a_reason() -> None:
    """A run that waits says so each second."""
    health, clock = begun()
    for _ in range(10):
        clock.now += 100
        health(WAITING)
        assert health.reasons() == []
    clock.now += 121
    assert health.reasons() == ["nothing was heard of collecting for 121 s"]
    health(WAITING)
    assert health.reasons() == []


def test_a_cycle_that_does_not_end_is_a_reason_though_it_works() -> None:
    """Until it is committed, or nothing is due any more."""
    health, clock = begun()
    for end in (COMMITTED, WAITING, Away("a", "no answer", is_of_source=True)):
        health(CycleBegan(("a",), messages=4, left=0))
        for _ in range(13):
            clock.now += 10
            health(MessagesRead("/data/a", 4))
            health(FileStaged("/data/a", rows=4, bytes=10, is_late=False))
        assert health.reasons() == ["a cycle is at work since 130 s"]
        health(end)
        health(Back("a", is_of_source=True))
        assert health.reasons() == []


def test_the_last_troubles_are_kept() -> None:
    """Not all of them, and no mere news."""
    health, _ = begun()
    health(Note("collecting begins"))
    health(Note("warning: rows without _timestamp"))
    for number in range(30):
        health(Away("a", f"no answer {number}", is_of_source=True))
    texts = [trouble.text for trouble in health.troubles]
    assert texts == [f"a: no answer {number}" for number in range(10, 30)]
