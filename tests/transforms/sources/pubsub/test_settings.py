"""What a process has of a subscription, and what is created because flags ask for it."""

from __future__ import annotations

import math
import re
import subprocess
import sys
import uuid
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import CollectionError, SourceError
from tests.collecting import ROOT
from tests.services.pubsub_fake import PATH, FakePubSub
from transforms.process.process import new_process
from transforms.sources.pubsub.publisher import Publisher
from transforms.sources.pubsub.settings import SubscriptionReader, SubscriptionSettings
from transforms.sources.pubsub.subscription import Subscription

if TYPE_CHECKING:
    from tests.services.pubsub import PubSubServer

NOBODY = "http://127.0.0.1:1"


def test_a_process_has_one_keeper_of_a_subscription_and_stops_it_at_its_end() -> None:
    """What is not durable by then is given back."""
    fake = FakePubSub()
    try:
        fake.stream.publish(b"x")
        with new_process():
            pulling = SubscriptionReader(fake.endpoint).pulling(PATH, print)
            assert SubscriptionReader(fake.endpoint).pulling(PATH, print) is pulling
            pulling.keeper.pull(math.inf)
            while not pulling.keeper.waiting().messages:
                pass
            told = len(fake.requests)
        assert not pulling.keeper.waiting().messages
        assert "ModifyAckDeadline" in [name for name, _ in fake.requests[told:]]
        assert not fake.stream.acknowledged
    finally:
        fake.close()


@pytest.fixture(params=["emulator", "pstest"])
def server(request: pytest.FixtureRequest) -> PubSubServer:
    """Give each of the servers."""
    found: PubSubServer = request.getfixturevalue(request.param)
    return found


def named() -> SubscriptionSettings:
    """Return settings that create a subscription of a name of its own."""
    name = f"created-{uuid.uuid4().hex[:8]}"
    path, topic = f"projects/tests-1/subscriptions/{name}", f"projects/tests-1/topics/{name}"
    return SubscriptionSettings((path,), topic=topic)


def test_a_subscription_is_created_and_what_is_published_then_comes(server: PubSubServer) -> None:
    """Not what was before; created again, the one that is there is taken."""
    wanted = named()
    (path,), topic = wanted.names, str(wanted.topic)
    settings = SubscriptionSettings((path,), server.endpoint, topic)
    publisher = Publisher(server.endpoint)
    publisher.create(topic)
    publisher.create(topic)
    publisher.publish(topic, [b"before"])
    (created,) = settings.prepare()
    assert created.startswith(f"created subscription={path} of topic={topic}: ")
    assert settings.prepare() == [f"subscription={path} is there already; it is taken as it is"]
    ids = publisher.publish(topic, [b"a", b"b"])
    publisher.close()
    source = Subscription(path, server.endpoint)
    terms = source.terms()
    assert (terms.identity.topic_id, len(ids)) == (topic, 2)
    assert terms.retention is not None
    assert terms.retention.days == 7
    got: list[bytes] = []
    while len(got) < 2:
        got += source.pull(10)["value"].to_pylist()
    assert sorted(got) == [b"a", b"b"]
    source.close()


def test_a_subscription_of_another_topic_is_not_taken(server: PubSubServer) -> None:
    """Nor is one created of a topic that is not there."""
    there, other = named(), named()
    path = server.create(there.names[0].rpartition("/")[2])
    mine = SubscriptionSettings((path,), server.endpoint, other.topic)
    message = f"subscription={path} is there already, of topic={there.topic} and not {other.topic};"
    with pytest.raises(CollectionError, match=re.escape(message)):
        mine.prepare()
    with pytest.raises(SourceError, match=re.escape(f"has no topic={other.topic}; fix --input_to")):
        SubscriptionSettings(other.names, server.endpoint, other.topic).prepare()
    with pytest.raises(SourceError, match="no such topic; add --create_topics"):
        Publisher(server.endpoint).publish(str(other.topic), [b"x"])


def test_where_nobody_answers_that_is_said() -> None:
    """By what creates and by what publishes, too."""
    wanted = named()
    with pytest.raises(SourceError, match=r"no answer from pubsub at 127\.0\.0\.1:1: "):
        SubscriptionSettings(wanted.names, NOBODY, wanted.topic).prepare()
    with pytest.raises(SourceError, match=r"no answer from pubsub at 127\.0\.0\.1:1: "):
        Publisher(NOBODY).publish(str(wanted.topic), [b"x"])


def test_without_the_extra_it_is_said_how_to_install_it() -> None:
    """Where something is to be pulled, or created; settings alone need no client."""
    program = (
        "import sys\n"
        "sys.modules['google.pubsub_v1.types.pubsub'] = None\n"
        "sys.modules['grpc_status'] = None\n"
        "from transforms.sources.pubsub.settings import SubscriptionSettings\n"
        "settings = SubscriptionSettings(('p',), topic='t')\n"
        "for step in (lambda: settings.connect().sources(['p']), settings.prepare):\n"
        "    try:\n"
        "        step()\n"
        "    except Exception as error:\n"
        "        print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    lines = done.stdout.splitlines()
    assert len(lines) == 2
    for line in lines:
        assert line.startswith("CollectionError google.pubsub_v1.types.pubsub cannot be imported")
        assert line.endswith("pip install google-cloud-pubsub")


def test_collections_are_called_as_subscriptions_without_their_project() -> None:
    """What some stores and shells take for something else is written as in a URL."""
    paths = ("projects/p/subscriptions/a.b-c_1", "projects/p/subscriptions/x~y+z%2")
    settings = SubscriptionSettings(paths, "http://127.0.0.1:1")  # which wants no login
    assert settings.collections == ("a.b-c_1", "x%7Ey%2Bz%252")
    assert [source.name for source in settings.connect().sources(paths)] == [*settings.collections]
