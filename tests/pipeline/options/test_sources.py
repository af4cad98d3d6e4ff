"""A source from outside is one line: its flags ask for it, and everything else is as with Kafka."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.errors import CollectionError
from batch_collection.inspection.audit import audit
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from pipeline.options import collect as collect_options
from pipeline.options import kafka
from pipeline.options.flags import Parser
from pipeline.options.sources import SOURCES
from tests import toy_source
from tests.builders import at
from tests.collecting import entries_of, json_of

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pipeline.options.sources.SOURCES", [*SOURCES, toy_source])


def put(folder: Path, *numbers: int) -> None:
    """Append messages to two partitions of a stream, of the window from 10:30 on."""
    for number in numbers:
        message = (at("10:30:01"), json_of({"id": number}))
        toy_source.put(folder, "stream", number % 2, message)


def collect(folder: Path, output: Path, *flags: str) -> int:
    """Collect what there is."""
    words = (f"--folder={folder}", "--streams=stream", f"--output={output}", "--once", *flags)
    return cli.main(["collect", *words])


def test_it_is_collected_once_and_gone_on_with(tmp_path: Path) -> None:
    """Windows, files, log, audit and what the source is told are those of any source."""
    folder, output = tmp_path / "streams", tmp_path / "out"
    put(folder, *range(10))
    assert collect(folder, output, "--batch_size=4") == 0
    put(folder, *range(10, 15))
    assert collect(folder, output, "--batch_size=4") == 0
    rows = batch_collection.open(output / "stream").table().to_pylist()
    assert sorted(row["id"] for row in rows) == list(range(15))
    assert {(row["_partition"], row["_offset"]) for row in rows} == {
        (number % 2, number // 2) for number in range(15)
    }
    newest = entries_of(output / "stream")[-1]
    assert (newest.source.kind, newest.source.topic) == ("folder", "stream")
    assert newest.ends == {0: 8, 1: 7}
    (stream,) = toy_source.FolderSettings(("stream",), folder).sources(["stream"])
    assert stream.remembered() == {0: 8, 1: 7}
    assert audit(LocalStorage(str(output / "stream"))).findings == ()


def test_what_is_gone_of_it_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """By the planner, as of any source."""
    folder, output = tmp_path / "streams", tmp_path / "out"
    put(folder, *range(4))
    assert collect(folder, output) == 0
    put(folder, *range(4, 10))
    toy_source.retain(folder, "stream", 0, 4)
    assert collect(folder, output) == 1
    assert "--on_data_loss=skip" in capsys.readouterr().err
    assert collect(folder, output, "--on_data_loss=skip") == 0
    assert sum(read.lost for read in entries_of(output / "stream")[-1].reads) == 2


def test_a_collection_of_another_source_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What lies at the same offsets is something else."""
    folder, output = tmp_path / "streams", tmp_path / "out"
    put(folder, 1, 2)
    assert collect(folder, output) == 0
    monkeypatch.setattr(toy_source, "KIND", "other")
    assert collect(folder, output) == 2
    assert "was collected from folder, not other; use another --output" in capsys.readouterr().err


def test_flags_of_two_sources_are_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Each of the source that is not collected from, whichever was asked for first."""
    assert collect(tmp_path, tmp_path / "out", "--group_id=a", "-Xacks=1") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {flag} is for Kafka, and these flags collect from folder; leave one of both out"
        for flag in ("--group_id", "-X")
    ]
    assert collect(tmp_path, tmp_path / "out", "--bootstrap_servers=a:1", "--topics=a") == 2
    assert capsys.readouterr().err.splitlines() == [
        f"error: {flag} is for folder, and these flags collect from Kafka; leave one of both out"
        for flag in ("--folder", "--streams")
    ]


def test_without_any_the_first_says_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """Kafka, as before there was another."""
    assert SOURCES[0] is kafka
    assert cli.main(["collect", "--output=x", "--once"]) == 2
    assert "--topics is missing" in capsys.readouterr().err


def test_a_rule_may_name_an_attribute_where_messages_have_some(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Decoding is told the kind of source, which settles what names a column can't have."""
    monkeypatch.setattr("pipeline.options.sources.SOURCES", [toy_source])
    flags = [
        *(f"--folder={tmp_path}", "--streams=stream", f"--output={tmp_path}"),
        *("--timestamp=attribute:sent.at", "--timestamp_unit=ms"),
    ]
    parser = Parser()
    collect_options.configure(parser)
    args = parser.parse_args(flags)
    with pytest.raises(CollectionError) as refused:
        collect_options.check(args)
    monkeypatch.setattr(toy_source.FolderSettings, "kind", "pubsub")

    rules = collect_options.check(args).rules

    assert (rules.kind, rules.row_time) == ("pubsub", "attribute:sent.at")
    assert str(refused.value).splitlines() == [
        "--timestamp must be record, collected or field:NAME, got 'attribute:sent.at'",
        "--timestamp_unit goes with --timestamp=field:NAME",
    ]
