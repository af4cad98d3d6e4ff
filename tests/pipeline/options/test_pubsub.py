"""The flags of Pub/Sub: what they become, and what is said of those that don't go together."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import CollectionError
from pipeline.options import collect, pubsub
from pipeline.options.flags import Flags, Parser
from transforms.sources.contract import Remembering
from transforms.sources.pubsub.held import Bounds

if TYPE_CHECKING:
    from transforms.sources.pubsub.settings import SubscriptionSettings

PATH = "projects/p-1/subscriptions/stream"
TOPIC = "projects/p-1/topics/orders"


def check(*words: str) -> SubscriptionSettings:
    """Turn flags into settings."""
    parser = Parser()
    collect.configure(parser)
    flags = Flags(parser.parse_args(words))
    settings = pubsub.check(flags)
    flags.done()
    return settings


def errors_of(*words: str) -> list[str]:
    """Return what is said of wrong flags."""
    with pytest.raises(CollectionError) as raised:
        check(*words)
    return str(raised.value).splitlines()


def test_subscriptions_are_named_by_their_paths() -> None:
    """Each once; all else has its default."""
    settings = check(f"--input_subscription={PATH}, {PATH},{PATH}-2")
    assert settings.names == (PATH, f"{PATH}-2")
    assert (settings.topic, settings.endpoint) == (None, None)
    assert (settings.bounds, settings.remembering) == (Bounds(), Remembering())


def test_how_much_is_held_and_remembered_is_said_by_flags() -> None:
    """In messages, bytes and time."""
    settings = check(
        f"--input_subscription={PATH}",
        "--max_leased=1_000",
        "--max_leased_bytes=2000000",
        "--dedupe_horizon=2h",
        "--dedupe_bytes=5000",
        "--pubsub_endpoint=http://127.0.0.1:8085",
    )
    assert settings.bounds == Bounds(1_000, 2_000_000)
    assert settings.remembering == Remembering(timedelta(hours=2), 5_000)
    assert settings.endpoint == "http://127.0.0.1:8085"
    assert settings.reader().bounds == settings.bounds


def test_a_topic_is_collected_by_a_subscription_that_is_created() -> None:
    """In the topic's project."""
    settings = check(f"--input_topic={TOPIC}", "--create_subscription=mine")
    assert (settings.names, settings.topic) == (("projects/p-1/subscriptions/mine",), TOPIC)


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("--input_subscription=s",), "--input_subscription must be projects/PROJECT/subscrip"),
        (("--input_subscription=,",), "--input_subscription names nothing, got ','"),
        ((f"--input_topic={TOPIC}",), "is collected through a subscription; add --create_subscr"),
        (("--create_subscription=mine",), "=mine goes with --input_topic=projects/PROJECT/topics/"),
        (
            (f"--input_topic={TOPIC}", "--create_subscription=a b"),
            "--create_subscription must be 3 to 255 letters, digits and . _ ~ + % -, got 'a b'",
        ),
        (("--input_topic=t", "--create_subscription=mine"), "--input_topic must be projects/PROJE"),
        (
            (f"--input_subscription={PATH}", f"--input_topic={TOPIC}"),
            "--create_subscription makes one; give one of them",
        ),
        (
            (f"--input_subscription={PATH},{PATH.replace('p-1', 'p-2')}",),
            "and projects/p-2/subscriptions/stream would be one collection, stream; ",
        ),
        ((f"--input_subscription={PATH}", "--dedupe_horizon=9m"), "must be at least 10m, got '9m'"),
        ((f"--input_subscription={PATH}", "--max_leased=0"), "whole number of at least 1, got '0'"),
        ((f"--input_subscription={PATH}", "--start=latest"), "gcloud pubsub subscriptions seek"),
        (
            (f"--input_subscription={PATH}", "--until=2026-11-22T10:30:00Z"),
            "--until does not go with Pub/Sub: ",
        ),
        (
            (f"--input_subscription={PATH}", "--on_data_loss=skip"),
            "--on_data_loss does not go with Pub/Sub: ",
        ),
    ],
)
def test_what_does_not_go_is_said_with_its_cure(words: tuple[str, ...], error: str) -> None:
    """One line for each mistake."""
    (line,) = errors_of(*words)
    assert error in line


def test_all_mistakes_are_said_at_once() -> None:
    """As of all flags."""
    words = ("--start=latest", "--max_leased=many", "--dedupe_bytes=-1")
    assert len(errors_of("--input_subscription=x", *words)) == 4
