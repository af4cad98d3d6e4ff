"""Messages with ids through the whole graph, in two cycles and a redrive: each id in one place."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pyarrow as pa
import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.log.entries import create_entry, digest, read_entry
from batch_collection.log.entry import FORMAT, FORMS, PartitionRead, Source
from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from pipeline.graph import CollectTasks, GraphOptions
from pipeline.running.local import run_steps
from tests.builders import MINUTE, at, first_entry
from tests.tasks import plan
from transforms.decoding.rules import RowRules
from transforms.elements.chunk import REPORTS, Chunk
from transforms.elements.plan import Task
from transforms.elements.report import Report, report_on
from transforms.sources.contract import LEASED_MESSAGES
from transforms.writing.layout import Output

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from apache_beam.pvalue import PCollection

SUBSCRIPTION = Source("pubsub", "projects/p/subscriptions/s")
LINES = [
    (b'{"a":1,"_offset":5}', "10:30:01"),
    (b'[{"a":2},{"a":3}]', "10:30:59.5"),
    (b"{", "10:30:02"),
    (b'{"a":4}', "10:31:00"),
    (b'{"a":0.5}', "10:30:03"),
    (b'{"a":5}', "10:31:01"),
    (b'[{"a":6},{"a":7}]', "10:31:02"),
    (b"", "10:30:04"),
]
IDS = [f"{10**15 + 7 * number}" for number in range(len(LINES))]


@dataclass(eq=False)
class Given(beam.PTransform):
    """Stands where messages are read: gives some, as they are once they have addresses."""

    messages: pa.Table

    def expand(self, tasks: PCollection[Task]) -> Any:
        """Wire it."""
        give = beam.ParDo(_GiveFn(self.messages)).with_output_types(Chunk)
        chunks = tasks | give.with_outputs(REPORTS, main="chunks")
        chunks[REPORTS].element_type = Report
        return chunks


@dataclass(eq=False)
class _GiveFn(beam.DoFn):
    messages: pa.Table

    def process(self, task: Task) -> Iterator[Chunk | beam.pvalue.TaggedOutput]:
        for start in range(0, self.messages.num_rows, 3):
            yield Chunk(task, "attempt", self.messages.slice(start, 3))
        end = Chunk(task, "attempt", LEASED_MESSAGES.empty_table(), last=True)
        yield end
        offsets = self.messages.column("offset").to_pylist()
        read = PartitionRead(0, offsets[0], offsets[-1] + 1, messages=len(offsets))
        yield beam.pvalue.TaggedOutput(REPORTS, replace(report_on(end), read=True, reads=(read,)))


def messages(first: int, end: int) -> pa.Table:
    """Give some of the messages, at their addresses."""
    rows = [
        {
            "partition": 0,
            "offset": number,
            "timestamp": at(clock).timestamp() * 1000 // 1,
            "value": value,
            "key": b"key",
            "headers": [{"key": "at", "value": str(at(clock).timestamp()).encode()}],
            "id": IDS[number],
            "published": at(clock),
        }
        for number, (value, clock) in enumerate(LINES)
    ]
    return pa.Table.from_pylist(rows[first:end], LEASED_MESSAGES)


def collect(storage: LocalStorage, cycle: int, table: pa.Table, options: GraphOptions) -> None:
    """Run a cycle, which closes the window from 10:30 on if it is the second."""
    before = read_entry(storage, cycle - 1)
    asked = plan(
        storage.uri,
        cycle=cycle,
        id=f"plan-{cycle}",
        previous=digest(storage.read(entry_path(cycle - 1))),
        planned_at=at("10:31:30"),
        boundary=at("10:31:00") if cycle > 1 else None,
        previous_boundary=before.boundary,
        ahead_limit=at("11:31:30"),
        schema=before.schema,
        messages=table.num_rows,
    )
    run_steps([Task(asked, 0, (), before.carry)], CollectTasks(Given(table), options))


@pytest.mark.parametrize("row_time", ["record", "attribute:at"])
@pytest.mark.parametrize("file_format", ["parquet", "jsonl"])
def test_each_id_is_in_one_place_and_all_that_reads_shows_it(
    tmp_path: Path, file_format: str, row_time: str
) -> None:
    """Rows of arrays, rows that waited, dead letters, and what a redrive makes of these."""
    storage = LocalStorage(str(tmp_path / "s"))
    begun = first_entry(
        source=SUBSCRIPTION, row_time=row_time, schema={"a": "int64"}, format=FORMAT
    )
    create_entry(storage, replace(begun, **FORMS[FORMAT]._asdict()))
    rules = RowRules(row_time=row_time, timestamp_unit="s", metadata="full", kind="pubsub")
    compression = {"parquet": "zstd", "jsonl": "gzip"}[file_format]
    options = GraphOptions(rules, MINUTE, 1000, Output(file_format, compression, "full"))

    collect(storage, 1, messages(0, 5), options)
    collect(storage, 2, messages(5, 8), options)

    entry = read_entry(storage, 2)
    assert [(each.messages, each.rows, each.dead_letters) for each in entry.reads] == [(3, 3, 1)]
    found = audit(storage)
    assert found.findings == ()
    assert (found.counts.rows, found.counts.carried_rows, found.counts.dead_letters) == (3, 4, 3)

    flags = [f"--output_format={file_format}", "--metadata=full", "--input_format=bytes"]
    assert cli.main(["redrive", *flags, "--timestamp_unit=s", storage.uri]) == 0

    view = batch_collection.open(storage.uri)
    rows = view.table().to_pylist()
    assert sorted((row["_message_id"], row["_index"] or 0) for row in rows) == sorted(
        [(IDS[0], 0), (IDS[1], 0), (IDS[1], 1), (IDS[2], 0), (IDS[4], 0), (IDS[7], 0)]
    )
    assert {"_partition", "_timestamp", "_key", "_headers"} & {*rows[0]} == set()
    for row in rows:
        number = IDS.index(row["_message_id"])
        published = at(LINES[number][1])
        assert row["_publish_time"] == published
        assert row["_ordering_key"] == "key"
        assert row["_attributes"] == [{"key": "at", "value": str(published.timestamp())}]
        assert row["value"] in {None, LINES[number][0]}
    assert audit(storage).findings == ()

    copy = tmp_path / "copy"
    assert cli.main(["export", storage.uri, f"--output={copy}", "--to=jsonl"]) == 0
    lines = [
        json.loads(line) for path in copy.rglob("*.jsonl") for line in path.read_text().splitlines()
    ]
    assert [line["_message_id"] for line in lines] == [row["_message_id"] for row in rows]
