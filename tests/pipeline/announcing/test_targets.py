"""Where announcements go beside the web: commands, and topics."""

from __future__ import annotations

import json
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from confluent_kafka import Consumer

from batch_collection.errors import CollectionError
from batch_collection.paths import new_token
from pipeline.announcing.contract import CONTENT_TYPE, Announcement, UndeliveredError
from pipeline.announcing.target import Target

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

EVENT = {"id": "an-id", "source": "file:///data/topic", "subject": "windows/w.r1.json"}
ANNOUNCEMENT = Announcement("an-id", EVENT)


def test_a_command_has_the_event_on_its_standard_input(tmp_path: Path) -> None:
    """Quoted as in a shell, and no shell in between: nothing else has a meaning."""
    program = "import sys; open(sys.argv[1], 'a').write(sys.stdin.read())"
    path = tmp_path / "a file; $HOME"
    publisher = Target(f"command:{sys.executable} -c \"{program}\" '{path}'").open()
    for _ in range(2):
        publisher.publish(ANNOUNCEMENT)
    assert [json.loads(line) for line in path.read_text().splitlines()] == [EVENT, EVENT]


@pytest.mark.parametrize(
    ("program", "why"),
    [
        ("import sys; sys.exit(7)", "exit code 7"),
        ("import os; os.kill(os.getpid(), 9)", "signal 9"),
    ],
)
def test_a_command_that_fails_has_not_taken_it(program: str, why: str) -> None:
    """However it fails."""
    publisher = Target(f'command:{sys.executable} -c "{program}"').open()
    with pytest.raises(UndeliveredError, match=why):
        publisher.publish(ANNOUNCEMENT)


def test_a_topic_has_each_event_under_its_collection(embedded: EmbeddedBroker) -> None:
    """By the rules of CloudEvents for Kafka; one key, so one partition."""
    topic = f"announced-{new_token()}"
    embedded.create_topic(topic)
    servers = embedded.bootstrap_servers
    with closing(Target(f"kafka://{topic}", servers=servers).open()) as publisher:
        for _ in range(2):
            publisher.publish(ANNOUNCEMENT)
    with closing(_consumer(servers, topic)) as consumer:
        found = consumer.consume(2, timeout=10)
    assert [(one.key(), json.loads(one.value() or b"")) for one in found] == [
        (b"file:///data/topic", EVENT)
    ] * 2
    assert dict(found[0].headers() or []) == {"content-type": CONTENT_TYPE.encode()}
    assert len({one.partition() for one in found}) == 1


def _consumer(servers: str, topic: str) -> Consumer:
    consumer = Consumer(
        {"bootstrap.servers": servers, "group.id": topic, "auto.offset.reset": "earliest"}
    )
    consumer.subscribe([topic])
    return consumer


def test_a_topic_that_is_not_there_yet_takes_it_later(embedded: EmbeddedBroker) -> None:
    """It is said at once what is missing; the next try looks again."""
    topic = f"announced-{new_token()}"
    publisher = Target(f"kafka://{topic}", servers=embedded.bootstrap_servers).open()
    told = f"windows/w.r1.json to kafka://{topic}: no topic={topic} at kafka .*; create it"
    with pytest.raises(UndeliveredError, match=told):
        publisher.publish(ANNOUNCEMENT)
    embedded.create_topic(topic)
    publisher.publish(ANNOUNCEMENT)


@pytest.mark.parametrize(
    ("target", "why"),
    [
        (Target("gs://bucket"), "announcements go to https://HOST/PATH, kafka://TOPIC or command:"),
        (Target("kafka://"), "announcements go to"),
        (Target("kafka://a/b"), "announcements go to"),
        (Target("command:"), "no program ''"),
        (Target("command:no-such-program now"), "no program 'no-such-program'"),
        (Target("command:'"), "cannot read the command"),
        (Target("kafka://topic", secret=b"s"), "only what is posted to https:// is signed"),
    ],
)
def test_what_is_no_target_is_refused(target: Target, why: str) -> None:
    """Before anything is collected."""
    with pytest.raises(CollectionError, match=why):
        target.open()


def test_a_secret_is_not_shown() -> None:
    """Nor are properties, where passwords are."""
    shown = repr(Target("https://h", secret=b"hidden", properties={"sasl.password": "hidden"}))
    assert "hidden" not in shown
