"""``validate``: says what would keep ``collect`` from beginning, and leaves nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batch_collection.paths import LOG
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.collecting import Stream, sending

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from transforms.sources.kafka.embedded import EmbeddedBroker


def flags_of(stream: Stream, output: Path) -> list[str]:
    """Name the broker, the topic and the output."""
    return [
        f"--bootstrap_servers={stream.broker.bootstrap_servers}",
        f"--topics={stream.name}",
        f"--output={output}",
    ]


def files_below(folder: Path) -> dict[str, bytes]:
    """Return all files, and folders as empty ones."""
    return {
        str(path.relative_to(folder)): path.read_bytes() if path.is_file() else b""
        for path in folder.rglob("*")
    }


def test_each_thing_that_was_tried_has_a_line(
    embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first run, and again when there is a collection; nothing comes of it."""
    stream, output = Stream(embedded), tmp_path / "deep" / "collected"
    stream.send(sending(None, value=1), sending(None, value=2))
    words, uri = flags_of(stream, output), f"{output}/{stream.name}"
    assert main(["validate", *words, "--interval=10s", "--start=latest"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        f"ok      flags: windows of 10s, at most 1,000,000 rows a file, into {output}",
        f"ok      output {uri}: files can be made there, each by one process only, and moved",
        f"ok      kafka at {embedded.bootstrap_servers}: it answers",
        f"ok      {stream.name}: 4 partitions, 2 messages",
        f"ok      reading {stream.name}: a message was read",
        f"ok      collection {uri}: it is new, and begins with --start=latest",
    ]
    assert list(tmp_path.iterdir()) == []

    assert main([*words, "--once"]) == 0
    before = files_below(tmp_path)
    capsys.readouterr()
    assert main(["validate", *words, "--group_id=readers"]) == 0
    *_, group, collection = capsys.readouterr().out.splitlines()
    assert (
        group == f"ok      group readers of {stream.name}: it has committed offsets of 0 partitions"
    )
    assert collection == f"ok      collection {uri}: it goes on after cycle 1, with 0 rows"
    assert files_below(tmp_path) == before


def test_all_that_is_wrong_is_told(
    embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A topic that is missing, other flags than before, and lost messages each have their line."""
    stream = Stream(embedded)
    words = flags_of(stream, tmp_path)
    assert main([*words, "--once", "--interval=10s"]) == 0
    assert main([*words, "--once", "--interval=10s", "--flush"]) == 0
    stream.send(sending(None, value=1))
    assert main([*words, "--once", "--interval=10s"]) == 0
    capsys.readouterr()
    words[1] += ",not-there"
    assert main(["validate", *words]) == 2
    failed = [line for line in capsys.readouterr().out.splitlines() if line.startswith("FAILED")]
    uri = f"{tmp_path}/{stream.name}"
    assert failed == [
        (
            f"FAILED  collection {uri}: --interval=1m, but {uri} was begun with --interval=10s; "
            "use --interval=10s or another --output"
        ),
        failed[1],
    ]
    assert failed[1].startswith("FAILED  not-there: no topic=not-there at kafka")


def test_where_nobody_answers_the_output_is_tried_all_the_same(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It lies here, and can be put right before the broker is back."""
    flags = ["--bootstrap_servers=127.0.0.1:1", "--topics=a", f"--output={tmp_path}"]
    assert main(["validate", *flags]) == 2
    said = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in said[1:]] == [
        f"ok      output {tmp_path}/a",
        "FAILED  kafka at 127.0.0.1",
    ]


def test_an_output_that_can_not_be_written_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The collection's own folder is tried, not only the one that it lies in."""
    (tmp_path / "a").write_text("")
    flags = ["--bootstrap_servers=127.0.0.1:1", "--topics=a", f"--output={tmp_path}"]
    assert main(["validate", *flags]) == 2
    assert f"FAILED  output {tmp_path}/a: cannot write staging/" in capsys.readouterr().out
    assert (tmp_path / "a").is_file()


def test_a_storage_where_two_may_win_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The fence is tried: all guarantees stand on it."""
    monkeypatch.setattr(LocalStorage, "create", LocalStorage.replace)
    flags = ["--bootstrap_servers=127.0.0.1:1", "--topics=a", f"--output={tmp_path}"]
    assert main(["validate", *flags]) == 2
    told = f"FAILED  output {tmp_path}/a: {tmp_path}/a lets two processes create the same file"
    assert told in capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_mistakes_in_flags_are_told_as_by_collect(capsys: pytest.CaptureFixture[str]) -> None:
    """All together, before anything is asked."""
    assert main(["validate", "--topics=a", "--interval=soon", f"--{LOG}"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 4
    assert any("--output is missing" in line for line in lines)
