"""``demo``, as a user starts it: a process of its own, on its embedded broker."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import tempfile
import threading
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.dataset
import pytest

import batch_collection
from batch_collection.errors import CollectionError
from pipeline.cli import main
from pipeline.commands import demo as demo_command
from pipeline.options.flags import Parser

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.services.pubsub import PubSubServer

ROOT = Path(__file__).parents[3]
CLOSED = re.compile(r"\d\d:\d\d:\d\d  \d\d:\d\d:\d\d-\d\d:\d\d:\d\d +([\d,]+) +(\d+)  (\d+\.\d)")
PRODUCED = re.compile(r"stopped producing after [\d,]+ messages, ([\d,]+) rows")
RESULT = re.compile(r"(?m)^ +rows +least +most +mean\n +([\d,]+)  ")  # as wide as the values
VERDICT = re.compile(r"(?m)^  ok: \d+ entries, \d+ files .* ([\d,]+) rows and\s+0\s+waiting")


def started(*flags: str) -> subprocess.Popen[str]:
    """Start the demo."""
    return subprocess.Popen(
        [sys.executable, "-m", "pipeline", "demo", *flags],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def number(found: re.Match[str] | None) -> int:
    """Return the number that a pattern's group holds."""
    assert found is not None
    return int(found[1].replace(",", ""))


@pytest.mark.slow
def test_it_plays_on_an_emulator_of_pubsub_as_well(
    emulator: PubSubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a subscription of its own; each row produced is there once, as far as it has come.

    The emulator may hold some for pulls that are over: those come a minute later, or never here.
    """
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", emulator.endpoint.removeprefix("http://"))
    process = started("--pubsub", "--interval=2s", "--windows=2", f"--output={tmp_path}")
    output, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (0, "")
    assert len(CLOSED.findall(output)) >= 2
    assert 0 < number(VERDICT.search(output)) <= number(PRODUCED.search(output))
    hints = output.partition("with your own Pub/Sub")[2]
    assert "unset PUBSUB_EMULATOR_HOST" in hints
    assert "pipeline --input_subscription=projects/PROJECT/subscriptions/NAME --output" in hints


def test_an_emulator_must_be_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is nobody's own Pub/Sub that is filled with samples."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    with pytest.raises(CollectionError, match=r"^--pubsub needs an emulator; start one"):
        checked(["--pubsub"])
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", "127.0.0.1:1")
    assert checked(["--pubsub"]).is_pubsub


def checked(flags: Sequence[str]) -> demo_command.DemoOptions:
    """Check flags as the command line does."""
    parser = Parser()
    demo_command.configure(parser)
    return demo_command.check(parser.parse_args(flags))


@pytest.mark.slow
def test_windows_close_and_every_row_produced_is_in_the_files(tmp_path: Path) -> None:
    """Windows, query, files and audit agree with what was sent, and nothing else is said."""
    process = started("--interval=1s", "--windows=3", f"--output={tmp_path}")
    output, errors = process.communicate(timeout=60)

    assert (process.returncode, errors) == (0, "")
    assert len(CLOSED.findall(output)) >= 3
    produced = number(PRODUCED.search(output))
    assert produced > 0
    assert number(RESULT.search(output)) == produced
    assert number(VERDICT.search(output)) == produced
    collection = tmp_path / "batch-topic"
    assert pyarrow.dataset.dataset(collection / "data").count_rows() == produced
    assert batch_collection.open(collection).rows == produced
    assert "\x1b" not in output  # colours only on a terminal


def test_ctrl_c_ends_it_with_0_and_no_traceback(tmp_path: Path) -> None:
    """While it waits for a window to close."""
    with started("--interval=1m", f"--output={tmp_path}") as process:
        assert process.stdout is not None
        killer = threading.Timer(60, process.kill)
        killer.start()
        for line in process.stdout:
            if line.startswith("time UTC"):
                process.send_signal(signal.SIGINT)
                break
        output, errors = process.communicate(timeout=30)
        killer.cancel()

    assert (process.returncode, errors) == (0, "")
    assert f"stopped; what was collected is in {tmp_path}" in output


def test_wrong_flags_are_reported_together() -> None:
    """The embedded broker keeps too little for long windows."""
    assert checked(["--interval=2s"]).interval == timedelta(seconds=2)
    with pytest.raises(CollectionError) as caught:
        checked(["--interval=2m", "--windows=0"])

    assert str(caught.value).splitlines() == [
        "--interval must be whole seconds, 1m at most, got '2m'",
        "--windows must be a whole number of at least 1, got '0'",
    ]


@pytest.mark.parametrize(
    ("output", "told"),
    [
        ("file", "{there}/file is no directory"),
        ("file/below", "{there}/file is no directory"),
        ("link", "{there}/link is no directory"),
        ("taken", "{there}/taken/batch-topic is no directory"),
    ],
)
def test_where_nothing_can_be_written_is_told_before_a_broker_starts(
    output: str, told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing else is said."""
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "missing")
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken/batch-topic").touch()

    assert main(["demo", f"--output={tmp_path / output}"]) == 2

    error = f"error: --output={tmp_path / output}: {told.format(there=tmp_path)}\n"
    assert capsys.readouterr() == ("", error)


def test_what_another_demo_has_collected_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its broker is gone, and another's messages do not go on where it ended."""
    (tmp_path / "batch-topic/log").mkdir(parents=True)

    assert main(["demo", f"--output={tmp_path}"]) == 2

    error = f"error: --output={tmp_path} holds batch-topic of another broker; "
    assert capsys.readouterr() == ("", f"{error}name another directory\n")


def test_without_a_temporary_directory_one_is_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A container's file system may be read-only."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))

    assert main(["demo"]) == 2

    error = "error: cannot make a temporary directory: No such file or directory; "
    assert capsys.readouterr().err.endswith(f"{error}name one with --output\n")
