"""``list``: collections, a line each."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.builders import Collector, dead_letter, message
from tests.collecting import Stream, sending
from transforms.sources.kafka.broker import Broker

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from transforms.sources.kafka.embedded import EmbeddedBroker


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


def test_a_star_of_the_shell_lists_what_it_stands_for(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Directories and collections, each once; of a name that two have, the whole path."""
    for name in ("x/a", "x/b", "y/a"):
        Collector(LocalStorage(str(tmp_path / name))).collect(message(0), boundary="10:31:00")
    (tmp_path / "z").mkdir()
    (tmp_path / "notes").touch()

    def listed(*roots: str, code: int = 0) -> list[str]:
        assert main(["list", *(str(tmp_path / root) for root in roots)]) == code
        return [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]

    assert listed("x/b", "x/a") == ["b", "a"]
    assert listed("x", "x/a", "x/b") == ["a", "b"]
    assert listed("x", "y") == [f"{tmp_path}/x/a", "b", f"{tmp_path}/y/a"]
    words = ["list", *map(str, sorted(tmp_path.iterdir())), "--json"]
    assert main(words) == 1
    *_, notes, none = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert notes["error"] == f"cannot list {tmp_path}/notes: Not a directory"
    assert none["error"].startswith(f"no collection in {tmp_path}/z; ")
    assert main(words[:-1]) == 1
    *_, first, last = capsys.readouterr().out.splitlines()
    assert (first, last) == (notes["error"], none["error"])


def test_each_root_that_holds_none_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where there is no collection at all; and without a root it is what is missing."""
    assert main(["list", f"{tmp_path}/a", f"{tmp_path}/b"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 2
    assert main(["list"]) == 2
    assert capsys.readouterr().err == (
        "error: ROOT is missing; give a directory that collections lie in, or a collection; as "
        "many as you like\n"
    )
    assert main(["list", ""]) == 2
    assert capsys.readouterr().err.startswith("error: a path is empty; name a directory")


def test_the_lag_is_asked_of_the_brokers(
    embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of each topic that is there; of others it is said why it is not known."""
    stream = Stream(embedded)
    flag = f"--bootstrap_servers={embedded.bootstrap_servers}"
    assert main([flag, f"--topics={stream.name}", f"--output={tmp_path}", "--once"]) == 0
    stream.send(*(sending(None, value=value) for value in range(3)))
    Collector(LocalStorage(str(tmp_path / "a"))).collect(message(0), boundary="10:31:00")
    capsys.readouterr()
    assert main(["list", str(tmp_path), flag]) == 0
    head, *lines, why = capsys.readouterr().out.splitlines()
    assert head.endswith("last commit      lag")
    assert [(line.split()[0], line.split()[-1]) for line in lines] == [
        ("a", "unknown"),
        (stream.name, "3"),
    ]
    assert why.startswith("lag unknown: no topic=batch-topic at kafka")
    assert main(["list", str(tmp_path), flag, "--json"]) == 0
    found = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["lag"] for each in found] == [None, {"0": 3, "1": 0, "2": 0, "3": 0}]


def test_brokers_that_are_away_are_asked_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """However many collections there are."""
    asked = []
    listing = Broker._metadata  # noqa: SLF001 - the request itself

    def counted(broker: Broker) -> object:
        asked.append(broker)
        return listing(broker)

    monkeypatch.setattr(Broker, "_metadata", counted)
    for name in "abc":
        Collector(LocalStorage(str(tmp_path / name))).collect(message(0), boundary="10:31:00")
    assert main(["list", str(tmp_path), "--bootstrap_servers=127.0.0.1:1"]) == 0
    assert capsys.readouterr().out.splitlines()[4].startswith("lag unknown: cannot list topics")
    assert len(asked) == 1


def test_without_any_it_says_what_to_give(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line."""
    assert main(["list", str(tmp_path)]) == 2
    told = f"error: no collection in {tmp_path}; give the directory that --output named\n"
    assert capsys.readouterr().err == told
