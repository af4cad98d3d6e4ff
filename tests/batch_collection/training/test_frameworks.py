"""TensorFlow and PyTorch, each with its cases in a process of its own: both in one would crash."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "cases"),
    [
        ("tensorflow", "to_tensorflow_cases"),
        ("torch", "to_torch_cases"),
        ("torch", "loader_cases"),
    ],
)
def test_the_real_framework_reads_what_was_collected(module: str, cases: str) -> None:
    """All cases pass; they are skipped where the framework is not installed."""
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    path = Path("tests", "batch_collection", "training", f"{cases}.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]

    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert " passed" in done.stdout
