"""The package that a submission stages is enough for workers: installed alone, it collects."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
import venv
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

from pipeline.engine_options import setup_file
from tests.builders import at
from tests.collecting import ROOT, Stream, check, entries_of, run_command, sending
from tests.services.prism import accepts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.kafka import KafkaBroker
    from tests.services.prism import PrismServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build what a submission stages, as Beam does."""
    folder = tmp_path_factory.mktemp("sdist")
    options = PipelineOptions([f"--setup_file={setup_file()}"])
    Stager.create_job_resources(options, str(folder), log_submission_env_dependencies=False)
    (built,) = folder.glob("*.tar.gz")
    return built


@pytest.fixture(scope="module")
def worker_python(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into an empty environment; skip, saying why, where there is no package index."""
    folder = tmp_path_factory.mktemp("worker") / "venv"
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "requirements.txt")]
    done = subprocess.run(
        [*install, *constraints, str(sdist)],
        cwd=folder,
        env=_environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in done.stderr or "Connection" in done.stderr:
        pytest.skip(f"no package index: {done.stderr.strip().splitlines()[-1]}")
    assert done.returncode == 0, done.stderr
    return python


def _environment() -> dict[str, str]:
    """Leave out what would lead to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}


@contextlib.contextmanager
def worker_pool(python: Path) -> Iterator[str]:
    """Start Beam's worker pool from an environment; give its address."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(python), "-m", "apache_beam.runners.worker.worker_pool_main"]
    process = subprocess.Popen(
        [*command, f"--service_port={port}"],
        cwd=python.parent,
        env=_environment() | {"PATH": f"{python.parent}:{os.environ['PATH']}"},  # it runs `python`
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        deadline = time.monotonic() + 60
        while not accepts(port):
            assert process.poll() is None
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"localhost:{port}"
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_workers_of_the_staged_package_alone_collect_a_topic(
    kafka: KafkaBroker, prism: PrismServer, worker_python: Path, tmp_path: Path
) -> None:
    """The graph is submitted from here; what runs is what was installed there."""
    where = subprocess.run(
        [str(worker_python), "-c", "import pipeline.plan_cycle as p; print(p.__file__)"],
        cwd=tmp_path,
        env=_environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(worker_python.parent.parent)
    stream = Stream(kafka)
    stream.send(*(sending(at("10:30:00"), number % 4, id=number) for number in range(1000)))
    with worker_pool(worker_python) as pool:
        done = run_command(
            [stream],
            tmp_path / "out",
            "--runner=PrismRunner",
            f"--job_endpoint={prism.endpoint}",
            "--environment_type=EXTERNAL",
            f"--environment_config={pool}",
            "--once",
            "--flush",
        )
    assert done.returncode == 0, done.stderr
    check(tmp_path / "out" / stream.name, stream.produced)
    assert len(entries_of(tmp_path / "out" / stream.name)) > 1


def test_an_installed_package_submits_with_a_package_for_the_workers(
    worker_python: Path, sdist: Path, tmp_path: Path
) -> None:
    """It has no setup.py to build one from, and says what to give instead."""
    words = ("--runner=DataflowRunner", "--project=p", "--region=r", "--temp_location=gs://b/t")
    flags = (*words, "--output=gs://b/o", "--bootstrap_servers=kafka:9092", "--topics=t")

    def errors(*more: str) -> str:
        return subprocess.run(
            [str(worker_python), "-m", "pipeline", *flags, *more],
            cwd=tmp_path,
            env=_environment(),
            capture_output=True,
            text=True,
            check=False,
        ).stderr

    shutil.copy(sdist, tmp_path / "batch_collection.tar.gz")
    alone = errors()
    assert "the workers need this package" in alone
    assert 'pip install "batch-collection[dataflow]"' in alone
    assert "the workers need" not in errors(f"--extra_package={tmp_path}/batch_collection.tar.gz")
    assert sys.executable != str(worker_python)
