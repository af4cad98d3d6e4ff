"""``list``: collections, a line each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.builders import Collector, dead_letter, message

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def test_each_collection_has_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By name; what is none is left out."""
    (tmp_path / "other").mkdir()
    for name, count in (("b", 3), ("a", 1)):
        collector = Collector(LocalStorage(str(tmp_path / name)))
        collector.collect(*map(message, range(count)), dead_letter(count), boundary="10:31:00")
    Collector(LocalStorage(str(tmp_path / "c"))).start()
    assert main(["list", str(tmp_path)]) == 0
    head, *lines = capsys.readouterr().out.splitlines()
    names = ["name", "source", "rows", "files", "size", "dead letters", "cycle", "closed up to"]
    assert re.split(r"\s{2,}", head.strip()) == [*names, "last commit"]
    assert [line.split()[:4] for line in lines] == [
        ["a", "batch-topic", "1", "1"],
        ["b", "batch-topic", "3", "1"],
        ["c", "batch-topic", "0", "0"],
    ]
    assert "2026-11-22 10:31:00 UTC" in lines[0]
    assert "nothing yet" in lines[2]
    assert main(["list", str(tmp_path), "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(each["name"], each["totals"]["rows"]) for each in found] == [
        ("a", 1),
        ("b", 3),
        ("c", 0),
    ]


def test_one_that_can_not_be_read_hides_no_other(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told, and the exit code says so."""
    for name in ("a", "b"):
        collector = Collector(LocalStorage(str(tmp_path / name)))
        collector.collect(message(0), boundary="10:31:00")
    (tmp_path / "a" / entry_path(1)).write_text("{")
    assert main(["list", str(tmp_path)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split()[0] == "b"
    assert lines[2].startswith("a: ")
    assert main(["list", str(tmp_path), "--json"]) == 1
    assert "error" in json.loads(capsys.readouterr().out.splitlines()[0])


def test_without_any_it_says_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    assert main(["list", str(tmp_path)]) == 2
    told = f"error: no collection in {tmp_path}; give the directory that --output named\n"
    assert capsys.readouterr().err == told
