"""How many requests it takes: what they are, counted on the fake, is what Cloud Storage bills."""

from __future__ import annotations

import re
import threading
import time
import uuid
from collections import Counter
from contextlib import contextmanager
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.storage.opening import open_storage
from tests.builders import Collector, at, dead_letter, message
from tests.collecting import Collecting, Recorder, Stream, sending
from tests.services.faults import FaultProxy
from tests.services.gcs import BUCKET
from transforms.process.events import CycleBegan, CycleCommitted

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from batch_collection.storage.contract import Storage
    from tests.services.gcs import FakeGcs
    from transforms.process.events import Event
    from transforms.sources.kafka.embedded import EmbeddedBroker

MOST_IDLE = 5
"""Requests of a cycle that has nothing to read."""

MOST_AT_START = 12
"""Requests of a start that finds nothing to repair."""

FILES = 200

# the client leaves an answer to a failed download unread, for the garbage collection to close
pytestmark = pytest.mark.filterwarnings(
    "ignore:Exception ignored in:pytest.PytestUnraisableExceptionWarning"
)


@pytest.fixture
def proxy(gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultProxy]:
    """Stand between the client and the server, and count."""
    with FaultProxy(gcs) as proxy:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", proxy.url)
        yield proxy


@pytest.fixture
def collecting(embedded: EmbeddedBroker, proxy: FaultProxy) -> Collecting:
    """Return a collector of a topic into an empty prefix."""
    assert proxy
    output = f"gs://{BUCKET}/costs/{uuid.uuid4().hex[:8]}"
    return Collecting.of(Stream(embedded), output, "--interval=10s", "--batch_size=1")


def taken(proxy: FaultProxy) -> Counter[str]:
    """Return the requests since the last call, as method, kind and path in a collection."""
    seen, proxy.seen = proxy.seen, []
    return Counter(map(_told, seen))


def _told(request: str) -> str:
    method, _, target = request.partition(" ")
    url = urlsplit(target)
    kind, _, path = url.path.partition(f"/b/{BUCKET}")
    asked = parse_qs(url.query)
    if "prefix" in asked:
        return f"list {_within(asked['prefix'][0])}"
    if "moveTo" in path:  # tried once in the life of a process: not all buckets can
        return "move"
    if "rewriteTo" in path:
        return f"rewrite {_within(unquote(path.partition('/rewriteTo')[0]))}"
    verbs = {"GET": "fetch" if kind.startswith("/download") else "look up", "POST": "upload"}
    return f"{verbs.get(method, method.lower())} {_within(unquote(path))}".rstrip()


def _within(path: str) -> str:
    return re.sub(r"^(/o/?)?(costs/[^/]*/[^/]*/)?", "", path)


def of(requests: Counter[str], *starts: str) -> int:
    """Count those that begin so."""
    return sum(count for told, count in requests.items() if told.startswith(starts))


def classes(requests: Counter[str]) -> tuple[int, int]:
    """Count those of class A and of class B, as docs/cloud-storage.md says them."""
    return of(requests, "upload", "list", "rewrite"), of(requests, "fetch", "look up")


def nothing(_: datetime) -> None:
    """Nothing arrives."""


def send(collecting: Collecting, count: int, clock: str) -> None:
    """Send messages of one instant."""
    collecting.streams[0].send(*(sending(at(clock), id=number) for number in range(count)))


class Counting(Recorder):
    """An observer that counts what each cycle takes; what comes before the first is no cycle's."""

    def __init__(self, proxy: FaultProxy) -> None:
        """Count what goes through ``proxy``."""
        super().__init__()
        self._proxy = proxy
        self.cycles: list[Counter[str]] = []

    def __call__(self, event: Event) -> None:
        """Forget the start; note what was taken since the last cycle, waits included."""
        super().__call__(event)
        if isinstance(event, CycleBegan) and not self.cycles:
            taken(self._proxy)
        if isinstance(event, CycleCommitted):
            self.cycles.append(taken(self._proxy))


class Following:
    """Counts how many requests follow one another: each comes when the one before is answered.

    Those that are ``together`` are answered when all of them have come, group after group: so what
    is counted depends on no clock. ``missed`` are those of which one has not come.
    """

    def __init__(self, *together: set[str]) -> None:
        """Count from now on."""
        self.longest = 0
        self.missed: list[set[str]] = []
        self._groups = list(together)
        self._changed = threading.Condition()

    @contextmanager
    def __call__(self, request: str) -> Iterator[None]:
        """Count a request, and hold it until those that are together with it have come."""
        told = _told(request)
        with self._changed:
            number = self.longest + 1
            group = self._groups[0] if self._groups else set[str]()
            mine = {each for each in group if told.startswith(each)}
            group -= mine
            if not group:
                del self._groups[:1]
            self._changed.notify_all()
            if mine and not self._changed.wait_for(lambda: not group, 60):
                self.missed.append(group)
        yield
        with self._changed:
            self.longest = max(self.longest, number)


class Watching(Recorder):
    """An observer that counts the requests of the first cycle which follow one another."""

    def __init__(self, proxy: FaultProxy, *together: set[str]) -> None:
        """Count what goes through ``proxy``; see ``Following``."""
        super().__init__()
        self._proxy = proxy
        self.following = Following(*together)
        self.found = 0

    def __call__(self, event: Event) -> None:
        """Begin with the cycle, and end with it."""
        super().__call__(event)
        if isinstance(event, CycleBegan):
            self._proxy.around = self.following
        if isinstance(event, CycleCommitted) and not self.found:
            self.found = self.following.longest


def test_six_requests_follow_one_another_where_rows_go_on_waiting(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """The waiting rows, those with the new ones; the last entry, this one; what it finds; removal.

    Nothing else of a cycle is waited for, which is what many small topics take.
    """
    send(collecting, 1, "10:30:21")
    collecting.once(at("10:30:22"), "--batch_size=9")
    send(collecting, 1, "10:30:23")
    found = {"list expired/", "list staging/", "list carry/"}
    collecting.recorder = watching = Watching(proxy, found)
    (entry,) = collecting.once(at("10:30:24"), "--batch_size=9")

    assert [len(entry.released), len(entry.carry), entry.panes] == [1, 1, ()]
    assert watching.following.missed == []
    assert watching.found == 6


def test_eight_requests_follow_one_another_where_a_window_closes(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """A file is copied, and its first name removed, before its window's manifest is there."""
    send(collecting, 1, "10:30:11")
    collecting.once(at("10:30:22"))  # another window: tries once whether the bucket can move
    send(collecting, 1, "10:30:23")
    collecting.once(at("10:30:24"), "--batch_size=9")
    send(collecting, 1, "10:30:25")
    found = {"list expired/", "list staging/", "list carry/"}
    moved, shown = {"rewrite", "fetch windows/"}, {"upload", "delete carry/"}
    collecting.recorder = watching = Watching(proxy, found, moved, shown)
    (entry,) = collecting.once(at("10:30:32"), "--batch_size=9")

    assert [len(entry.released), len(entry.carry), len(entry.panes)] == [1, 0, 1]
    assert watching.following.missed == []
    assert watching.found == 8


def test_an_idle_cycle_takes_at_most_five_requests(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """A boundary passes and nothing is to be read; the stubs of expiring are looked for once."""
    collecting.once(at("10:30:12"))
    collecting.recorder = counting = Counting(proxy)
    collecting.run(at("10:30:12"), at("10:31:05"), nothing)

    assert len(counting.cycles) == 5
    for requests in counting.cycles:
        assert requests.total() <= MOST_IDLE, requests
        assert (of(requests, "list expired/"), of(requests, "list")) == (1, 3)
        assert classes(requests) == (4, 1)  # and one more for each entry of a checkpoint
    assert not taken(proxy)


def test_a_cycle_with_a_file_takes_few_more(collecting: Collecting, proxy: FaultProxy) -> None:
    """The file is uploaded, copied and deleted once, its window's manifest written once."""
    collecting.once(at("10:30:22"))
    send(collecting, 1, "10:30:25")
    collecting.recorder = counting = Counting(proxy)
    collecting.once(at("10:30:32"))
    (found,) = counting.cycles

    assert found.total() - found["move"] <= MOST_IDLE + 6, found
    assert found["move"] <= 1
    assert classes(found) == (4 + 2 + 1, 1 + 1)
    assert (of(found, "upload"), of(found, "rewrite"), of(found, "delete")) == (3, 1, 1)
    assert (of(found, "fetch windows/"), of(found, "list expired/")) == (1, 1)


def test_a_start_that_finds_nothing_to_do_takes_at_most_twelve(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """However many entries there are, up to the first checkpoint."""
    collecting.run(at("10:30:05"), at("10:32:05"), nothing)
    taken(proxy)
    collecting.take_up(at("10:32:05"))
    found = taken(proxy)

    assert len(collecting.recorder.entries) > 10
    assert found.total() <= MOST_AT_START, found
    assert of(found, "list expired/") == 1
    assert classes(found) == (6, 2)


def test_a_start_behind_many_files_takes_no_request_for_each(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """What was moved before is not moved again, or asked for."""
    collecting.once(at("10:30:09"))
    send(collecting, FILES, "10:30:11")
    (entry,) = collecting.once(at("10:30:22"))
    taken(proxy)
    collecting.take_up(at("10:30:25"))
    found = taken(proxy)

    assert len(entry.files) == FILES
    assert found.total() <= MOST_AT_START, found
    assert of(found, "rewrite") == 0
    assert collecting.recorder.notes == []


@pytest.fixture(scope="module")
def storage(gcs: FakeGcs) -> Storage:
    """Return a collection of 200 files in 20 cycles, with manifests, dead letters and carry."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
        collector = Collector(
            open_storage(f"gs://{BUCKET}/costs/{uuid.uuid4().hex[:8]}/batch-topic"), batch_size=2
        )
        for cycle in range(20):
            first, clock = 20 * cycle, f"10:{30 + cycle}:10"
            collector.collect(*(message(first + n, clock) for n in range(4)))
            rows = (message(first + n, clock) for n in range(4, 19))
            collector.collect(*rows, dead_letter(first + 19), boundary=f"10:{31 + cycle}:00")
        collector.collect(message(400, "10:50:00"))
    return collector.storage


def test_an_audit_fetches_each_file_once(storage: Storage, proxy: FaultProxy) -> None:
    """Batches, dead letters, manifests, carry and entries; early panes do not add to that."""
    found = audit(storage)
    requests = taken(proxy)

    assert found.findings == ()
    counts = found.counts
    assert (counts.files, counts.dead_letters, counts.carried_rows) == (FILES, 20, 1)
    assert of(requests, "fetch") == FILES + 20 + 20 + 42 + 1 + 1  # the newest entry twice
    assert requests.total() <= FILES + 82 + MOST_AT_START, requests - Counter(requests.keys())


def test_an_audit_waits_for_several_files_at_once(storage: Storage, proxy: FaultProxy) -> None:
    """Two hundred files take much less than two hundred times the wait of one."""
    proxy.stall_seconds = 0.2
    proxy.fail("stall", "GET", "/o/", times=FILES)
    began = time.monotonic()
    assert audit(storage).findings == ()

    assert time.monotonic() - began < FILES * proxy.stall_seconds / 2


def test_a_follower_uploads_its_place_at_most_once_a_second(
    storage: Storage, proxy: FaultProxy
) -> None:
    """And at its begin and its end; an entry is fetched once."""
    began = time.monotonic()
    batches = list(batch_collection.open(storage).follow("me", once=True))
    took = time.monotonic() - began
    requests = taken(proxy)

    assert len(batches) == FILES
    assert of(requests, "look up cursors/") <= 3 + took
    assert of(requests, "upload") <= 3 + took
    assert list(batch_collection.open(storage).follow("me", once=True)) == []


def test_a_loop_that_was_left_gets_its_last_batch_again_and_no_other(
    storage: Storage, proxy: FaultProxy
) -> None:
    """Also where the places before were not uploaded yet."""
    assert proxy
    following = batch_collection.open(storage).follow("you", once=True)
    seen = [next(following).id for _ in range(15)]
    following.close()
    again = next(batch_collection.open(storage).follow("you", once=True))

    assert again.id == seen[-1]
