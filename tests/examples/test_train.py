"""The example of the README, as a user starts it."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage

ROOT = Path(__file__).parents[2]
LOSS = re.compile(r"loss on ([\d,]+) rows of other devices: ([\d.]+) \(a constant's: ([\d.]+)\)")


@pytest.mark.slow
@pytest.mark.parametrize("framework", ["tensorflow", "torch", "numpy"])
def test_the_example_learns_from_what_it_collected(framework: str, tmp_path: Path) -> None:
    """Every row produced is collected, and the loss is one that no constant reaches."""
    if importlib.util.find_spec(framework) is None:
        pytest.skip(f"{framework} is not installed")
    command = [sys.executable, "examples/train.py", f"--framework={framework}"]

    done = subprocess.run(
        [*command, f"--output={tmp_path}"], cwd=ROOT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr
    assert "collected 20,000 rows" in done.stdout
    found = LOSS.search(done.stdout)
    assert found is not None, done.stdout
    rows, loss, constant = (float(each.replace(",", "")) for each in found.groups())
    assert rows > 1000
    assert loss < 0.02 < constant / 100
    assert audit(LocalStorage(str(tmp_path / "readings"))).findings == ()


def test_the_example_imports_what_users_may() -> None:
    """Nothing of the program's inside: that may move."""
    tree = ast.parse((ROOT / "examples" / "train.py").read_text(encoding="utf-8"))
    names = {
        alias.name if isinstance(node, ast.Import) else str(node.module)
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    ours = {name for name in names if name.split(".")[0] in {"transforms", "pipeline"}}
    assert ours == set()
    assert {name for name in names if name.startswith("batch_collection")} == {"batch_collection"}
