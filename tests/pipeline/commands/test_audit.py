"""``audit``: what it prints, and its exit code."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.builders import Collector, dead_letter, message


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with a batch and a dead letter."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")))
    collector.collect(message(0), message(1), dead_letter(2), boundary="10:31:00")
    return collector


def test_a_sound_collection_is_ok(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, exit code 0."""
    assert main(["audit", collector.storage.uri]) == 0

    line = capsys.readouterr().out
    assert line.startswith("ok: 2 entries, 1 file (")
    assert line.endswith(
        " 2 rows and 0 waiting of 3 messages, 1 dead letter; every offset in one place\n"
    )


def test_each_finding_is_a_line(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    """Then how many, exit code 1."""
    (path,) = collector.storage.list("data")
    Path(collector.storage.uri, path).unlink()

    assert main(["audit", collector.storage.uri]) == 1
    first, last = capsys.readouterr().out.splitlines()
    assert first == f"{path} is missing"
    assert last.startswith("1 finding in 2 entries, ")


def test_programs_get_json(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    """The same findings and counts, the same exit code."""
    assert main(["audit", collector.storage.uri, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["findings"] == []
    assert (found["counts"]["rows"], found["counts"]["dead_letters"]) == (2, 1)
    (path,) = collector.storage.list("data")
    Path(collector.storage.uri, path).unlink()
    assert main(["audit", collector.storage.uri, "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["findings"] == [f"{path} is missing"]


def test_files_without_offsets_are_said_to_be_less_checked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ok must not say more than was looked at."""
    Collector(LocalStorage(str(tmp_path)), metadata="none").collect(message(0), boundary="10:31:00")

    assert main(["audit", str(tmp_path)]) == 0
    assert "offsets not checked, some files have no _offset" in capsys.readouterr().out


def test_what_is_committed_and_not_visible_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With ok as long as its collector may just be moving it; readers of data/ do not see it."""
    collector = Collector(LocalStorage(str(tmp_path)))
    entry = collector.plan(message(0), boundary="10:31:00")
    young = replace(entry, committed_at=datetime.now(timezone.utc))
    old = replace(entry, committed_at=datetime.now(timezone.utc) - timedelta(hours=1))
    path = entry_path(1)
    collector.storage.replace(path, young.to_json())
    assert main(["audit", str(tmp_path)]) == 0
    line = capsys.readouterr().out
    assert line.startswith("ok: ")
    assert line.endswith("; 1 file committed, not visible yet\n")

    collector.storage.replace(path, old.to_json())
    assert main(["audit", str(tmp_path)]) == 1
    assert "committed, not visible: files=1, such as data/" in capsys.readouterr().out


def test_no_collection_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit code 2: nothing was audited."""
    assert main(["audit", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith("error: no collection in")
