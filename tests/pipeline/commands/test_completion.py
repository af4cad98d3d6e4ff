"""``completion``: scripts that shells really complete by."""

from __future__ import annotations

import shutil
import subprocess
from typing import TYPE_CHECKING

import pytest

from pipeline.cli import COMMANDS, main

if TYPE_CHECKING:
    from pathlib import Path

ASK = """
source "$1"
shift
COMP_WORDS=("$@") COMP_CWORD=$(( $# - 1 ))
_batch_collection 2>/dev/null
printf '%s\\n' "${COMPREPLY[@]}"
"""
"""What bash does when Tab is pressed behind the last of some words; it splits them at ``=``."""


@pytest.fixture(scope="module")
def scripts(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with the script of each shell."""
    return tmp_path_factory.mktemp("scripts")


def written(shell: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    """Return where a shell's script lies."""
    path = folder / shell
    if not path.exists():
        assert main(["completion", shell]) == 0
        path.write_text(capsys.readouterr().out)
    return path


@pytest.mark.parametrize(
    ("words", "replies"),
    [
        (["sta"], ["status"]),
        (["dead"], ["dead-letters"]),
        (["collect", "--output_f"], ["--output_format="]),
        (["--output_f"], ["--output_format="]),
        (["status", "--js"], ["--json"]),
        (["collect", "--on_data_loss", "="], ["fail", "skip"]),
        (["collect", "--on_data_loss", "=", "s"], ["skip"]),
        (["--once", "--metadata", "=", "f"], ["full"]),
        (["export", "--to", "=", "t"], ["tfrecord"]),
        (["completion", ""], ["bash", "zsh", "fish"]),
        (["help", "ex"], ["export", "expire"]),
        (["status", "coll"], ["collected"]),
        (["collect", "--output", "=", "coll"], ["collected"]),
        (["collect", "--interval", "=", "c"], [""]),
    ],
    ids=" ".join,
)
def test_bash_completes_by_it(
    words: list[str],
    replies: list[str],
    scripts: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands, flags, their values where those are known, and paths."""
    (tmp_path / "collected").mkdir()
    script, bash = written("bash", scripts, capsys), shutil.which("bash")
    if bash is None:
        pytest.skip("bash is not installed")
    done = subprocess.run(
        [bash, "-c", ASK, "bash", str(script), "batch-collection", *words],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split("\n")[:-1] == replies


@pytest.mark.parametrize(
    ("shell", "check"), [("bash", "-n"), ("zsh", "-n"), ("fish", "--no-execute")]
)
def test_a_shell_can_read_its_script(
    shell: str, check: str, scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where it is installed."""
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = written(shell, scripts, capsys)
    done = subprocess.run([shell, check, str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_all_commands_are_in_it(
    shell: str, scripts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And flags of the last and the first."""
    script = written(shell, scripts, capsys).read_text()
    assert [name for name in COMMANDS if name not in script] == []
    assert "max_messages_per_cycle" in script
    assert "dry_run" in script


def test_another_shell_is_a_mistake(capsys: pytest.CaptureFixture[str]) -> None:
    """The ones that there are are named."""
    assert main(["completion", "zhs"]) == 2
    told = "error: unknown shell zhs; did you mean zsh?; use one of: bash, zsh, fish\n"
    assert capsys.readouterr().err == told
