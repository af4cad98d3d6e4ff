"""The package as workers get it: what a submission stages, in an environment with nothing else."""

from __future__ import annotations

import os
import subprocess
import venv
from typing import TYPE_CHECKING

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

from pipeline.engine_options import setup_file
from tests.collecting import ROOT
from tests.services.kafka import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["built_sdist", "installed", "outside"]


def built_sdist(folder: Path) -> Path:
    """Build what a submission stages, as Beam does."""
    options = PipelineOptions([f"--setup_file={setup_file()}"])
    Stager.create_job_resources(options, str(folder), log_submission_env_dependencies=False)
    (built,) = folder.glob("*.tar.gz")
    return built


def installed(sdist: Path, folder: Path) -> Path:
    """Install it, with what Dataflow needs, into a new environment; give its Python.

    Raises:
        UnavailableError: there is no package index.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(
        [*pip, "-c", str(ROOT / "requirements.txt"), f"{sdist}[dataflow]"],
        cwd=folder,
        env=outside(),
        capture_output=True,
        text=True,
        check=False,
    )
    if "No matching distribution" in done.stderr or "connection" in done.stderr.lower():
        message = f"no package index: {done.stderr.strip().splitlines()[-1]}"
        raise UnavailableError(message)
    assert done.returncode == 0, done.stderr
    return python


def outside() -> dict[str, str]:
    """Return the environment variables without what would lead to this checkout."""
    return {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
