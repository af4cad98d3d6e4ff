"""What loading a command does to the process."""

from __future__ import annotations

import subprocess
import sys

import pytest

CODE = """
import gc, sys
from pipeline.cli import main
assert main(["redrive", "/nowhere"]) == 2
print("apache_beam" in sys.modules, gc.isenabled(), gc.get_freeze_count(), file=sys.stderr)
"""


def test_what_was_imported_is_not_looked_through_for_cycles_later() -> None:
    """Beam's objects are set aside; what a command makes is looked at."""
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)

    beam, enabled, frozen = done.stderr.splitlines()[-1].split()
    assert (beam, enabled) == ("True", "True")
    assert int(frozen) > 100_000


@pytest.mark.parametrize(("words", "code"), [("--version", 0), ("--help", 0), ("nonsense", 2)])
def test_a_process_ends_before_the_interpreter_is_taken_apart(words: str, code: int) -> None:
    """With its exit code and all that it said; a thread of Arrow's may abort it afterwards."""
    program = (
        "import sys\n"
        "class Late:\n"
        "    def __del__(self):\n"
        "        print('taken apart')\n"
        "late = Late()\n"
        f"sys.argv = ['batch-collection', '{words}']\n"
        "from pipeline.cli import entry_point\n"
        "entry_point()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )

    assert done.returncode == code, done.stderr
    assert done.stdout + done.stderr
    assert "taken apart" not in done.stdout
