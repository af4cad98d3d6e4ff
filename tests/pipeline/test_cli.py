"""What loading a command does to the process."""

from __future__ import annotations

import subprocess
import sys

CODE = """
import gc, sys
from pipeline.cli import main
try:
    main(["collect", "--help"])
except SystemExit:
    print(gc.isenabled(), gc.get_freeze_count(), file=sys.stderr)
"""


def test_what_was_imported_is_not_looked_through_for_cycles_later() -> None:
    """Beam's objects are set aside; what a command makes is looked at."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    enabled, frozen = done.stderr.splitlines()[-1].split()
    assert enabled == "True"
    assert int(frozen) > 100_000
