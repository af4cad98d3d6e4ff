"""``dead-letters``: what it shows, counts and leaves out."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.builders import Collector, at, dead_letter, message

if TYPE_CHECKING:
    from pathlib import Path

MISFIT = 'column id is int64 and can\'t hold "{}"; give it type string: `...`'


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector of two partitions with dead letters of two kinds, in two cycles."""
    collector = Collector(LocalStorage(str(tmp_path / "my collection")))
    collector.start((0, 1))
    letters = [dead_letter(number, MISFIT.format(number)) for number in range(3)]
    collector.collect(*letters, message(3), boundary="10:31:00")
    collector.collect(dead_letter(0, "too deep", partition=1), boundary="10:32:00")
    return collector


def test_they_are_counted_by_reason_and_shown(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """In the order of the log, with the next command."""
    uri = collector.storage.uri
    assert main(["dead-letters", uri, "--limit=3"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "4 dead letters",
        f"  3  {MISFIT.format(0)}",
        "  1  too deep",
        "",
        "  partition  offset                timestamp  value",
        "          0       0  2026-11-22 10:30:00 UTC    '{'",
        "          0       1  2026-11-22 10:30:00 UTC    '{'",
        "          0       2  2026-11-22 10:30:00 UTC    '{'",
        "  ... and 1 more; --limit shows more, --json all of them",
        f"to decode them again: batch-collection redrive '{uri}'",
    ]


@pytest.mark.parametrize(
    ("flag", "offsets"),
    [
        ("--reason=deep", [(1, 0)]),
        ("--partition=0", [(0, 0), (0, 1), (0, 2)]),
        ("--partition=7", []),
    ],
)
def test_some_are_chosen(
    collector: Collector,
    capsys: pytest.CaptureFixture[str],
    flag: str,
    offsets: list[tuple[int, int]],
) -> None:
    """By their reason or partition; as JSON each is a line, whatever the limit."""
    assert main(["dead_letters", collector.storage.uri, "--json", "--limit=0", flag]) == 0
    letters = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [(letter["partition"], letter["offset"]) for letter in letters] == offsets
    for letter in letters:
        assert (letter["stage"], letter["value"], letter["key"]) == ("decode", "{", None)
        assert letter["timestamp"] == "2026-11-22T10:30:00Z"
        assert letter["reason"]
        assert collector.storage.size(letter["file"])


def test_what_is_expired_is_none(collector: Collector, capsys: pytest.CaptureFixture[str]) -> None:
    """Nor is there anything to be said of it."""
    collector.collect(boundary="10:33:00")
    collector.collect(boundary="10:34:00")
    expire(collector.storage, at("10:33:00"), at("10:40:00"))
    assert main(["dead-letters", collector.storage.uri]) == 0
    assert capsys.readouterr().out == "0 dead letters\n"


def test_mistakes_are_told_in_one_line_each(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Flags, and a place where no collection is."""
    assert main(["dead-letters", str(tmp_path), "--partition=x", "--limit=-1"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert main(["dead-letters", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: no collection in {tmp_path}")
