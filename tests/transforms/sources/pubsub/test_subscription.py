"""What a subscription says of itself, and what becomes of answers that are lost, or lies."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import uuid
from datetime import timedelta
from itertools import cycle, repeat
from typing import TYPE_CHECKING, Any

import grpc
import pytest
from google.pubsub_v1.types import pubsub
from grpc import StatusCode
from hypothesis import example, given
from hypothesis import strategies as st

from batch_collection.errors import CollectionError, SourceError
from batch_collection.log.entry import Source
from batch_collection.windows import EPOCH
from tests.builders import at
from tests.services.pubsub_fake import PATH, FakePubSub, Fault
from transforms.sources.contract import LEASED
from transforms.sources.pubsub.client import Client
from transforms.sources.pubsub.subscription import Subscription, as_table, parts, terms_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.services.pubsub import PubSubServer

TOPIC = "projects/p-1/topics/t"
NOBODY = "http://127.0.0.1:1"


@pytest.fixture
def fake() -> Iterator[FakePubSub]:
    """Start our own server."""
    server = FakePubSub()
    yield server
    server.close()


@pytest.fixture
def source(fake: FakePubSub) -> Iterator[Subscription]:
    """Open its subscription."""
    source = Subscription(PATH, fake.endpoint)
    yield source
    source.close()


def settings(**fields: Any) -> Any:
    """Return how a subscription is set up."""
    return pubsub.Subscription.pb(pubsub.Subscription(name=PATH, topic=TOPIC, **fields))


def leases_of(source: Subscription, messages: int) -> list[str]:
    """Pull so many, and return their leases."""
    return source.pull(messages)["lease"].to_pylist()


def test_an_answer_becomes_a_table() -> None:
    """To the microsecond; what is not there is null."""
    answer = pubsub.PullResponse.pb()()
    first = answer.received_messages.add(ack_id="a").message
    first.message_id, first.data = "7", b"x"
    first.publish_time.FromDatetime(at("10:30:00.000001"))
    first.publish_time.nanos += 999
    second = answer.received_messages.add(ack_id="b").message
    second.message_id, second.ordering_key = "8", "k"
    second.attributes["n"] = "1"
    table = as_table(answer)
    assert table.to_pylist() == [
        {
            "id": "7",
            "lease": "a",
            "published": at("10:30:00.000001"),
            "value": b"x",
            "key": None,
            "attributes": None,
        },
        {
            "id": "8",
            "lease": "b",
            "published": EPOCH,
            "value": b"",
            "key": "k",
            "attributes": [{"key": "n", "value": b"1"}],
        },
    ]
    table.validate(full=True)
    assert as_table(pubsub.PullResponse.pb()()) == LEASED.empty_table()


@given(
    st.lists(st.integers(0, 3), max_size=60).map(
        lambda counts: [{f"k{n}": str(n) for n in range(count)} for count in counts]
    )
)
def test_attributes_stay_with_their_messages(attributes: list[dict[str, str]]) -> None:
    """However many each has."""
    answer = pubsub.PullResponse.pb()()
    for each in attributes:
        answer.received_messages.add().message.attributes.update(each)
    found = as_table(answer)["attributes"].to_pylist()
    assert [{p["key"]: p["value"].decode() for p in each or ()} for each in found] == attributes
    assert [each is None for each in found] == [not each for each in attributes]


@given(st.lists(st.sampled_from([1, 184, 40_000]), max_size=2_500))
@example([184] * 2_500 + [40_000] * 30)
def test_parts_hold_all_leases_and_keep_to_the_limits(sizes: list[int]) -> None:
    """In their order, none of them empty; a request of each is what the service takes."""
    leases = ["x" * size for size in sizes]
    found = list(parts(leases))
    assert [lease for part in found for lease in part] == leases
    for part in found:
        assert 0 < len(part) <= 1_000
        asked = pubsub.AcknowledgeRequest(subscription=PATH, ack_ids=part)
        assert len(pubsub.AcknowledgeRequest.serialize(asked)) <= 401 * 1024


def test_requests_are_full(fake: FakePubSub, source: Subscription) -> None:
    """A thousand ids of 184 bytes each: a fifth of the calls that small ones would take."""
    fake.stream.publish(*[b"x"] * 3_000)
    leases = [lease for _ in range(3) for lease in leases_of(source, 5_000)]
    assert len(leases) == 3_000
    assert len(leases[0]) == 184
    source.extend(leases, 60)
    sizes = [size for name, size in fake.requests if name == "ModifyAckDeadline"]
    assert [180_000 < size < 200_000 for size in sizes] == [True] * 3


def test_terms_tell_what_people_should_know() -> None:
    """Each of them on a line, with the subscription."""
    dead = "projects/p-1/topics/d"
    terms = terms_of(
        settings(
            message_retention_duration=timedelta(days=7),
            filter='attributes.a = "1"',
            dead_letter_policy={"dead_letter_topic": dead, "max_delivery_attempts": 5},
        )
    )
    assert terms.identity == Source("pubsub", PATH, TOPIC)
    assert terms.retention == timedelta(days=7)
    assert terms.notes == tuple(
        f"subscription={PATH}: {note}"
        for note in (
            f"a message that was given back or not held 5 times leaves for {dead}",
            'only messages that its filter lets through come: attributes.a = "1"',
            "what is not collected within 7d is gone",
        )
    )


def test_a_deleted_topic_is_no_other_topic() -> None:
    """What it held still comes, under the same identity as where nothing may be asked."""
    terms = terms_of(pubsub.Subscription.pb()(name=PATH, topic="_deleted-topic_"))
    assert terms.identity == Source("pubsub", PATH)
    assert terms.notes == (f"subscription={PATH}: its topic is deleted, and nothing new comes",)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"push_config": {"push_endpoint": "https://x.example"}}, "to https://x.example"),
        ({"bigquery_config": {"table": "p.d.t"}}, "to BigQuery"),
        ({"cloud_storage_config": {"bucket": "b"}}, "to Cloud Storage"),
        ({"detached": True}, "is detached"),
        ({"enable_message_ordering": True}, "has message ordering"),
    ],
)
def test_what_cannot_be_pulled_is_refused_with_the_cure(fields: dict[str, Any], why: str) -> None:
    """Nobody can wait it out: it is no SourceError."""
    with pytest.raises(CollectionError, match=re.escape(why)) as error:
        terms_of(settings(**fields))
    assert not isinstance(error.value, SourceError)
    assert f"subscription={PATH}" in str(error.value)
    assert f"create one to pull from, without ordering, on {TOPIC}" in str(error.value)


def test_without_the_permission_to_look_nothing_is_checked(
    fake: FakePubSub, source: Subscription
) -> None:
    """A subscriber has none; that it may consume is seen all the same."""
    fake.settings = settings(detached=True)
    fake.faults.calls["GetSubscription"] = repeat(StatusCode.PERMISSION_DENIED, 2)
    assert source.terms() == (Source("pubsub", PATH), None, ())
    fake.faults.calls["ModifyAckDeadline"] = repeat(StatusCode.PERMISSION_DENIED, 1)
    with pytest.raises(SourceError, match=re.escape("grant roles/pubsub.subscriber")) as error:
        source.terms()
    assert PATH in str(error.value)


def test_looking_takes_no_message(fake: FakePubSub, source: Subscription) -> None:
    """Nor the lease of one."""
    fake.stream.publish(b"a")
    source.terms()
    assert fake.stream.held_until("1") is None
    assert "Pull" not in {name for name, _ in fake.requests}


@pytest.mark.parametrize("server", ["emulator", "pstest"])
def test_a_subscription_that_is_not_there_is_named(
    server: str, request: pytest.FixtureRequest
) -> None:
    """Whatever is asked of it."""
    path = "projects/tests-1/subscriptions/nobody-has-it"
    source = Subscription(path, request.getfixturevalue(server).endpoint)
    said = re.escape(f"subscription={path}: pubsub at 127.0.0.1:") + r"\d+ has no such subscription"
    for ask in (source.terms, lambda: source.pull(1), lambda: source.acknowledge(["x"])):
        with pytest.raises(SourceError, match=said):
            ask()
    source.close()


@pytest.mark.parametrize("server", ["emulator", "pstest"])
def test_how_a_subscription_is_set_up_is_read_from_real_servers(
    server: str, request: pytest.FixtureRequest
) -> None:
    """And one that keeps order is refused."""
    real: PubSubServer = request.getfixturevalue(server)
    name = f"terms-{uuid.uuid4().hex[:8]}"
    path = real.create(name, message_retention_duration=timedelta(hours=1))
    source = Subscription(path, real.endpoint)
    terms = source.terms()
    assert terms.identity == Source("pubsub", path, f"projects/tests-1/topics/{name}")
    assert terms.retention == timedelta(hours=1)
    source.close()
    ordered = Subscription(real.create(f"{name}-o", enable_message_ordering=True), real.endpoint)
    with pytest.raises(CollectionError, match="has message ordering"):
        ordered.terms()
    ordered.close()


def test_exactly_once_of_the_emulator_says_which_leases_are_over(emulator: PubSubServer) -> None:
    """Those of one request that were not are heard."""
    path = emulator.create(f"once-{uuid.uuid4().hex[:8]}", enable_exactly_once_delivery=True)
    emulator.publish(path, [b"%d" % n for n in range(10)])
    source = Subscription(path, emulator.endpoint)
    leases: list[str] = []
    while len(leases) < 10:
        leases += leases_of(source, 10 - len(leases))
    assert source.acknowledge(leases[:4]) == []
    assert sorted(source.acknowledge(leases)) == sorted(leases[:4])
    assert sorted(source.acknowledge(leases)) == sorted(leases)
    source.extend(leases, 60)
    source.give_back(leases)
    source.close()


def test_what_is_refused_for_now_is_told_again(fake: FakePubSub, source: Subscription) -> None:
    """And what is refused for good is returned."""
    fake.faults.is_exactly_once = True
    fake.stream.publish(*[b"x"] * 1_000)
    leases = leases_of(source, 1_000)
    source.acknowledge(leases[:300])
    fake.faults.transient = 700
    over = source.acknowledge(leases)
    assert sorted(over) == sorted(leases[:300])
    assert len(fake.stream.acknowledged) == 1_000


def test_what_is_always_refused_for_now_is_an_error_in_the_end(
    fake: FakePubSub, source: Subscription
) -> None:
    """Which says how many, and why."""
    fake.faults.is_exactly_once, fake.faults.transient = True, 10**6
    fake.stream.publish(b"x", b"y")
    with pytest.raises(SourceError, match="2 refused for now: TRANSIENT_FAILURE_INVALID_ACK_ID"):
        source.acknowledge(leases_of(source, 2))


def test_a_request_without_an_answer_is_sent_again(fake: FakePubSub, source: Subscription) -> None:
    """What was heard is heard, and of exactly-once delivery over; an error only in the end."""
    fake.faults.is_exactly_once, fake.faults.calls["Acknowledge"] = True, iter([Fault.LOST])
    fake.stream.publish(b"x", b"y")
    first, second = leases_of(source, 2)
    assert source.acknowledge([first]) == [first]
    assert fake.stream.acknowledged == {"1"}
    fake.faults.calls["Acknowledge"] = repeat(StatusCode.UNAVAILABLE)
    with pytest.raises(SourceError, match=re.escape("no answer from pubsub at 127.0.0.1")):
        source.acknowledge([second])
    assert [name for name, _ in fake.requests].count("Acknowledge") == 2 + 5


def test_some_requests_that_fail_are_no_error_of_all(
    fake: FakePubSub, source: Subscription
) -> None:
    """Each third does, so that never all of them get through at once; the largest there are."""
    leases = [f"{number:01000}" for number in range(4_000)]
    for method in ("Acknowledge", "ModifyAckDeadline"):
        fake.faults.calls[method] = cycle([None, StatusCode.UNAVAILABLE, None])
    source.acknowledge(leases)
    source.extend(leases, 60)
    sizes = [size for name, size in fake.requests if name == "Acknowledge"]
    assert max(sizes) > 400_000
    assert 10 < len(sizes) < 20


def test_messages_of_a_lost_answer_come_again_when_their_lease_is_over(
    fake: FakePubSub, source: Subscription
) -> None:
    """Nobody holds them meanwhile, and nobody else gets them."""
    fake.faults.calls["Pull"] = iter([Fault.LOST])
    fake.stream.publish(b"x")
    with pytest.raises(SourceError, match="the answer is lost"):
        source.pull(1)
    assert len(source.pull(1)) == 0
    fake.stream.clock.seconds += 11
    assert source.pull(1)["id"].to_pylist() == ["1"]


def test_an_acknowledgement_that_is_answered_need_not_have_been_heard(
    fake: FakePubSub, source: Subscription
) -> None:
    """So nothing may rest on it: the message comes again."""
    fake.faults.calls["Acknowledge"] = iter([Fault.IDLE])
    fake.stream.publish(b"x")
    assert source.acknowledge(leases_of(source, 1)) == []
    fake.stream.clock.seconds += 11
    assert source.pull(1)["id"].to_pylist() == ["1"]


def test_what_the_service_refuses_is_said_in_its_words(fake: FakePubSub) -> None:
    """A request that is too large, here."""
    client = Client(fake.endpoint)
    asked = pubsub.AcknowledgeRequest.pb()(subscription=PATH, ack_ids=["x" * 600_000])
    with pytest.raises(grpc.RpcError) as error:
        client.acknowledge(asked)
    said = str(client.error("say so", error.value))
    client.close()
    assert re.fullmatch(
        r"cannot say so: pubsub at 127.0.0.1:\d+ answers INVALID_ARGUMENT: "
        "Request payload size exceeds",
        said,
    )


def test_a_server_that_is_away_is_said_at_once() -> None:
    """With where it was looked for, and what to check."""
    source = Subscription(PATH, NOBODY)
    begin = time.monotonic()
    said = r"no answer from pubsub at 127\.0\.0\.1:1: .*; check PUBSUB_EMULATOR_HOST"
    for ask in (source.terms, lambda: source.pull(1), lambda: source.extend(["x"], 60)):
        with pytest.raises(SourceError, match=said):
            ask()
    assert time.monotonic() - begin < 15
    source.close()


def test_a_server_that_says_nothing_is_said_within_15_seconds() -> None:
    """As behind a firewall."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        source = Subscription(PATH, f"http://127.0.0.1:{silent.getsockname()[1]}")
        begin = time.monotonic()
        with pytest.raises(SourceError, match=re.escape("no answer from pubsub at 127.0.0.1")):
            source.terms()
        assert time.monotonic() - begin < 15
        source.close()


def test_it_is_found_again_soon_after_it_was_away(fake: FakePubSub) -> None:
    """At the same place; nothing need be opened anew."""
    source = Subscription(PATH, fake.endpoint)
    source.terms()
    port = int(fake.endpoint.rpartition(":")[2])
    fake.close()
    for _ in range(3):
        with pytest.raises(SourceError):
            source.terms()
    again = FakePubSub(port=port)
    deadline = time.monotonic() + 10
    while True:
        try:
            source.terms()
            break
        except SourceError:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    source.close()
    again.close()


def test_the_emulator_of_the_environment_is_taken(
    fake: FakePubSub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unless another place is named."""
    monkeypatch.setenv("PUBSUB_EMULATOR_HOST", fake.endpoint.removeprefix("http://"))
    fake.stream.publish(b"x")
    source = Subscription(PATH)
    assert source.pull(1)["value"].to_pylist() == [b"x"]
    source.close()
    elsewhere = Subscription(PATH, NOBODY)
    with pytest.raises(SourceError):
        elsewhere.pull(1)
    elsewhere.close()


def test_without_a_login_the_cure_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    """In one line."""
    monkeypatch.delenv("PUBSUB_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/nowhere.json")
    with pytest.raises(SourceError, match="gcloud auth application-default login") as error:
        Subscription(PATH)
    assert "\n" not in str(error.value)


def test_without_the_extra_the_command_that_installs_it_is_said() -> None:
    """Not before it is asked for."""
    code = (
        "import sys; sys.modules['google.pubsub_v1'] = None\n"
        "from batch_collection.errors import CollectionError\n"
        "from transforms.sources.pubsub.subscription import Subscription\n"
        "try:\n    Subscription('projects/p/subscriptions/s', 'http://127.0.0.1:1')\n"
        "except CollectionError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=os.environ
    )
    assert "pip install google-cloud-pubsub" in done.stdout


@pytest.mark.parametrize(("name", "folder"), [("a.b_c-1", "a.b_c-1"), ("a~b+c%d", "a%7Eb%2Bc%25d")])
def test_names_are_names_of_folders(name: str, folder: str) -> None:
    """What is awkward there is written as in a URL."""
    source = Subscription(f"projects/p-1/subscriptions/{name}", NOBODY)
    assert source.name == folder
    source.close()
