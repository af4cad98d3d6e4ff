"""``follow``: a function from the shell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.loading import load_function
from batch_collection.log.entries import append_entry
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.builders import Collector, message

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[3]
MODULE = """
from pathlib import Path

def note(batch):
    with Path("noted.txt").open("a") as file:
        file.write(f"{batch.id} {batch.table().num_rows}\\n")
    print(batch.id, flush=True)

def fail(batch):
    raise RuntimeError(batch.id)

number = 7
"""


@pytest.fixture
def collector(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    """Return a collector with two batches, in a directory with a module of the user's."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")), batch_size=2)
    collector.collect(*(message(offset) for offset in range(3)), boundary="10:31:00")
    (tmp_path / "users_own.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    known = set(sys.modules)
    yield collector
    for name in set(sys.modules) - known:
        if name == "users_own" or name.startswith("_working_directory_"):
            del sys.modules[name]


def follow(collector: Collector, *flags: str) -> int:
    """Run the command to the end of the log."""
    return main(["follow", collector.storage.uri, "--cursor=a", "--once", *flags])


def test_batches_are_printed_as_json(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object a line, with all that tells the batch; its file is where it says."""
    assert follow(collector, "--json") == 0
    first, second = (json.loads(line) for line in capsys.readouterr().out.splitlines())
    assert Path(first["uri"]).is_file()
    assert first["uri"] == f"{collector.storage.uri}/{first.pop('path')}"
    del first["uri"]
    assert first == {
        "id": "0000000001-0000",
        "cycle": 1,
        "number": 0,
        "window_start": "2026-11-22T10:30:00Z",
        "window_end": "2026-11-22T10:31:00Z",
        "timing": "on_time",
        "rows": 2,
    }
    assert (second["id"], second["rows"]) == ("0000000001-0001", 1)
    assert follow(collector, "--json", "--process=users_own:note") == 2
    assert "leave one of both out" in capsys.readouterr().err


def test_each_batch_is_handed_to_the_function_once(collector: Collector, tmp_path: Path) -> None:
    """A second run goes on where the first one ended."""
    assert follow(collector, "--process=users_own:note") == 0
    assert follow(collector, "--process=users_own:note") == 0

    assert (tmp_path / "noted.txt").read_text() == "0000000001-0000 2\n0000000001-0001 1\n"


def test_what_flush_wrote_is_not_called_early(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What ``--batch_size`` cut is."""
    collector = Collector(LocalStorage(str(tmp_path)), batch_size=1)
    collector.collect(message(0))
    entry = replace(collector.plan(message(1)), cause="flush")
    append_entry(collector.storage, entry)
    assert main(["follow", str(tmp_path), "--cursor=a", "--once"]) == 0
    assert [line.split()[3] for line in capsys.readouterr().out.splitlines()] == [
        "early",
        "flushed",
    ]


@pytest.mark.parametrize("name", ["pipeline", "transforms"])
def test_a_user_may_call_a_module_as_we_do(name: str, collector: Collector, tmp_path: Path) -> None:
    """Ours was found, and had no such function."""
    (tmp_path / f"{name}.py").write_text(MODULE)

    assert follow(collector, f"--process={name}:note") == 0

    assert (tmp_path / "noted.txt").read_text() == "0000000001-0000 2\n0000000001-0001 1\n"


def test_without_a_function_a_line_is_printed(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """To look at what comes."""
    assert follow(collector) == 0

    first, _ = capsys.readouterr().out.splitlines()
    window = "0000000001-0000  2026-11-22 10:30:00  on_time"
    assert first.startswith(f"{window}          2 rows  data/window_date=")


def test_what_the_function_raises_is_told_and_its_batch_comes_again(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its own frames are what the user needs, and none of ours."""
    assert follow(collector, "--process=users_own:fail") == 1
    told = capsys.readouterr().err.splitlines()
    frames = [line for line in told if line.startswith("  File ")]
    assert frames == [f'  File "{tmp_path}/users_own.py", line 10, in fail']
    assert told[-2] == "RuntimeError: 0000000001-0000"
    assert told[-1].startswith("error: --process=users_own:fail failed at batch 0000000001-0000 (")
    assert told[-1].endswith("); it is not remembered as read, and comes again with the next run")
    assert follow(collector, "--process=users_own:note") == 0

    assert len((tmp_path / "noted.txt").read_text().splitlines()) == 2


def test_who_may_only_read_remembers_elsewhere(
    collector: Collector, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The collection is left as it is; the error says so, and names the whole path."""
    uri = collector.storage.uri
    words = ["follow", uri, "--once", "--process=users_own:note"]
    (Path(uri) / "cursors").write_text("no folder, so that nobody may write into it")
    assert main([*words, "--cursor=a"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: cannot look up the place in {uri}/cursors/a.json: ")
    assert told.endswith("it can be elsewhere: --cursor_file (follow(cursor_file=...))\n")
    assert main([*words, "--cursor_file=/proc/place.json"]) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: cannot remember the place in /proc/place.json: ")

    for _ in range(2):
        assert main([*words, "--cursor_file=place.json"]) == 0
    place = json.loads((tmp_path / "place.json").read_text())
    assert (place["cycle"], place["index"]) == (2, 0)  # all of cycle 1
    assert len((tmp_path / "noted.txt").read_text().splitlines()) == 2

    assert main([*words, f"--cursor_file={tmp_path}/"]) == 2
    assert "error: cursor_file must be a file" in capsys.readouterr().err
    for flags in ([], ["--cursor=a", "--cursor_file=b"]):
        assert main([*words, *flags]) == 2
        told = "error: give --cursor=NAME or --cursor_file=FILE, one of the two\n"
        assert capsys.readouterr().err == told
    with pytest.raises(CollectionError, match="give one of cursor and cursor_file, got None"):
        batch_collection.open(uri).follow()


def test_latest_begins_at_the_end(collector: Collector, tmp_path: Path) -> None:
    """Nothing of what is there."""
    assert follow(collector, "--process=users_own:note", "--start=latest") == 0

    assert not (tmp_path / "noted.txt").exists()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_the_batch_remembered(
    collector: Collector, tmp_path: Path, number: signal.Signals
) -> None:
    """A real process, told to end while it waits: exit code 0, at once."""
    command = ["follow", collector.storage.uri, "--cursor=a", "--process=users_own:note"]
    process = subprocess.Popen(
        [sys.executable, "-m", "pipeline", *command, "--poll=1h"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert [next(lines).strip(), next(lines).strip()] == ["0000000001-0000", "0000000001-0001"]
        process.send_signal(number)
        assert process.wait(timeout=30) == 0

    place = json.loads((tmp_path / "collection/cursors/a.json").read_text())
    assert (place["cycle"], place["index"]) == (2, 0)  # all of cycle 1


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nothing", "--process must be MODULE:FUNCTION, got 'nothing'"),
        ("no_such:f", "cannot load --process=no_such:f: No module named 'no_such'"),
        ("users_own:f", "module 'users_own' has no attribute 'f'"),
        ("users_own:number", "--process=users_own:number is no function but a int"),
    ],
)
def test_a_function_that_is_none_is_one_line(
    collector: Collector, name: str, expected: str
) -> None:
    """Before anything is read."""
    assert collector.newest is not None
    with pytest.raises(CollectionError, match=expected):
        load_function("process", name)


def test_wrong_flags_are_reported_together(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each with its cure."""
    assert main(["follow", collector.storage.uri, "--poll=soon", "--start=first"]) == 2

    assert capsys.readouterr().err.splitlines() == [
        "error: give --cursor=NAME or --cursor_file=FILE, one of the two",
        "error: --poll is not a duration: 'soon'; write it as 10s, 1m, 1h30m or 250ms",
        "error: unknown --start=first; use one of: earliest, latest",
    ]
