"""``preview``: the same columns, rows and dead letters as collecting gives."""

from __future__ import annotations

import json
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

import batch_collection
from pipeline.cli import main
from tests.collecting import Sending, Stream, json_of, sending

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

TEN = datetime(2026, 11, 22, 10, tzinfo=timezone.utc)


def flags_of(stream: Stream) -> list[str]:
    """Name the broker and the topic."""
    return [
        f"--bootstrap_servers={stream.broker.bootstrap_servers}",
        f"--topics={stream.name}",
    ]


@pytest.fixture
def stream(embedded: EmbeddedBroker) -> Stream:
    """Give a topic with good messages, an array, a fraction that comes late, and bad ones."""
    stream = Stream(embedded)
    stream.send(
        *(sending(TEN + timedelta(seconds=n), n % 4, value=n, place={"x": n}) for n in range(80)),
        Sending(
            json_of([{"value": 0.5}, {"value": 1}]), TEN + timedelta(minutes=5, milliseconds=120)
        ),
        Sending(b"not JSON", TEN, 3),
        Sending(None, TEN),
    )
    return stream


def test_it_says_what_collecting_would_make(
    stream: Stream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is collected, nothing is written."""
    assert main(["preview", *flags_of(stream)]) == 1
    assert capsys.readouterr().out.splitlines() == [
        f"{stream.name}: 83 of 83 messages",
        "  82 rows",
        (
            "  row times 2026-11-22T10:00:00Z to 2026-11-22T10:05:00.120Z, in 3 windows of 1m, by "
            "--timestamp=record"
        ),
        "  1 dead letter, the first at partition 3, offset 20",
        (
            "    1  not JSON: Expecting value: line 1 column 1 (char 0); --input_format=bytes "
            "keeps messages as they are"
        ),
        "  columns",
        "    value  double",
        '    place  {"x": "int64"}',
        '  first row {"value": 0.0, "place": {"x": 0}}',
    ]
    assert list(tmp_path.iterdir()) == []

    assert main([*flags_of(stream), f"--output={tmp_path}", "--once"]) == 0
    collected = batch_collection.open(tmp_path / stream.name)
    assert collected.rows == 82
    assert main(["preview", *flags_of(stream), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["schema"] == collected.newest.schema
    assert found["topic"] == stream.name


def test_some_messages_are_some(stream: Stream, capsys: pytest.CaptureFixture[str]) -> None:
    """The first of each partition; the exit code says that all are good."""
    assert main(["preview", *flags_of(stream), "--messages=8", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["messages"], found["available"], found["rows"]) == (8, 83, 8)
    assert found["times"] == ["2026-11-22T10:00:00Z", "2026-11-22T10:00:07Z"]
    assert found["dead_letters"] == {}


def test_an_empty_topic_is_no_mistake(
    embedded: EmbeddedBroker, capsys: pytest.CaptureFixture[str]
) -> None:
    """It has nothing to show."""
    stream = Stream(embedded)
    assert main(["preview", *flags_of(stream)]) == 0
    assert capsys.readouterr().out == f"{stream.name}: 0 of 0 messages\n"


def test_flags_of_collect_count(
    stream: Stream, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """From a file, too, whatever it says of output and engine."""
    config = tmp_path / "collect.yaml"
    config.write_text(
        f"bootstrap_servers: {stream.broker.bootstrap_servers}\ntopics: [{stream.name}]\n"
        "output: gs://bucket/collected\nrunner: PrismRunner\ninput_format: bytes\nhttp: 8080\n"
    )
    assert main(["preview", f"--config={config}", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], list(found["schema"])) == (82, ["value"])


def test_a_subscription_is_not_looked_into(capsys: pytest.CaptureFixture[str]) -> None:
    """Since its messages would be handed out."""
    words = ["preview", "--input_subscription=projects/p-1/subscriptions/orders"]
    assert main(words) == 2
    assert "error: preview is for topics of Kafka" in capsys.readouterr().err
