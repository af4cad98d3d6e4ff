"""Announcing: at least once, in order, never before it is visible, whatever the receiver does."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batch_collection.errors import CollectionError, ExpiredError
from batch_collection.log.expiry import newest_expiry
from batch_collection.publishing.expire import expire
from batch_collection.publishing.publish import publish
from batch_collection.reading.cursor import Cursor
from batch_collection.storage.local import LocalStorage
from pipeline.announcing.contract import UndeliveredError
from pipeline.running import announcer
from pipeline.running.announcer import Announcer, announced_beside
from tests.builders import Collector, at, message

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path
    from typing import Any

    from batch_collection.storage.contract import Storage
    from pipeline.announcing.contract import Announcement


class Killed(BaseException):
    """The process ends here, whatever it was doing."""


@dataclass
class Receiver:
    """A publisher that a test tells what to do with each announcement: take, refuse, lose, kill."""

    answers: list[str] = field(default_factory=list)
    taken: list[str] = field(default_factory=list)
    events: list[Any] = field(default_factory=list)
    name: str = "receiver"
    tries: int = 0

    def publish(self, announcement: Announcement) -> None:
        """Take it, or not."""
        self.tries += 1
        answer = self.answers.pop(0) if self.answers else "take"
        if answer in {"refuse", "kill"}:
            raise UndeliveredError("refused") if answer == "refuse" else Killed
        if answer == "gone":
            message = "receiver wants no more"
            raise CollectionError(message)
        self.taken.append(announcement.id.partition("-")[2])
        self.events.append(announcement.event)
        if answer == "lose":
            message = "the answer was lost"
            raise UndeliveredError(message)
        if answer == "die":
            raise Killed

    def close(self) -> None:
        """Hold nothing."""


class NoWait(threading.Event):
    """Waits for nothing, unless it was told to end then."""

    def __init__(self, *, ends: bool = False) -> None:
        super().__init__()
        self.ends, self.waited = ends, list[float | None]()

    def wait(self, timeout: float | None = None) -> bool:
        """Note for how long."""
        self.waited.append(timeout)
        return self.ends


def announcing(storage: Storage, receiver: Receiver, **changes: Any) -> Announcer:
    """Return an announcer that ends at the end of the log."""
    given = {"say": lambda _: None, "stop": NoWait(), **changes}
    return Announcer(storage=storage, publisher=receiver, cursor=Cursor(storage, "a"), **given)


def filled(storage: Storage) -> list[str]:
    """Close five windows, one of which gets a late row; return what is to be announced."""
    collector = Collector(storage, batch_size=2)
    collector.start()
    return fill(collector)


def fill(collector: Collector) -> list[str]:
    """Do that in a collection that is begun."""
    collector.collect(message(0), message(1), message(2, "10:31:00"), boundary="10:31:00")
    collector.collect(message(3, "10:32:00"), message(4, "10:33:00"), boundary="10:34:00")
    collector.collect(message(5, "10:30:10"), message(6, "10:35:00"), boundary="10:36:00")
    names = ["1030.r1", "1031.r1", "1032.r1", "1033.r1", "1030.r2", "1035.r1"]
    return [f"20261122T{name[:4]}00Z{name[4:]}" for name in names]


def test_what_is_announced_is_whole(tmp_path: Path) -> None:
    """A CloudEvent, with the URI of the collection wherever the program runs."""
    path = tmp_path / "a topic"
    filled(LocalStorage(str(path)))
    receiver = Receiver()
    announcing(LocalStorage(str(path)), receiver).run()
    event = receiver.events[4]
    name = event.pop("id")
    assert event == {
        "specversion": "1.0",
        "source": path.as_uri(),
        "type": "batch_collection.window.closed",
        "subject": "windows/20261122T103000Z.r2.json",
        "time": "2026-11-22T10:36:00Z",
        "datacontenttype": "application/json",
        "data": {
            "window_start": "2026-11-22T10:30:00Z",
            "window_end": "2026-11-22T10:31:00Z",
            "revision": 2,
            "timing": "late",
            "rows": 3,
            "files": 2,
            "cycle": 3,
            "closed_through": "2026-11-22T10:36:00Z",
        },
    }
    assert name.endswith("-20261122T103000Z.r2")
    assert len({each["source"] for each in receiver.events}) == 1


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from(["take", "refuse", "lose", "kill", "die"]), max_size=25))
def test_each_is_announced_at_least_once_and_in_order(
    tmp_path_factory: pytest.TempPathFactory, answers: list[str]
) -> None:
    """Whatever the receiver answers, wherever the process dies: what comes again is the last."""
    storage = LocalStorage(str(tmp_path_factory.mktemp("announced") / "topic"))
    expected = filled(storage)
    receiver = Receiver(list(answers))
    while True:
        try:
            announcing(storage, receiver).run()
        except Killed:
            continue
        break
    firsts = list(dict.fromkeys(receiver.taken))
    assert firsts == expected
    assert receiver.taken == sorted(receiver.taken, key=expected.index)
    again = answers.count("lose") + answers.count("die")
    assert len(receiver.taken) <= len(expected) + again


def test_trouble_is_said_once_and_pauses_grow(storage: Storage) -> None:
    """To half a minute at most."""
    expected = filled(storage)
    receiver = Receiver(["refuse"] * 8)
    said: list[str] = []
    stop = NoWait()
    announcing(storage, receiver, say=said.append, stop=stop).run()
    assert receiver.taken == expected
    assert said == ["refused; trying again", "receiver takes announcements again"]
    assert stop.waited == [1, 2, 4, 8, 16, 30, 30, 30]


def test_with_patience_it_ends_with_the_error_and_begins_there_again(storage: Storage) -> None:
    """What was taken before is not announced again."""
    expected = filled(storage)
    receiver = Receiver(["take"] * 2 + ["refuse"] * 100)
    clock = iter(range(0, 10_000, 10))
    patient = announcing(storage, receiver, patience=timedelta(minutes=1))
    patient.clock = lambda: next(clock)
    with pytest.raises(UndeliveredError, match="refused"):
        patient.run()
    assert receiver.tries < 10
    receiver.answers.clear()
    announcing(storage, receiver).run()
    assert receiver.taken == expected


def test_a_stop_ends_it_between_two_tries(storage: Storage) -> None:
    """And before the next one begins."""
    expected = filled(storage)
    receiver = Receiver(["take", "refuse"])
    announcing(storage, receiver, stop=NoWait(ends=True)).run()
    assert receiver.taken == expected[:1]
    stopped = threading.Event()
    stopped.set()
    announcing(storage, receiver, stop=stopped).run()
    assert receiver.taken == expected[:1]


def test_nothing_is_announced_before_it_is_visible(storage: Storage) -> None:
    """It waits at the end of the log until its collector has published, and goes on then."""
    collector = Collector(storage)
    entry = collector.collect(message(0), boundary="10:31:00", published=False)
    receiver = Receiver()
    announcing(storage, receiver).run()
    assert receiver.taken == []
    waits = iter([None, lambda: publish(storage, entry), None])

    def wait() -> bool:
        assert receiver.taken == []
        step = next(waits, None)
        if step is not None:
            step()
        return False

    def end() -> bool:
        return bool(receiver.taken) or wait()

    announcing(storage, receiver, at_end=end).run()
    assert receiver.taken == ["20261122T103000Z.r1"]


def test_what_was_expired_first_is_said_or_skipped(storage: Storage) -> None:
    """By the cursor's rule; a new cursor begins with what is left."""
    expected = filled(storage)
    receiver = Receiver(["take", "kill"])
    with pytest.raises(Killed):
        announcing(storage, receiver).run()
    expire(storage, at("10:33:00"), at("12:00:00"))
    with pytest.raises(ExpiredError, match="has not read all of what was expired"):
        announcing(storage, receiver).run()
    announcing(storage, receiver, skips=True).run()
    assert receiver.taken == [expected[0], *expected[3:]]  # the late rows came after that
    announcing(storage, receiver, skips=True).run()
    assert len(receiver.taken) == 4


def test_all_was_announced_when_entries_are_folded(tmp_path: Path) -> None:
    """Batches are more than windows: the place is behind both."""
    storage = LocalStorage(str(tmp_path / "topic"))
    collector = Collector(storage, batch_size=1)
    collector.collect(*(message(offset) for offset in range(5)), boundary="10:31:00")
    receiver = Receiver()
    announcing(storage, receiver).run()
    for number in range(5, 15):  # early panes close nothing
        collector.collect(message(number, "10:59:00"), boundary="10:32:00")
    announcing(storage, receiver).run()
    expire(storage, at("10:32:00"), at("12:00:00"))
    expiry = newest_expiry(storage)
    assert expiry is not None
    assert expiry.first > 1
    collector.collect(boundary="11:00:00")
    announcing(storage, receiver).run()
    assert receiver.taken == ["20261122T103000Z.r1", "20261122T105900Z.r1"]


@dataclass
class Opened:
    """A target whose publisher is a test's."""

    receiver: Receiver

    def open(self) -> Receiver:
        """Give it."""
        return self.receiver


def beside(
    receiver: Receiver, storages: Sequence[Storage], work: Callable[[], object], *, ends: bool
) -> tuple[list[str], list[str]]:
    """Announce beside some work; return what failed, and what was said."""
    said: list[str] = []
    target: Any = Opened(receiver)
    stop = threading.Event()
    with announced_beside(target, storages, said.append, stop, ends=ends) as found:
        work()
    return found.failures, said


def test_beside_a_collector_all_is_announced_when_it_ends(storage: Storage) -> None:
    """What was closed last, too."""
    expected: list[str] = []
    receiver = Receiver()
    collector = Collector(storage, batch_size=2)
    collector.start()

    def work() -> None:
        time.sleep(0.05)  # it waits at the end of the log
        expected.extend(fill(collector))

    failures, said = beside(receiver, [storage], work, ends=True)
    assert (failures, said) == ([], [])
    assert receiver.taken == expected


def test_a_receiver_that_takes_nothing_ends_nothing_else(
    storage: Storage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is said, and is in what went wrong; the next run begins there."""
    monkeypatch.setattr(announcer, "PATIENCE", timedelta(seconds=0))
    expected = filled(storage)
    receiver = Receiver(["take", "refuse"])
    failures, said = beside(receiver, [storage], lambda: None, ends=True)
    assert failures == ["refused"]
    assert said == ["error: refused; windows are not announced any more"]
    receiver.answers = ["gone"]
    failures, _ = beside(receiver, [storage], lambda: None, ends=False)
    assert failures == ["receiver wants no more"]
    assert beside(receiver, [storage], lambda: None, ends=False) == ([], [])
    assert receiver.taken == expected


def test_without_a_target_nothing_is_begun(storage: Storage) -> None:
    """No thread, no cursor."""
    filled(storage)
    with announced_beside(None, [storage], print, threading.Event(), ends=True) as found:
        pass
    assert found.failures == []
    assert not list(storage.list("cursors"))
