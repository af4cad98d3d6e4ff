"""No command lets a name, a reason or a flag steer the terminal, or forge a line of ours."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from batch_collection.log.entries import create_entry
from batch_collection.log.entry import Source
from batch_collection.storage.local import LocalStorage
from pipeline.cli import COMMANDS, main
from tests.builders import Collector, dead_letter, first_entry, message
from tests.collecting import Sending, Stream, dead_letters_of, json_of

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

FORGED = "ok: all is well"
EVIL = f"\x1b[2J\r\n{FORGED}\n\x7f\u202e\u2066\u2028\x9b\udcff"
NAME = EVIL.replace("\udcff", "")
"""What a file can hold as text."""

LOOKS: dict[str, list[list[str]]] = {
    "collect": [
        [f"--topics=a{EVIL}", f"--bootstrap_servers={EVIL}", f"--output={EVIL}/{EVIL}"],
        [f"--config={EVIL}", f"--start={EVIL}", f"--runner={EVIL}", f"--schema={EVIL}"],
        [f'--timestamp=field:"{EVIL}', f"--input_format={EVIL}:{EVIL}", "-X", EVIL],
    ],
    "init": [[f"--topics={EVIL}", f"--output={EVIL}", f"-X{EVIL}={EVIL}"]],
    "preview": [
        [f"--topics=a{EVIL}", "--bootstrap_servers=127.0.0.1:1", f"--messages={EVIL}"],
        [f"--config={EVIL}", f"--schema={EVIL}"],
    ],
    "validate": [
        [f"--topics=a{EVIL}", f"--bootstrap_servers={EVIL}", f"--output={EVIL}/{EVIL}"],
        ["--topics=a", "--bootstrap_servers=127.0.0.1:1", f"--output={NAME}"],
    ],
    "list": [["PATH/.."], ["PATH", "--json"], [EVIL.replace("\udcff", "")]],
    "completion": [[EVIL]],
    "help": [[EVIL], []],
    "version": [[EVIL]],
    "demo": [[f"--interval={EVIL}", f"--output=gs://{EVIL}"]],
    "produce": [[f"--topics={EVIL}", f"--every={EVIL}", f"--count={EVIL}", f"-X{EVIL}"]],
    "follow": [
        ["PATH", "--cursor=a", "--once"],
        ["PATH", f"--cursor={EVIL}", "--once"],
        ["PATH", "--cursor=a", f"--process={EVIL}:{EVIL}"],
    ],
    "announce": [
        ["PATH", "--to=command:true", "--once"],
        ["PATH", f"--to=command:{EVIL}", f"--cursor={EVIL}"],
        ["PATH", f"--to=https://{EVIL}", f"--secret_file={EVIL}"],
    ],
    "serve": [["PATH", f"--http={EVIL}"]],
    "wait": [
        ["PATH", "--window=2026-11-22T10:30:00Z"],
        ["PATH", "--window=2026-11-22T10:40:00Z", "--timeout=0s"],
        ["PATH", f"--window={EVIL}"],
    ],
    "export": [
        ["PATH", "--to=jsonl", "--output=OUT"],
        ["PATH", "--to=jsonl", "--output=OUT2", f"--columns=nothing{EVIL}"],
        ["PATH", "--to=tfrecord", "--output=OUT3", f"--split={EVIL}", f"--by={EVIL}"],
    ],
    "status": [["PATH"], ["PATH", "--json"], ["PATH", f"--last={EVIL}"]],
    "dead-letters": [["PATH"], ["PATH", "--json"], ["PATH", f"--limit={EVIL}"]],
    "redrive": [["PATH", "--dry_run"], ["PATH"], ["PATH", f"--schema={EVIL}"]],
    "schema": [
        ["PATH"],
        ["PATH", "--json"],
        ["PATH", "--pin", f"{NAME}=string", "--dry_run"],
        ["PATH", "--pin", f"{NAME}=string"],
        ["PATH", "--pin", f"{NAME}=string"],
        ["PATH", "--pin", f"{NAME}={NAME}"],
        ["PATH", "--drop", NAME],
        ["PATH", "--drop", f"nothing{NAME}"],
        ["PATH", "--undo"],
        ["PATH", f"--export=OUT{NAME}.parquet"],
        ["PATH", f"--export={EVIL}/x.json"],
    ],
    "audit": [["PATH"]],
    "upgrade": [["PATH"]],
    "expire": [
        ["PATH", "--before=2026-11-22T10:31:00Z", "--dry_run"],
        ["PATH", f"--before={EVIL}"],
    ],
}
"""By command, what it is asked; PATH is a collection that holds such text wherever it can."""


@pytest.fixture
def collection(tmp_path: Path) -> str:
    """Return where a collection lies whose every name is one of those texts."""
    storage = LocalStorage(str(tmp_path / f"collection{NAME}"))
    source = Source("kafka", f"topic{NAME}", f"topic-id{NAME}", f"cluster-id{NAME}")
    collector = Collector(storage, batch_size=1)
    collector.newest = create_entry(storage, first_entry(source=source, host=NAME, run=NAME))
    collector.collect(
        message(0, "10:30:10", **{NAME: 1}), dead_letter(1, f"reason{NAME}"), boundary="10:31:00"
    )
    collector.collect(message(2, "10:31:10", **{NAME: 2}), boundary="10:32:00")
    return storage.uri


def assert_only_ours(said: str) -> None:
    """See that a text has no character that is not printable but our own line feeds."""
    assert [letter for letter in said if letter != "\n" and not letter.isprintable()] == []
    assert [line for line in said.splitlines() if line.lstrip().startswith(FORGED)] == []


def test_every_command_is_looked_at() -> None:
    """A new one is to be added here."""
    assert LOOKS.keys() == COMMANDS.keys()


@pytest.mark.parametrize("command", LOOKS)
def test_foreign_text_is_shown_and_forges_nothing(
    command: str,
    collection: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Names, reasons and flags hold what clears a screen and what looks like a line of ours."""
    monkeypatch.chdir(tmp_path)
    said = ""
    for words in [*LOOKS[command], [EVIL, f"--nonsense{EVIL}", f"-{EVIL}"]]:
        main([command, *(word.replace("PATH", collection) for word in words)])
        found = capfd.readouterr()
        assert_only_ours(found.out + found.err)
        said += found.out + found.err

    assert "\\x1b[2J" in said


@pytest.mark.parametrize("command", ["status", "schema"])
def test_json_stays_json(command: str, collection: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its own escapes are enough: whoever reads it gets the text as it is."""
    assert main([command, collection, "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    names = [each["name"] for each in found.get("columns", ())] or [found["source"]["topic"]]
    assert {NAME, f"topic{NAME}"} & set(names)


def test_a_collector_shows_and_keeps_what_messages_say_escaped(
    embedded: EmbeddedBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Its lines, and the reasons of dead letters, which other programs show."""
    stream = Stream(embedded)
    stream.send(*(Sending(json_of({NAME: value})) for value in (1, NAME)))
    words = [f"--bootstrap_servers={embedded.bootstrap_servers}", f"--topics={stream.name}"]

    assert main(["collect", *words, f"--output={tmp_path / NAME}", "--once", "--flush"]) == 0

    assert_only_ours(capfd.readouterr().err)
    (letter,) = dead_letters_of(tmp_path / NAME / stream.name).values()
    assert "\\x1b[2J" in letter["error"]
    assert_only_ours(letter["error"])
    assert "\n" not in letter["error"]
