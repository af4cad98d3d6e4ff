"""Lists of message ids: made visible, removed when a later entry needs them no more, audited."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pyarrow as pa
import pytest

from batch_collection.inspection.audit import audit
from batch_collection.log.entries import create_entry
from batch_collection.log.entry import IdFile, Source
from batch_collection.paths import ids_path, staged_path
from batch_collection.publishing.expire import expire
from batch_collection.publishing.publish import publish, sweep
from batch_collection.storage.checksum import crc32c
from batch_collection.storage.local import LocalStorage
from tests.builders import Collector, at, message
from transforms.sources.pubsub.ids import IdSet

if TYPE_CHECKING:
    from pathlib import Path

    from batch_collection.log.entry import Entry


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Give a collector of a leased source."""
    return Collector(LocalStorage(str(tmp_path)), source=Source("pubsub", "s"))


def staged(collector: Collector, cycle: int, *ids: str) -> IdFile:
    """Stage a list."""
    path = ids_path(cycle, 0, "token")
    content = IdSet.of(pa.array(ids)).to_parquet()
    file = IdFile(path, staged_path(cycle, path), len(ids), len(content), crc32c(content))
    collector.storage.create(file.staged, content)
    return file


def commit(collector: Collector, entry: Entry) -> Entry:
    """Commit an entry, not published."""
    collector.newest = create_entry(collector.storage, entry)
    return collector.newest


def two_entries(collector: Collector) -> tuple[Entry, Entry]:
    """Let a second entry name another list than the first, neither of which is published."""
    collector.start()
    first = collector.plan(message(0), boundary="10:31:00")
    first = commit(collector, replace(first, ids=(staged(collector, 1, "10", "11"),)))
    publish(collector.storage, first)
    second = collector.plan(message(1, "10:31:00"), boundary="10:32:00")
    ids = (staged(collector, 2, "12"),)
    second = replace(second, ids=ids, ids_released=(first.ids[0].path,))
    return first, commit(collector, second)


def lists(collector: Collector) -> set[str]:
    """Return what is visible."""
    return set(collector.storage.list("ids"))


def test_an_entry_moves_its_lists_and_removes_those_it_needs_no_more(collector: Collector) -> None:
    """As often as it is published; what is swept is none of them."""
    first, second = two_entries(collector)
    assert lists(collector) == {first.ids[0].path}
    for _ in range(2):
        publish(collector.storage, second)
        sweep(collector.storage, second)
        assert lists(collector) == {second.ids[0].path}
    assert list(collector.storage.list("staging")) == []
    commit(collector, replace(collector.plan(), ids=second.ids, ids_released=()))
    expire(collector.storage, at("10:31:00"), at("10:40:00"))
    assert lists(collector) == {second.ids[0].path}


def test_a_sound_collection_has_its_lists(collector: Collector) -> None:
    """Published, or just committed."""
    _, second = two_entries(collector)
    assert audit(collector.storage, at("10:32:01")).findings == ()
    publish(collector.storage, second)
    assert audit(collector.storage).findings == ()


def test_a_list_that_is_not_what_the_log_says_is_found(collector: Collector) -> None:
    """Changed, missing, or one that nobody has named: a message could come twice."""
    _, second = two_entries(collector)
    publish(collector.storage, second)
    path = second.ids[0].path
    content = collector.storage.read(path)
    collector.storage.replace(path, content[:-1] + b"?")
    collector.storage.replace("ids/stray.parquet", content)
    changed, stray = audit(collector.storage).findings
    assert changed.startswith(f"{path} has {len(content)} bytes with crc32c=")
    assert stray == "ids/stray.parquet is in no entry"
    collector.storage.delete([path, "ids/stray.parquet"])
    assert f"{path} is missing" in audit(collector.storage).findings
