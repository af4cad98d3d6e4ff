"""Bad use of an engine is refused before anything is submitted, with the cure."""

from __future__ import annotations

import pickle
import sys
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from apache_beam.options.pipeline_options import DebugOptions, PipelineOptions

from batch_collection.errors import CollectionError
from pipeline import cli
from pipeline.commands import collect as collect_command
from pipeline.options import job_server
from pipeline.options.flags import Parser
from transforms.sources.kafka.config import ConsumerConfig
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from pathlib import Path

    from pipeline.options.collect import CollectOptions

KAFKA = ("--bootstrap_servers=kafka:9092", "--topics=orders")
CLOUD = ("--project=p", "--region=r", "--temp_location=gs://bucket/tmp")
DATAFLOW = ("--runner=DataflowRunner", *KAFKA, *CLOUD, "--output=gs://bucket/out")
NEEDS = "goes with an engine; name it with --runner: PrismRunner, DataflowRunner, "


def errors(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    """Run a command line that is refused; give its lines without their ``error:``."""
    assert cli.main(argv) == 2
    return [line.removeprefix("error: ") for line in capsys.readouterr().err.splitlines()]


def options(*argv: str) -> CollectOptions:
    """Read flags as the command does."""
    parser = Parser()
    collect_command.configure(parser)
    args, unknown, wrong = parser.read(argv)
    left, _, more = collect_command.pass_on(args, unknown)
    assert (left, wrong, more) == ([], [], [])
    return collect_command.check(args)


def test_flags_of_an_engine_without_one_are_refused(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Each with the engines there are."""
    flags = (*KAFKA, f"--output={tmp_path}", "--project=p", "--num_workers", "3")
    found = errors(capsys, *flags, "--cycle_timeout=1m")
    assert len(found) == 3
    for flag, line in zip(("--project", "--num_workers", "--cycle_timeout"), found, strict=True):
        assert line.startswith(f"{flag} {NEEDS}")


def test_beams_flags_are_no_flags_of_the_direct_runner(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A typing mistake of them gets no suggestion that would be refused, too."""
    assert errors(capsys, *KAFKA, f"--output={tmp_path}", "--projct=p") == ["unknown flag --projct"]


def test_an_unknown_flag_of_an_engine_is_refused_with_the_nearest(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beam would drop it with a warning; ours and Beam's are looked through."""
    found = errors(capsys, *DATAFLOW, "--max_num_worker=3", "--batch_sice=5")
    assert found == [
        "unknown flag --max_num_worker; did you mean --max_num_workers?",
        "unknown flag --batch_sice; did you mean --batch_size?",
    ]


def test_a_value_that_beam_cannot_read_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Beside all other mistakes."""
    (line,) = errors(capsys, *DATAFLOW, "--num_workers=many")
    assert line.startswith("--num_workers: invalid int value: 'many'")


def test_dataflow_says_all_it_needs_at_once(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """A project, a region, a folder; an output and a broker that workers can reach."""
    servers = "--bootstrap_servers=localhost:9092,127.0.0.1:1,kafka:9092"
    flags = ("--runner=DataflowRunner", servers, "--topics=a", f"--output={tmp_path}")
    found = errors(capsys, *flags)
    near = "localhost:9092,127.0.0.1:1"
    assert [line.partition(";")[0] for line in found] == [
        f"--bootstrap_servers={near} is this machine, Dataflow's workers can't reach it",
        "--project is missing",
        "--region is missing",
        "--temp_location is missing",
        f"--output={tmp_path} is of this machine, Dataflow's workers can't reach it",
    ]
    assert all(";" in line for line in found)


def test_a_missing_extra_is_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the command that installs it."""
    monkeypatch.setitem(sys.modules, "apache_beam.runners.dataflow.internal.apiclient", None)
    (line,) = errors(capsys, *DATAFLOW)
    assert "pip install google-cloud-dataflow-client google-auth-httplib2" in line


@pytest.mark.parametrize(
    "name", ["sasl.password", "ssl.key.pem", "sasl.jaas.config", "ssl.keystore.password"]
)
def test_a_secret_that_would_travel_in_the_job_is_refused(
    capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """It isn't shown, and the cure says where it belongs."""
    (line,) = errors(capsys, *DATAFLOW, f"-X{name}=hush")
    assert line.startswith(f"-X {name} would travel in the job")
    assert "hush" not in line
    assert "projects/P/secrets/S/versions/V" in line


def test_a_login_that_dataflows_workers_cannot_read_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A relative path is of this machine."""
    (line,) = errors(capsys, *DATAFLOW, "--consumer_config=kafka.properties")
    assert "is read by Dataflow's workers; give gs://bucket/file" in line


def test_a_login_in_a_file_is_read_by_the_workers_alone(tmp_path: Path) -> None:
    """On any engine: what is pickled into the graph holds its name."""
    file = tmp_path / "kafka.properties"
    file.write_text("sasl.username=alice\nsasl.password=hush\n")
    read = options(
        "--runner=PrismRunner", *KAFKA, f"--output={tmp_path}", f"--consumer_config={file}", "-Xa=b"
    )
    assert isinstance(read.source, KafkaSettings)
    assert isinstance(read.source.properties, ConsumerConfig)
    assert b"hush" not in pickle.dumps(read)
    assert "hush" not in repr(read)
    worker: CollectOptions = pickle.loads(pickle.dumps(read))  # noqa: S301 - ours
    assert isinstance(worker.source, KafkaSettings)
    assert dict(worker.source.properties) == {
        "sasl.username": "alice",
        "sasl.password": "hush",
        "a": "b",
        "bootstrap.servers": "kafka:9092",
    }
    assert b"hush" not in pickle.dumps(worker)


def test_a_login_that_is_gone_is_said_by_the_worker(tmp_path: Path) -> None:
    """With the flag and the reason."""
    config = ConsumerConfig({}, str(tmp_path / "gone"))
    with pytest.raises(CollectionError, match=r"cannot read --consumer_config=.*gone on this wor"):
        dict(config)


def test_a_continuous_job_has_no_end(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """``--until`` is the end of a backfill."""
    flags = ("--runner=PrismRunner", *KAFKA, f"--output={tmp_path}", "--until=2026-11-22T10:00:00Z")
    (line,) = errors(capsys, *flags)
    assert line.endswith("add --once")


def test_an_engine_has_defaults_of_its_own() -> None:
    """Shards, a timeout, a job's name, the package to build; what is given is passed on."""
    read = options(*DATAFLOW, "--max_num_workers", "7")
    assert read.engine is not None
    assert read.shards == 4
    assert read.engine.cycle_timeout == timedelta(minutes=5)
    assert read.output == "gs://bucket/out"
    assert {"--job_name=collect-orders", "--streaming", "--max_num_workers", "7"} <= set(
        read.engine.flags
    )
    assert any(flag.startswith("--setup_file=/") for flag in read.engine.flags)


def test_prism_splits_no_bundle_whatever_experiments_are_asked_for(tmp_path: Path) -> None:
    """Beam takes all of them."""
    read = options("--runner=PrismRunner", *KAFKA, f"--output={tmp_path}", "--experiments=mine")
    assert read.engine is not None
    experiments = PipelineOptions(read.engine.flags).view_as(DebugOptions).experiments
    assert {"mine", "prism_disable_sdf_split"} <= set(experiments)
    cloud = options(*DATAFLOW).engine
    assert cloud is not None
    assert not any("prism" in flag for flag in cloud.flags)


def test_a_package_that_is_given_is_not_built_again() -> None:
    """An image, say, has it already."""
    read = options(*DATAFLOW, "--sdk_container_image=gcr.io/p/image", "--job_name=mine")
    assert read.engine is not None
    assert not any(flag.startswith("--setup_file") for flag in read.engine.flags)
    assert [flag for flag in read.engine.flags if "job_name" in flag] == ["--job_name=mine"]


FLINK = ("--runner=PortableRunner", "--job_endpoint=127.0.0.1:1", *KAFKA, "--output=/shared")


@pytest.mark.parametrize(
    ("flags", "cure"),
    [
        (("--runner=PrismRunner", *KAFKA, "--output=/shared"), "name its job server with"),
        ((*FLINK, "--environment_type=LOOPBACK"), "give DOCKER or EXTERNAL"),
        ((*KAFKA, "--output=/shared"), "--detach goes with an engine"),
    ],
)
def test_what_ends_with_who_submits_is_not_left(
    capsys: pytest.CaptureFixture[str], flags: tuple[str, ...], cure: str
) -> None:
    """Neither an engine of this process nor workers in it."""
    assert any(cure in line for line in errors(capsys, *flags, "--detach"))


def test_a_job_is_left_whose_engine_and_workers_go_on() -> None:
    """Its name is told, so it has one."""
    read = options(*FLINK, "--environment_type=EXTERNAL", "--detach")
    assert read.engine is not None
    assert read.engine.is_detached
    assert "--job_name=collect-orders" in read.engine.flags


def test_a_job_server_that_is_not_there_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether it knows a flag can't be known."""
    monkeypatch.setattr(job_server, "_SECONDS", 0.2)
    (line,) = errors(capsys, *FLINK, "--checkpointing_interval=10000")
    assert line.startswith("no job server answers at --job_endpoint=127.0.0.1:1; start it")


def test_flags_of_a_job_server_are_taken(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong name gets the nearest, and a wrong value is told."""
    offered = {
        "--checkpointing_interval": {"type": int},
        "--object_reuse": {"action": "store_true"},
    }
    monkeypatch.setattr(job_server, "flags_of", lambda _: offered)

    read = options(*FLINK, "--checkpointing_interval=10000", "--object_reuse")

    assert read.engine is not None
    assert {"--checkpointing_interval=10000", "--object_reuse"} <= set(read.engine.flags)
    wrong, value = errors(capsys, *FLINK, "--checkpoint_interval=9", "--checkpointing_interval=x")
    assert "unknown flag --checkpoint_interval; did you mean --checkpointing_interval?" in (
        wrong,
        value,
    )
    assert "--checkpointing_interval: invalid int value: 'x'" in (wrong, value)
