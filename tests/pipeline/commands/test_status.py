"""``status``: what it prints."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Producer

from batch_collection.inspection.status import IdsStatus, status
from batch_collection.paths import entry_path
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from pipeline.commands.status import configure, described
from pipeline.options.command_parser import CommandParser
from pipeline.showing.wording import humanised_bytes, humanised_duration
from tests.builders import Collector, at, dead_letter, message, varied
from tests.collecting import ROOT
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from pathlib import Path

EXPECTED = """\
kafka topic batch-topic, windows of 1m by row time (record)

  newest entry           cycle 3, 2026-11-22 10:32:04 UTC, 1m 6s ago
  closed up to           2026-11-22 10:32:00 UTC
  rows                   7 in 5 files, about 1 in each, SIZE
  waiting                1 row
  windows                2 closed, 0 empty, 1 open
  late                   1 row
  messages               12, of them 4 dead letters, 0 tombstones, 0 empty
  window end to visible  2.0s median, 4.0s p99
  row time to visible    52.0s median, 1m 44s p99 (estimated)
  lag                    1,008 messages: partition 1 1,000, partition 0 8

last cycles
  cycle       committed     cause  messages  rows  windows  files  late  dead letters
      2  11-22 10:31:02  interval         1     1        1      1     0             0
      3  11-22 10:32:04  interval         4     4        3      3     1             0

open windows
                    start  in batches  waiting
  2026-11-22 10:32:00 UTC           2        1

dead letters by reason
  3  not JSON
  1  too deep
  for another type (first with --dry_run): batch-collection schema URI --pin COLUMN=TYPE
  to decode them again: batch-collection redrive URI
  to see them: batch-collection dead-letters URI"""


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector with a bit of everything."""
    letters = dead_letter(3), dead_letter(4), dead_letter(5), dead_letter(6, "too deep")
    return varied(tmp_path / "collection", *letters)


def test_status_is_a_page_to_read(collector: Collector) -> None:
    """Facts, cycles, open windows and reasons, aligned."""
    found = status(collector.storage, last=2, end_offsets={0: 20, 1: 1000})
    lines = described(found, at("10:33:10"))
    size = humanised_bytes(found.totals.bytes)

    assert lines[0] == collector.storage.uri
    text = "\n".join(_without_column(line) for line in lines[1:])
    assert text.replace(size, "SIZE").replace(found.uri, "URI") == EXPECTED


def _without_column(line: str) -> str:
    """Take the column of bytes out of the table of cycles: they are pyarrow's business."""
    return re.sub(r"(  files) +bytes", r"\1", re.sub(r"(\d)  +[\d.]+ k?B(  )", r"\1\2", line))


def test_status_runs_from_the_shell(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """As text, and as JSON."""
    assert main(["status", collector.storage.uri]) == 0
    assert "newest entry           cycle 3," in capsys.readouterr().out

    assert main(["status", collector.storage.uri, "--json", "--last=1"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["cycle"], len(found["cycles"]), found["lag"]) == (3, 1, None)


def test_what_is_committed_and_not_visible_is_told(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Batches are read all the same, but not by readers of data/."""
    collector.collect(message(12, "10:33:00"), boundary="10:34:00", published=False)
    assert main(["status", collector.storage.uri]) == 0
    line = "  NOT VISIBLE            2 files of cycle 4 are committed, not in their place yet; "
    assert line in capsys.readouterr().out
    assert status(collector.storage).unpublished_files == 2


def test_lag_is_asked_of_the_broker(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The topic's ends less where the newest entry ended."""
    collector = Collector(LocalStorage(str(tmp_path)))
    first = collector.plan(message(0))
    source = replace(first.source, topic_id=None)
    collector.storage.replace(entry_path(1), replace(first, source=source).to_json())
    with EmbeddedBroker() as broker:
        broker.create_topic("batch-topic")
        producer = Producer({"bootstrap.servers": broker.bootstrap_servers})
        flag = f"--bootstrap-servers={broker.bootstrap_servers}"
        for values, lag in (([b"a"], "0 messages"), ([b"b", b"c"], "2 messages: partition 0 2")):
            for value in values:
                producer.produce("batch-topic", value, partition=0)
            producer.flush()
            assert main(["status", str(tmp_path), flag]) == 0
            assert f"  lag                    {lag}\n" in capsys.readouterr().out


def test_another_topic_of_that_name_has_no_lag(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its offsets say nothing about this collection."""
    with EmbeddedBroker() as broker:
        broker.create_topic("batch-topic")
        flag = f"--bootstrap_servers={broker.bootstrap_servers}"
        assert main(["status", collector.storage.uri, flag]) == 0

    told = (
        "  lag                    unknown: topic=batch-topic there is not the one collected: its id"
    )
    assert told in capsys.readouterr().out


def test_a_broker_that_is_away_takes_only_the_lag(
    collector: Collector, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Within 5 s, with a word meanwhile and none of the client's; its settings may be a file's."""
    file = tmp_path / "properties"
    file.write_text("security.protocol=plaintext\n")
    words = ["status", collector.storage.uri, "--bootstrap_servers=127.0.0.1:1"]
    began = time.monotonic()
    assert main([*words, f"--consumer_config={file}"]) == 0
    assert time.monotonic() - began < 5

    out, err = capfd.readouterr()
    assert "newest entry           cycle 3," in out
    assert "  lag                    unknown: cannot list topics: no answer from kafka at " in out
    assert err == "waiting for kafka at 127.0.0.1:1, for the lag ...\n"

    assert main([*words, "--json"]) == 0
    found = json.loads(capfd.readouterr().out)
    assert (found["cycle"], found["lag"]) == (3, None)
    assert "Connection refused; check --bootstrap_servers" in found["lag_unknown"]


def test_settings_that_are_no_settings_are_mended_first(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are no broker's fault, and all are told at once."""
    words = ["status", collector.storage.uri, "--bootstrap_servers=a b:9092", "-X", "nothing"]
    assert main([*words, "--last=0"]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 3
    words = ["status", collector.storage.uri, "--bootstrap_servers=localhost:1"]
    assert main([*words, "-X", "no.such=1"]) == 2
    assert "bad kafka settings" in capsys.readouterr().err


def test_it_is_shown_again_and_again_until_a_signal(collector: Collector) -> None:
    """Also once a commit has come since; as JSON each time is a line."""
    words = ["status", collector.storage.uri, "--watch=100ms", "--json", "--last=1"]
    watching = subprocess.Popen(
        [sys.executable, "-m", "pipeline.__main__", *words],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    assert json.loads(watching.stdout.readline())["cycle"] == 3
    collector.collect(boundary="10:33:00")
    assert any(json.loads(line)["cycle"] == 4 for line in watching.stdout)
    watching.send_signal(signal.SIGINT)
    watching.communicate(timeout=60)
    assert watching.returncode == 0


@pytest.mark.parametrize(
    ("words", "given"),
    [
        (["--watch", "a"], "2s"),
        (["a", "--watch"], "2s"),
        (["--watch", "a", "--json"], "2s"),
        (["--watch=5", "a"], "5"),
        (["a", "--watch=5m"], "5m"),
        (["a"], None),
    ],
)
def test_how_often_it_is_shown_stands_behind_an_equals_sign(
    words: list[str], given: str | None
) -> None:
    """A word behind --watch is the path, wherever the flag stands."""
    parser = CommandParser("status", "", "")
    configure(parser)
    args, unknown, errors = parser.read(words)
    assert (args.path, args.watch, unknown, errors) == ("a", given, [], [])
    assert "\n  --watch[=DURATION] " in parser.format_help()


def test_what_is_watched_must_be_there(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the time between two looks must be one; a number alone is seconds."""
    assert main(["status", f"{collector.storage.uri}-not", "--watch"]) == 2
    assert "no collection" in capsys.readouterr().err
    assert main(["status", collector.storage.uri, "--watch=0"]) == 2
    told = "error: --watch must be at least 100ms, got '0s'\n"
    assert capsys.readouterr().err == told


def test_what_is_expired_is_told_beside_what_is_there(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """And the account of messages says what of it is gone."""
    collector.collect(boundary="10:33:00")
    expire(collector.storage, at("10:31:00"), at("10:34:00"))
    assert main(["status", collector.storage.uri]) == 0
    out = capsys.readouterr().out
    assert "  rows                   4 in 3 files, about 1 in each, " in out
    assert "  expired                4 in 3 files, " in out
    assert "  windows                3 closed, 0 empty, 0 open, expired ones included" in out
    assert "of them 4 dead letters (4 expired), 0 tombstones" in out


def test_a_collection_that_is_new_has_a_status(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the first row."""
    Collector(LocalStorage(str(tmp_path))).start()

    assert main(["status", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "closed up to           nothing yet" in out
    assert "window end to visible  nothing in these cycles\n" in out
    assert "row time to visible    nothing in these cycles\n" in out
    assert "open windows" not in out


def test_no_collection_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """And exit code 2."""
    assert main(["status", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: no collection in {tmp_path}: it has no log/")


def test_a_wrong_number_is_one_line(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the cure."""
    assert main(["status", collector.storage.uri, "--last=0"]) == 2
    expected = "error: --last must be a whole number of at least 1, got '0'\n"
    assert capsys.readouterr().err == expected


@pytest.mark.parametrize(
    ("count", "text"),
    [(0, "0 B"), (999, "999 B"), (1000, "1 kB"), (12_345_678, "12.3 MB"), (999_999, "1000 kB")],
)
def test_sizes_have_three_digits(count: int, text: str) -> None:
    """In powers of a thousand."""
    assert humanised_bytes(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0ms"),
        (0.25, "250ms"),
        (2.14, "2.1s"),
        (59.97, "1m"),
        (65, "1m 5s"),
        (3600, "1h"),
        (90_061, "1d 1h"),
        (-2, "-2.0s"),
    ],
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    """The highest ones."""
    assert humanised_duration(timedelta(seconds=seconds)) == text


def test_ids_that_are_kept_are_shown(collector: Collector) -> None:
    """Of a leased source, with what came again."""
    found = replace(status(collector.storage), ids=IdsStatus(12_000, 300, 102_000, repeated=4))
    (line,) = (line for line in described(found, at("10:33:10")) if "ids kept" in line)
    assert line.split("ids kept")[1].strip() == (
        "12,000, 102 kB, 300 of them not known to be acknowledged; 4 messages came again in these "
        "cycles"
    )
