"""The example with Pub/Sub: what it makes of messages, and what Dataflow would get."""

from __future__ import annotations

import os
import runpy
import subprocess
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import apache_beam as beam
import pytest
from apache_beam.io import PubsubMessage
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2 as api
from apache_beam.testing.test_pipeline import TestPipeline
from apache_beam.transforms.window import TimestampedValue

import batch_collection

if TYPE_CHECKING:
    from tests.services.google import FakeGoogle

ROOT = Path(__file__).parents[2]
EXAMPLE = "examples/pubsub_to_batches.py"
SUBSCRIPTION = "projects/my-project/subscriptions/readings"


def message(number: int, content: bytes) -> TimestampedValue:
    """Return a message as Pub/Sub delivers it, published some seconds after 10:30:00."""
    published = 1_790_000_000 // 60 * 60 + number
    return TimestampedValue(PubsubMessage(content, {}, f"id-{number}"), published)


def test_messages_become_rows_and_what_is_no_object_is_kept_beside_them(tmp_path: Path) -> None:
    """With its id, and what was wrong with it."""
    contents = [b'{"value": 1}', b"not JSON", b"[2]", b'{"value": 3}']
    messages = [message(20 * number, content) for number, content in enumerate(contents)]
    collect = runpy.run_path(str(ROOT / EXAMPLE))["collect"]

    with TestPipeline(runner="FnApiRunner") as pipeline:
        collect(pipeline | beam.Create(messages), str(tmp_path / "readings"))

    rows, refused = (
        sorted(batch_collection.open(tmp_path / name).table().to_pylist(), key=str)
        for name in ("readings", "readings-refused")
    )
    assert rows == [{"value": 1, "message_id": "id-0"}, {"value": 3, "message_id": "id-60"}]
    assert [each["content"] for each in refused] == ["[2]", "not JSON"]
    assert "JSONDecodeError" in refused[1]["reason"]
    windows = batch_collection.open(tmp_path / "readings").windows()
    assert [window.end - window.start for window in windows] == [timedelta(minutes=1)] * 2


@pytest.mark.slow  # the package is built in the source folder: not by two at once
def test_dataflow_gets_the_subscription_and_the_windows(google: FakeGoogle) -> None:
    """Submitted as its docstring says; Google's client for Pub/Sub is needed on workers only."""
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="no Dataflow extra")
    done = subprocess.run(
        [
            *(sys.executable, EXAMPLE, f"--subscription={SUBSCRIPTION}"),
            *("--output=gs://bucket/readings", "--runner=DataflowRunner", "--project=my-project"),
            *("--region=europe-west1", "--temp_location=gs://bucket/example"),
            *("--setup_file=./setup.py", f"--dataflow_endpoint={google.url}"),
        ],
        cwd=ROOT,
        env={**os.environ, **google.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    uploaded = {
        name.rpartition("/")[2]: content
        for name, content in google.objects.items()
        if name.startswith("bucket/example/")
    }
    components = api.Pipeline.FromString(uploaded["pipeline.pb"]).components

    assert google.jobs[-1]["type"] == 2  # JOB_TYPE_STREAMING
    assert "workflow.tar.gz" in uploaded
    assert _subscription(components) == SUBSCRIPTION
    windows = _windows(components, "CollectRows/Panes")
    assert windows.trigger.after_end_of_window.early_firings.element_count.element_count == 10_000
    assert windows.trigger.after_end_of_window.late_firings.element_count.element_count == 1
    assert windows.accumulation_mode == api.AccumulationMode.DISCARDING
    assert windows.allowed_lateness == 24 * 60 * 60 * 1000


def _subscription(components: Any) -> str:
    (read,) = (
        each.spec.payload
        for each in components.transforms.values()
        if each.spec.urn == common_urns.composites.PUBSUB_READ.urn
    )
    return api.PubSubReadPayload.FromString(read).subscription


def _windows(components: Any, step: str) -> Any:
    """Return the windowing of what goes into a step."""
    (inputs,) = (each.inputs for each in components.transforms.values() if each.unique_name == step)
    (collection,) = inputs.values()
    return components.windowing_strategies[
        components.pcollections[collection].windowing_strategy_id
    ]
