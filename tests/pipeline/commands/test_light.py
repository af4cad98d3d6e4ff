"""What runs no graph loads neither Beam nor Kafka's client, so that it answers at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from batch_collection.storage.local import LocalStorage
from pipeline.cli import COMMANDS
from tests.builders import Collector, dead_letter, message
from tests.collecting import ROOT

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import sys
from pipeline.cli import main
try:
    code = main(sys.argv[1:])
except SystemExit as end:
    code = end.code
heavy = [name for name in ("apache_beam", "confluent_kafka") if name in sys.modules]
sys.exit(f"loaded: {heavy}" if heavy else code)
"""
GIVEN = ("--bootstrap_servers=127.0.0.1:1", "--topics=a", "--output=out")
HELP = [["--version"], *([command, "--help"] for command in COMMANDS)]
WRONG = [
    *([command, "PATH", "--nonsense"] for command in COMMANDS),
    [],
    ["nonsense"],
    ["collect", *GIVEN, "--interval=soon"],
    ["collect", *GIVEN, "--num_workers", "3", "--update"],
    ["collect", "--input_subscription=orders", "--output=out"],
    ["collect", *GIVEN, "--max_leased=10"],
    ["collect", *GIVEN, "--runner=Prism", "--job_name=a"],
    ["produce", *GIVEN[:2], "--every=soon"],
    ["redrive", "PATH", "--numbers=even"],
    ["validate", *GIVEN, "--interval=soon"],
]
RUN = [
    ["status", "PATH"],
    ["status", "PATH", "--json"],
    ["list", "PATH"],
    ["init", *GIVEN],
    ["audit", "PATH"],
    ["follow", "PATH", "--cursor=a", "--once"],
    ["announce", "PATH", "--to=command:true", "--once"],
    ["wait", "PATH", "--closed_through=2026-11-22T10:31:00Z"],
    ["export", "PATH", "--to=jsonl", "--output=exported"],
    ["export", "PATH", "--to=tfrecord", "--output=exported"],
    ["schema", "PATH"],
    ["schema", "PATH", "--pin", "more=int64"],
    ["schema", "PATH", "--export=types.json"],
    ["expire", "PATH", "--before=2026-11-22T10:31:00Z"],
    ["upgrade", "PATH"],
    ["completion", "bash"],
    ["help"],
    ["help", "collect"],
    ["version"],
]


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a collection of two windows, with a dead letter; to be copied."""
    path = tmp_path_factory.mktemp("kept") / "collection"
    collector = Collector(LocalStorage(str(path)))
    collector.collect(message(0), message(1), dead_letter(2), boundary="10:31:00")
    collector.collect(message(3, "10:31:30"), boundary="10:32:00")
    return path


def assert_light(folder: Path, words: list[str], code: int) -> None:
    """See a command end with its exit code in a process that did not grow heavy."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *words],
        cwd=folder,
        env={"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert "loaded: " not in done.stderr
    assert done.returncode == code, done.stderr
    assert done.stdout + done.stderr


@pytest.mark.parametrize("words", HELP, ids=" ".join)
def test_a_help_and_a_version_are_light(words: list[str], tmp_path: Path) -> None:
    """Of every command."""
    assert_light(tmp_path, words, 0)


@pytest.mark.parametrize("words", WRONG, ids=" ".join)
def test_mistakes_are_told_lightly(words: list[str], tmp_path: Path) -> None:
    """All but those beside an engine's name, whose flags Beam itself has to read."""
    assert_light(tmp_path, words, 2)


@pytest.mark.parametrize("words", RUN, ids=" ".join)
def test_what_only_reads_or_changes_a_collection_is_light(
    words: list[str], kept: Path, tmp_path: Path
) -> None:
    """No graph runs, and no broker is asked."""
    shutil.copytree(kept, tmp_path / "PATH")

    assert_light(tmp_path, words, 0)
