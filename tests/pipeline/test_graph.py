"""What the graph promises of itself: no shuffle, no state and no pickled rows before the commit."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import apache_beam as beam
import pytest
from apache_beam import coders
from apache_beam.portability import common_urns, python_urns
from apache_beam.runners.pipeline_context import PipelineContext

from pipeline.graph import CollectTasks, GraphOptions
from transforms.cutting.batch import BatchCoder
from transforms.decoding.rules import RowRules
from transforms.elements.chunk import ChunkCoder
from transforms.elements.plan import Task
from transforms.read_slices import ReadSlices
from transforms.sources.kafka.reader import KafkaReader
from transforms.writing.layout import Output

PAYLOAD = ("ReadSlices", "DecodeMessages", "WriteDeadLetters", "IntoWindows", "CutBatches")


@pytest.fixture(scope="module")
def components() -> Any:
    """Give the graph as a runner gets it."""
    reading = ReadSlices(KafkaReader({"bootstrap.servers": "localhost:1"}))
    options = GraphOptions(
        rules=RowRules(),
        interval=timedelta(minutes=1),
        batch_size=1000,
        output=Output(),
    )
    pipeline = beam.Pipeline()
    tasks = pipeline | beam.Create([]).with_output_types(Task)
    _ = tasks | "Collect" >> CollectTasks(reading, options)
    return pipeline.to_runner_api(use_fake_coders=False).components


def steps(components: Any) -> dict[str, Any]:
    """Give the primitive steps by name."""
    composites = {s for t in components.transforms.values() for s in t.subtransforms}
    assert composites
    return {
        transform.unique_name: transform
        for transform in components.transforms.values()
        if not transform.subtransforms and transform.spec.urn
    }


def test_payload_never_meets_a_shuffle_or_state(components: Any) -> None:
    """Up to the staged file every step is a plain ParDo or a window assignment."""
    allowed = {common_urns.primitives.PAR_DO.urn, common_urns.primitives.ASSIGN_WINDOWS.urn}
    found = [
        transform
        for name, transform in steps(components).items()
        if any(f"Collect/{part}" in name for part in (*PAYLOAD, "WriteBatchFiles"))
    ]
    assert len(found) >= len(PAYLOAD)
    for transform in found:
        assert transform.spec.urn in allowed, transform.unique_name
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(
                transform.spec.payload
            )
            assert not payload.state_specs, transform.unique_name
            assert not payload.side_inputs, transform.unique_name


def test_rows_are_coded_as_arrow_and_never_pickled(components: Any) -> None:
    """Every collection of chunks and batches has its own coder."""
    found = set()
    for transform in steps(components).values():
        if not any(f"Collect/{part}" in transform.unique_name for part in PAYLOAD):
            continue
        for tag, name in transform.outputs.items():
            collection = components.pcollections[name]
            coder = components.coders[collection.coder_id]
            if coder.spec.urn == python_urns.PICKLED_CODER:
                loaded = coders.coders.deserialize_coder(coder.spec.payload)
                found.add((transform.unique_name.split("/")[1], tag, type(loaded)))
    kinds = {(step, kind) for step, tag, kind in found if tag != "reports"}
    assert ("ReadSlices", ChunkCoder) in kinds
    assert ("DecodeMessages", ChunkCoder) in kinds
    assert ("IntoWindows", ChunkCoder) in kinds
    assert ("CutBatches", BatchCoder) in kinds
    others = {
        (s, t, k) for s, t, k in found if t != "reports" and k not in {ChunkCoder, BatchCoder}
    }
    assert {(s, t) for s, t, _ in others} <= {("WriteDeadLetters", "None")}


def test_no_record_is_pickled(components: Any) -> None:
    """Neither on an edge nor in state: a pickle names modules, so no job could be updated."""
    context = PipelineContext(components)
    edges = {name: each.coder_id for name, each in components.pcollections.items()}
    state = {
        f"{transform.unique_name} {name}": spec.bag_spec.element_coder_id
        for transform in components.transforms.values()
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn
        for name, spec in beam.portability.api.beam_runner_api_pb2.ParDoPayload.FromString(
            transform.spec.payload
        ).state_specs.items()
    }
    coded = {name: repr(context.coders.get_by_id(coder)) for name, coder in (edges | state).items()}
    assert [coded[name] for name in state] == ["ReportCoder"]
    assert any("TaskCoder" in coder for coder in coded.values())
    assert {n: c for n, c in coded.items() if "Primitives" in c or "Pickle" in c} == {}


def test_the_windows_are_beam_s_fixed_ones_with_the_count_trigger(components: Any) -> None:
    """The strategy says what the pattern is."""
    found = {
        strategy.window_fn.urn
        for strategy in components.windowing_strategies.values()
        if strategy.trigger.HasField("after_end_of_window")
    }
    assert found == {common_urns.fixed_windows.urn}
