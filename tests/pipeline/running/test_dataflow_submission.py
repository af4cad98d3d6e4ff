"""Submitting to Dataflow: what the service would get, taken apart. The service is a fake."""

from __future__ import annotations

import io
import json
import os
import pickle
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from apache_beam.coders import coders
from apache_beam.internal import pickler
from apache_beam.internal.cloudpickle import cloudpickle
from apache_beam.portability import common_urns
from apache_beam.portability.api import beam_runner_api_pb2
from apache_beam.runners.pipeline_context import PipelineContext
from apache_beam.transforms.window import FixedWindows, GlobalWindows
from apache_beam.utils import proto_utils

from tests.collecting import ROOT
from transforms.cutting.batch import BatchCoder
from transforms.elements.chunk import ChunkCoder
from transforms.sources.kafka.config import ConsumerConfig, read_config

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.services.google import FakeGoogle

pytestmark = pytest.mark.slow  # the package is built in the source folder: not by two at once

SECRET = "correct-horse"  # noqa: S105 - it opens nothing
KAFKA = ("--bootstrap_servers=kafka.example:9092", "--topics=orders,clicks")
SUBSCRIPTION = "projects/my-project/subscriptions/orders"
STEPS = [
    "Collections",
    "PlanCycle",
    "Reshuffle",
    "CollectTasks/ReadSlices",
    "CollectTasks/DecodeMessages",
    "CollectTasks/WriteDeadLetters",
    "CollectTasks/IntoWindows",
    "CollectTasks/CutBatches",
    "CollectTasks/WriteBatchFiles",
    "CollectTasks/Accounts",
    "CollectTasks/CommitCycle",
]


@dataclass
class Submitted:
    """What arrived at the service."""

    job: dict[str, Any]
    files: dict[str, bytes]
    said: str

    @property
    def graph(self) -> Any:
        """The pipeline, as the staged protobuf has it."""
        return beam_runner_api_pb2.Pipeline.FromString(self.files["pipeline.pb"])

    @property
    def options(self) -> dict[str, Any]:
        """Beam's options in the job request."""
        return self.job["environment"]["sdkPipelineOptions"]["options"]


def submit(google: FakeGoogle, *flags: str) -> subprocess.CompletedProcess[str]:
    """Run the command line, with nothing on this machine that could be reached."""
    words = (
        "--runner=DataflowRunner",
        "--project=my-project",
        "--region=europe-west1",
        "--temp_location=gs://bucket/tmp",
        "--output=gs://bucket/collected",
        f"--dataflow_endpoint={google.url}",
    )
    return subprocess.run(
        [sys.executable, "-m", "pipeline", *words, *flags],
        cwd=ROOT,
        env={**os.environ, **google.environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def submitted(google: FakeGoogle, tmp_path_factory: pytest.TempPathFactory) -> Submitted:
    """Submit once, with a login in a file that is there on this machine, too."""
    pytest.importorskip(
        "google.cloud.dataflow_v1beta3", reason='no Dataflow: pip install -e ".[dataflow]"'
    )
    login = tmp_path_factory.mktemp("login") / "kafka.properties"
    login.write_text(f"sasl.password={SECRET}\n")
    return arrived(
        google, *KAFKA, f"--consumer_config={login}", "--num_workers=3", "--group_id=lag"
    )


@pytest.fixture(scope="module")
def subscribed(google: FakeGoogle) -> Submitted:
    """Submit a job of Pub/Sub once."""
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="no Dataflow extra")
    flags = ("--max_leased=50000", "--dedupe_horizon=2h", "--shards=3")
    return arrived(google, f"--input_subscription={SUBSCRIPTION},{SUBSCRIPTION}-2", *flags)


def arrived(google: FakeGoogle, *flags: str) -> Submitted:
    """Submit, and return what the service got."""
    google.objects.clear()
    done = submit(google, *flags)
    assert done.returncode == 0, done.stderr
    files = {name.rpartition("/")[2]: content for name, content in google.objects.items()}
    return Submitted(google.jobs[-1], files, done.stderr)


def test_the_job_is_a_streaming_job_with_the_flags_given(submitted: Submitted) -> None:
    """Named after its topics; Beam's own flags arrive."""
    assert submitted.job["type"] == 2  # JOB_TYPE_STREAMING
    assert submitted.job["name"] == "collect-orders-clicks"
    assert submitted.options["project"] == "my-project"
    (pool,) = submitted.job["environment"]["workerPools"]
    assert pool["numWorkers"] == 3
    packages = [package["name"] for package in pool["packages"]]
    assert packages == ["workflow.tar.gz", "submission_environment_dependencies.txt"]


def test_the_user_is_told_where_the_job_is_and_how_it_ends(submitted: Submitted) -> None:
    """It goes on without the machine that submitted it."""
    assert "job job-1 runs on Dataflow: https://console.cloud.google.com/" in submitted.said
    assert "gcloud dataflow jobs cancel job-1 --region=europe-west1" in submitted.said


def test_the_steps_have_the_documented_names(submitted: Submitted) -> None:
    """A running job can be updated as long as they stay."""
    names = {each.unique_name for each in submitted.graph.components.transforms.values()}

    assert [step for step in STEPS if f"Collect/{step}" not in names] == []
    text = (ROOT / "docs" / "engines.md").read_text(encoding="utf-8")
    assert [step for step in STEPS if f"`{step}`" not in text] == []


def test_rows_go_from_the_read_to_staged_files_as_arrow_in_their_windows(
    submitted: Submitted,
) -> None:
    """No pickle of rows; fixed windows of the interval from IntoWindows to WriteBatchFiles."""
    assert _outputs(submitted, "ReadSlices") == {(ChunkCoder, None)}
    assert _outputs(submitted, "DecodeMessages") == {(ChunkCoder, None)}
    assert _outputs(submitted, "IntoWindows/SplitByWindow") == {(ChunkCoder, None)}
    assert _outputs(submitted, "IntoWindows/FixedWindows") == {(ChunkCoder, 60)}
    assert _outputs(submitted, "CutBatches") == {(BatchCoder, 60)}


def _outputs(submitted: Submitted, step: str) -> set[tuple[type, float | None]]:
    """Give the coders and window lengths, in seconds, of a step's outputs that aren't reports."""
    components = submitted.graph.components
    context = PipelineContext(components)
    found: set[tuple[type, float | None]] = set()
    for transform in components.transforms.values():
        if transform.unique_name != f"Collect/CollectTasks/{step}":
            continue
        for tag, identity in transform.outputs.items():
            collection = components.pcollections[identity]
            windowing = context.windowing_strategies.get_by_id(collection.windowing_strategy_id)
            windows: Any = windowing.windowfn
            assert isinstance(windows, (FixedWindows, GlobalWindows))
            length = float(windows.size) if isinstance(windows, FixedWindows) else None
            if tag != "reports":
                found.add((type(context.coders.get_by_id(collection.coder_id)), length))
    return found


def test_no_coder_of_rows_falls_back_to_pickle(submitted: Submitted) -> None:
    """Nor one of tasks and reports."""
    components, context = submitted.graph.components, PipelineContext(submitted.graph.components)
    pickled = {
        name
        for name, collection in components.pcollections.items()
        if isinstance(context.coders.get_by_id(collection.coder_id), coders.FastPrimitivesCoder)
    }
    for transform in components.transforms.values():
        if "Collect/CollectTasks/" in transform.unique_name:
            assert not pickled & set(transform.inputs.values()), transform.unique_name


def test_no_secret_is_in_the_graph_or_the_request(submitted: Submitted) -> None:
    """Steps are taken apart for it: as they are sent they are compressed."""
    steps = b"".join(_unpacked(submitted))
    everything = steps + json.dumps(submitted.job).encode() + b"".join(submitted.files.values())

    assert b"kafka.example:9092" in steps  # so what is in steps is seen
    assert b"kafka.properties" in steps
    assert SECRET.encode() not in everything


def _unpacked(submitted: Submitted) -> Iterator[bytes]:
    """Yield the functions of all steps, uncompressed."""
    return map(cloudpickle.dumps, _functions(submitted))


def _functions(submitted: Submitted) -> Iterator[Any]:
    """Yield the functions of all steps."""
    for transform in submitted.graph.components.transforms.values():
        if transform.spec.urn == common_urns.primitives.PAR_DO.urn:
            payload = proto_utils.parse_Bytes(
                transform.spec.payload, beam_runner_api_pb2.ParDoPayload
            )
            yield pickler.loads(payload.do_fn.payload)[0]


def test_the_staged_package_has_all_modules_and_no_tests(submitted: Submitted) -> None:
    """Workers install it, and nothing else is there."""
    with tarfile.open(fileobj=io.BytesIO(submitted.files["workflow.tar.gz"])) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    rooms = ("batch_collection", "transforms", "pipeline")
    modules = {path.relative_to(ROOT).as_posix() for room in rooms for path in _modules(room)}

    assert modules - names == set()
    assert "setup.py" in names
    assert not any(name.startswith("tests") for name in names)


def _modules(room: str) -> Iterator[Path]:
    return (ROOT / room).rglob("*.py")


def test_a_template_is_written_and_parses(google: FakeGoogle, tmp_path: Path) -> None:
    """What the launcher of a Flex Template asks for; nothing is started."""
    pytest.importorskip("google.cloud.dataflow_v1beta3", reason="no Dataflow extra")
    jobs = len(google.jobs)
    done = submit(google, *KAFKA, f"--template_location={tmp_path / 'template'}", "--once")
    assert done.returncode == 0, done.stderr
    assert f"template written to {tmp_path / 'template'}" in done.stderr
    template = json.loads((tmp_path / "template").read_text())
    assert template["type"] in (2, "JOB_TYPE_STREAMING")
    assert len(google.jobs) == jobs


def test_secret_manager_is_asked_on_the_worker(
    google: FakeGoogle, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The resource name is all that travels."""
    name = "projects/my-project/secrets/kafka/versions/latest"
    google.secrets[name] = f"sasl.password={SECRET}\n"
    for variable, value in google.environment.items():
        monkeypatch.setenv(variable, value)

    config = ConsumerConfig({"bootstrap.servers": "kafka.example:9092"}, name)

    assert SECRET.encode() not in pickle.dumps(config)
    assert read_config(name, google.url) == f"sasl.password={SECRET}\n"


def test_a_job_of_subscriptions_brings_the_client_and_the_flags(subscribed: Submitted) -> None:
    """Workers install what setup.py has as an extra, which Beam's own images have anyway."""
    extra = (ROOT / "setup.py").read_text(encoding="utf-8").partition('"pubsub": ["')[2]
    assert subscribed.files["requirements.txt"].decode() == extra.partition('"')[0] + "\n"
    (pool,) = subscribed.job["environment"]["workerPools"]
    packages = [package["name"] for package in pool["packages"]]
    assert packages[:2] == ["requirements.txt", "workflow.tar.gz"]
    assert subscribed.job["name"] == "collect-orders-orders-2"
    (reader,) = [step.reader for step in _functions(subscribed) if hasattr(step, "reader")]
    assert reader.bounds.messages == 50_000
    (planning,) = [step for step in _functions(subscribed) if hasattr(step, "coordinators")]
    options = planning.coordinators.options
    assert options.source.remembering.horizon == timedelta(hours=2)
    assert options.source.names == (SUBSCRIPTION, f"{SUBSCRIPTION}-2")
    assert options.shards == 3


def test_whoever_submits_a_job_of_subscriptions_keeps_the_login(
    subscribed: Submitted, google: FakeGoogle
) -> None:
    """Workers have one of their own."""
    key = json.loads(google.credentials.read_text())["private_key"].splitlines()[1]
    steps = b"".join(_unpacked(subscribed))
    everything = steps + json.dumps(subscribed.job).encode() + b"".join(subscribed.files.values())
    assert SUBSCRIPTION.encode() in steps  # so what is in steps is seen
    assert key.encode() not in everything
    assert str(google.credentials).encode() not in everything


def test_the_steps_of_subscriptions_differ_in_their_read_alone(subscribed: Submitted) -> None:
    """It pulls, and rows go on as those of topics."""
    names = {each.unique_name for each in subscribed.graph.components.transforms.values()}
    steps = [step.replace("ReadSlices", "ReadPulls") for step in STEPS]
    assert [step for step in steps if f"Collect/{step}" not in names] == []
    assert _outputs(subscribed, "ReadPulls") == {(ChunkCoder, None)}
    assert _outputs(subscribed, "CutBatches") == {(BatchCoder, 60)}
