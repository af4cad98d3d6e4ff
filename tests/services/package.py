"""The package as workers get it: what a submission stages, in an environment with nothing else."""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.stager import Stager

from pipeline.options.engine import setup_file
from tests.services.below import PIP, below_the_package, outside
from tests.services.made import UnavailableError

__all__ = ["built_sdist", "installed"]

_INSIDE = Path("lib", f"python{sys.version_info.major}.{sys.version_info.minor}", "site-packages")


def built_sdist(folder: Path) -> Path:
    """Build what a submission stages, as Beam does."""
    options = PipelineOptions([f"--setup_file={setup_file()}"])
    Stager.create_job_resources(options, str(folder), log_submission_env_dependencies=False)
    (built,) = folder.glob("*.tar.gz")
    return built


def installed(sdist: Path, folder: Path) -> Path:
    """Install it, on what is below it, into a new environment; give its Python.

    Raises:
        UnavailableError: there is no package index.
    """
    below = below_the_package()
    venv.create(folder)
    python = folder / "bin" / "python"
    (folder / _INSIDE / "below.pth").write_text(f"{below / _INSIDE}\n")
    done = subprocess.run(
        [str(python), *PIP, "--no-deps", str(sdist)],
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
