"""What loading a command does to the process."""

from __future__ import annotations

import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import main

if TYPE_CHECKING:
    from pathlib import Path

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


def test_a_working_directory_that_was_removed_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever the command was to look for there."""
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    for words in (["status", "a"], ["follow", "a", "--cursor=b"], ["--output=a"]):
        assert main(words) == 2
        told = "error: the working directory was removed; change to one that is there\n"
        assert capsys.readouterr().err == told


@pytest.mark.parametrize("module", ["yaml", "pyarrow", "pipeline.commands.status"])
def test_ctrl_c_while_the_program_is_imported_shows_no_traceback(
    tmp_path: Path, module: str
) -> None:
    """The system ends it, as it ends other programs; it comes in the midst of an import here."""
    program = (
        "import os, signal, sys\n"
        "class Interrupted:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        f"        if name == {module!r}:\n"
        "            os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Interrupted())\n"
        f"sys.argv = ['batch-collection', 'status', {str(tmp_path)!r}]\n"
        "from pipeline.__main__ import entry_point\n"
        "entry_point()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_while_the_program_ends_shows_no_traceback(tmp_path: Path) -> None:
    """The system ends it: what was done is done."""
    program = (
        "import atexit, os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it may come ignored
        f"sys.argv = ['batch-collection', 'status', {str(tmp_path)!r}]\n"
        "from pipeline.__main__ import entry_point\n"
        "from pipeline.commands import status\n"
        "def last():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "def run(args):\n"
        "    atexit.register(last)\n"
        "    return 0\n"
        "status.run = run\n"
        "entry_point()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (-signal.SIGINT, "")


def test_ctrl_c_while_a_command_runs_is_heard() -> None:
    """It can let go of what it holds; then the exit code is the shell's."""
    program = (
        "import os, signal, sys\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # it may come ignored
        "from pipeline.commands import status\n"
        "def interrupted(args):\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        signal.pause()\n"
        "    finally:\n"
        "        print('let go')\n"
        "status.run = interrupted\n"
        "sys.argv = ['batch-collection', 'status', 'a']\n"
        "from pipeline.__main__ import entry_point\n"
        "entry_point()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "let go\n", "")
