"""How many requests it takes: what they are, counted on the fake, is what Cloud Storage bills."""

from __future__ import annotations

import re
import time
import uuid
from collections import Counter
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, unquote, urlsplit

import pytest

import batch_collection
from batch_collection.audit import audit
from batch_collection.storage import open_storage
from tests.builders import Collector, at, dead_letter, message
from tests.collecting import Collecting, Stream, sending
from tests.services.faults import FaultProxy
from tests.services.gcs import BUCKET

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from batch_collection.storage import Storage
    from pipeline.embedded import EmbeddedBroker
    from tests.services.gcs import FakeGcs

MOST_IDLE = 6
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


@pytest.fixture
def storage(proxy: FaultProxy) -> Storage:
    """Return an empty storage behind the proxy."""
    assert proxy
    return open_storage(f"gs://{BUCKET}/costs/{uuid.uuid4().hex[:8]}/batch-topic")


def taken(proxy: FaultProxy) -> Counter[str]:
    """Return the requests since the last call, as method, kind and path in a collection."""
    seen, proxy.seen = proxy.seen, []
    return Counter(map(_told, seen))


def _told(request: str) -> str:
    method, _, target = request.partition(" ")
    url = urlsplit(target)
    kind, _, path = url.path.rpartition(f"/b/{BUCKET}")
    asked = parse_qs(url.query)
    if "prefix" in asked:
        return f"list {_within(asked['prefix'][0])}"
    if "rewriteTo" in path:
        return f"rewrite {_within(unquote(path.partition('/rewriteTo')[0]))}"
    verbs = {"GET": "fetch" if kind.startswith("/download") else "look up", "POST": "upload"}
    return f"{verbs.get(method, method.lower())} {_within(unquote(path))}".rstrip()


def _within(path: str) -> str:
    return re.sub(r"^(/o/?)?(costs/[^/]*/[^/]*/)?", "", path)


def of(requests: Counter[str], *starts: str) -> int:
    """Count those that begin so."""
    return sum(count for told, count in requests.items() if told.startswith(starts))


def nothing(_: datetime) -> None:
    """Nothing arrives."""


def send(collecting: Collecting, count: int, clock: str) -> None:
    """Send messages of one instant."""
    collecting.streams[0].send(*(sending(at(clock), id=number) for number in range(count)))


def test_an_idle_cycle_takes_at_most_six_requests(
    collecting: Collecting, proxy: FaultProxy
) -> None:
    """A boundary passes and nothing is to be read; the stubs of expiring are looked for once."""
    collecting.run(at("10:30:05"), at("10:30:25"), nothing)
    marks: list[int] = []
    collecting.recorder.wait = lambda *_: marks.append(len(collecting.recorder.entries))  # type: ignore[method-assign]
    before = len(collecting.recorder.entries)
    collecting.take_up(at("10:30:25"))
    taken(proxy)
    collecting.run(at("10:30:25"), at("10:30:25"), nothing)
    at_start = taken(proxy)
    collecting.run(at("10:30:25"), at("10:31:25"), nothing)
    found = taken(proxy) - at_start

    cycles = len(collecting.recorder.entries) - before
    assert cycles == 6
    assert found.total() <= MOST_IDLE * cycles, found
    assert of(found, "list expired/") == cycles
    assert of(found, "list") <= 3 * cycles


def test_a_cycle_with_a_file_takes_few_more(collecting: Collecting, proxy: FaultProxy) -> None:
    """The file is uploaded, copied and deleted once, its window's manifest written once."""
    collecting.once(at("10:30:22"))
    send(collecting, 1, "10:30:25")
    taken(proxy)
    collecting.take_up(at("10:30:32"))
    at_start = taken(proxy)
    assert len(collecting.once(at("10:30:32"))) == 1
    found = taken(proxy) - at_start

    assert found.total() <= MOST_IDLE + 6, found
    assert (of(found, "rewrite"), of(found, "delete")) == (1, 1)
    assert (of(found, "look up windows/", "fetch windows/"), of(found, "list expired/")) == (1, 1)


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


@pytest.fixture
def collector(storage: Storage, proxy: FaultProxy) -> Collector:
    """Return a collection of 200 files in 20 cycles, with manifests, dead letters and carry."""
    collector = Collector(storage, batch_size=1)
    for cycle in range(20):
        offsets = range(11 * cycle, 11 * cycle + 10)
        clock = f"10:{30 + cycle}:10"
        rows = (message(offset, clock) for offset in offsets)
        collector.collect(*rows, dead_letter(11 * cycle + 10), boundary=f"10:{31 + cycle}:00")
    collector.batch_size = 2
    collector.collect(message(220, "10:50:00"))
    taken(proxy)
    return collector


def test_an_audit_fetches_each_file_once(collector: Collector, proxy: FaultProxy) -> None:
    """Batches, dead letters, manifests, carry and entries; none is asked for beside that."""
    found = audit(collector.storage)
    requests = taken(proxy)

    assert found.findings == ()
    assert (found.counts.files, found.counts.dead_letters, found.counts.carried_rows) == (
        200,
        20,
        1,
    )
    files = set(collector.storage.list(""))
    assert of(requests, "fetch") == len(files) == 200 + 20 + 20 + 22 + 1
    assert max(requests.values()) <= 2
    assert requests.total() <= len(files) + MOST_AT_START, requests - Counter(requests.keys())


def test_a_follower_uploads_its_place_at_most_once_a_second(
    collector: Collector, proxy: FaultProxy
) -> None:
    """And at the end; an entry is fetched once."""
    began = time.monotonic()
    batches = list(batch_collection.open(collector.storage).follow("me", once=True))
    took = time.monotonic() - began
    requests = taken(proxy)

    assert len(batches) == FILES
    assert of(requests, "upload cursors/", "upload") <= 2 + took
    assert requests.total() <= 3 * 22 + 20 + 3 * took, requests
    assert list(batch_collection.open(collector.storage).follow("me", once=True)) == []
