"""Messages of Pub/Sub that are large, empty or no JSON, from a server to the files."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.paths import new_token
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from tests.services.pubsub_fake import PATH, FakePubSub

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from tests.services.pubsub import PubSubServer

    Server = tuple[str, str, Callable[[bytes, Mapping[str, str]], str]]

pytestmark = pytest.mark.slow  # --once waits ten seconds for more


@pytest.fixture(params=["fake", "emulator"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Give a server's address, a subscription, and what publishes to it and returns an id."""
    if request.param == "fake":
        fake = FakePubSub()
        yield (
            fake.endpoint,
            PATH,
            lambda value, attributes: fake.stream.publish(value, attributes=attributes)[0],
        )
        fake.close()
    else:
        emulator: PubSubServer = request.getfixturevalue("emulator")
        path = emulator.create(f"odd-{new_token()}")
        yield (
            emulator.endpoint,
            path,
            lambda value, attributes: emulator.publish(path, [value], attributes=attributes)[0],
        )


def test_large_empty_and_bad_messages_are_each_in_one_place(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One of 10 MB, beyond what gRPC takes by itself; one of attributes alone; one of bad bytes."""
    endpoint, path, publish = server
    large = "x" * 9_900_000
    large_id = publish(json.dumps({"text": large}).encode(), {"a": "1"})
    empty_id = publish(b"", {"only": "attributes"})
    bad_id = publish(b'{"text": "\xff\x00', {"a": "2"})
    good_id = publish(b'{"text": "y"}', {})

    flags = [f"--input_subscription={path}", f"--pubsub_endpoint={endpoint}", "--metadata=full"]
    assert main([*flags, f"--output={tmp_path}", "--once", "--flush"]) == 0

    collection = str(tmp_path / path.rpartition("/")[2])
    rows = batch_collection.open(collection).table().to_pylist()
    assert {row["_message_id"]: row["text"] for row in rows} == {large_id: large, good_id: "y"}
    found = audit(LocalStorage(collection))
    assert found.findings == ()
    assert (found.counts.rows, found.counts.dead_letters) == (2, 2)
    capsys.readouterr()
    assert main(["dead-letters", collection]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[-3:-1]] == [empty_id, bad_id]
    assert main(["dead-letters", collection, "--json"]) == 0
    letters = {each["id"]: each for each in map(json.loads, capsys.readouterr().out.splitlines())}
    assert {each["subscription"] for each in letters.values()} == {path}
    assert letters[empty_id]["value"] == ""
    assert letters[bad_id]["value_base64"]
    assert main(["redrive", collection, "--input_format=bytes", "--metadata=full"]) == 0
    redriven = batch_collection.open(collection).table().to_pylist()
    (alone,) = [row for row in redriven if row["_message_id"] == empty_id]
    assert alone["value"] == b""
    assert alone["_attributes"] == [{"key": "only", "value": "attributes"}]
