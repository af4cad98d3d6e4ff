"""What the steps count can be asked of any runner."""

from __future__ import annotations

from typing import TYPE_CHECKING

import apache_beam as beam
from apache_beam.metrics import MetricsFilter
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner

from pipeline.planning.opening import collect_tasks
from tests.builders import at
from tests.collecting import Sending, Stream, sending
from tests.jobs import Job
from transforms.elements.metrics import NAMESPACE

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker


def test_the_steps_count_what_they_do(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Messages, rows, dead letters, late rows, files, bytes, and the time it took."""
    job = Job(Stream(embedded), tmp_path)
    job.look()
    job.look()
    rows = [sending(at("10:30:01"), number, id=number) for number in range(4)]
    late = sending(at("10:29:51"), 0, id=9)
    job.stream.send(*rows, late, Sending(b"{", at("10:30:01")))
    pipeline = beam.Pipeline(runner=FnApiRunner(), options=PipelineOptions([]))
    tasks = pipeline | beam.Create(job.look("10:30:12").tasks, reshuffle=False)
    _ = tasks | collect_tasks(job.options)
    result = pipeline.run()
    result.wait_until_finish()

    found = result.metrics().query(MetricsFilter().with_namespace(NAMESPACE))
    counters = {each.key.metric.name: each.committed for each in found["counters"]}
    size = counters.pop("bytes")
    assert counters == {"messages": 6, "rows": 5, "dead_letters": 1, "late_rows": 1, "files": 2}
    assert size == sum(path.stat().st_size for path in job.path.glob("data/**/*.parquet"))
    distributions = {each.key.metric.name for each in found["distributions"]}
    assert distributions == {"read_milliseconds", "write_milliseconds"}
