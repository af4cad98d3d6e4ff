"""The package that a submission stages is enough for workers: installed alone, it collects."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.builders import at
from tests.collecting import Stream, check, entries_of, run_command, sending
from tests.services.below import outside
from tests.services.guarded import WITH_STACKS, accepts, free_port

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.google import FakeGoogle
    from tests.services.kafka import KafkaBroker
    from tests.services.prism import PrismServer

pytestmark = [pytest.mark.integration, pytest.mark.slow]


@contextlib.contextmanager
def worker_pool(python: Path, log: Path) -> Iterator[str]:
    """Start Beam's worker pool from an environment; give its address.

    Where that fails, or what is done with it, pool and workers say where their threads are.
    """
    port = free_port()
    command = [str(python), "-m", "apache_beam.runners.worker.worker_pool_main"]
    path = f"{python.parent}:{os.environ['PATH']}"  # it runs `python`
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, f"--service_port={port}"],
            cwd=python.parent,
            env=outside() | WITH_STACKS | {"PATH": path},
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        deadline = time.monotonic() + 60
        while not accepts(port):
            assert process.poll() is None, log.read_text()
            assert time.monotonic() < deadline
            time.sleep(0.1)
        yield f"localhost:{port}"
    except BaseException:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGABRT)
        process.wait()
        _await_children(process)
        print(f"the worker pool:\n{log.read_text()}")
        raise
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_children(process: subprocess.Popen[bytes]) -> None:
    """Wait until those of its group are gone, who may be nobody's children, and never fetched."""
    deadline = time.monotonic() + 10
    with contextlib.suppress(ProcessLookupError):
        while time.monotonic() < deadline:
            os.killpg(process.pid, 0)
            time.sleep(0.05)


def test_workers_compile_what_the_staged_package_has_in_c(
    worker_python: Path, tmp_path: Path
) -> None:
    """With a compiler there; sources are staged, what was compiled here is not."""
    if shutil.which("cc") is None:
        pytest.skip("cc is not installed")
    asked = (
        "from transforms.sources.kafka.columnar import why_not; print(repr(why_not()));"
        "from transforms.decoding.plain import is_built; print(is_built())"
    )
    done = subprocess.run(
        [str(worker_python), "-c", asked],
        cwd=tmp_path,
        env=outside(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == ["''", "True"]


def test_workers_of_the_staged_package_alone_collect_a_topic(
    kafka: KafkaBroker, prism: PrismServer, worker_python: Path, tmp_path: Path
) -> None:
    """The graph is submitted from here; what runs is what was installed there."""
    where = subprocess.run(
        [str(worker_python), "-c", "import pipeline.running.plan_cycle as p; print(p.__file__)"],
        cwd=tmp_path,
        env=outside(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()).is_relative_to(worker_python.parent.parent)
    stream = Stream(kafka)
    stream.send(*(sending(at("10:30:00"), number % 4, id=number) for number in range(1000)))
    with worker_pool(worker_python, tmp_path / "pool.log") as pool:
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
    worker_python: Path, sdist: Path, google: FakeGoogle, tmp_path: Path
) -> None:
    """It has no setup.py to build one from, and says what to give instead."""
    words = (
        "--runner=DataflowRunner",
        "--project=p",
        "--region=r",
        "--temp_location=gs://bucket/t",
    )
    flags = (*words, "--output=gs://bucket/o", "--bootstrap_servers=kafka:9092", "--topics=t")

    def submit(*more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(worker_python), "-m", "pipeline", *flags, *more],
            cwd=tmp_path,
            env=outside() | google.environment,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    alone = submit(f"--dataflow_endpoint={google.url}")
    assert alone.returncode == 2
    assert "the workers need this package" in alone.stderr
    package = tmp_path / "batch_collection-0.tar.gz"
    shutil.copy(sdist, package)
    done = submit(f"--dataflow_endpoint={google.url}", f"--extra_package={package}")
    assert done.returncode == 0, done.stderr
    assert any(name.endswith("/batch_collection-0.tar.gz") for name in google.objects)
