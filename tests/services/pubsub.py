"""Real servers of Pub/Sub for tests: Google's emulator, and ``pstest`` of its client for Go.

They live no longer than the tests.
"""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import grpc
from google.pubsub_v1.types import pubsub

from tests.services.guarded import Guarded, free_port
from tests.services.made import Made, UnavailableError, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["PSTEST", "PubSubServer", "emulator_command", "pstest_command"]

_MODULE = "cloud.google.com/go/pubsub/v2"
_VERSION = "v2.8.1"
_MAIN = """package main

import (
	"flag"

	"cloud.google.com/go/pubsub/v2/pstest"
)

func main() {
	port := flag.Int("port", 0, "")
	flag.Parse()
	pstest.NewServerWithPort(*port)
	select {}
}
"""
_PACKAGE = "google-cloud-cli-pubsub-emulator"
_START_SECONDS = 60


def emulator_command() -> list[str]:
    """Return what starts Google's emulator, but for its port.

    Raises:
        UnavailableError: Java or its package is not installed.
    """
    if shutil.which("java") is None:
        message = "no Pub/Sub emulator: java is not installed"
        raise UnavailableError(message)
    jar = next(_jars(), None)
    if jar is None:
        message = f"no Pub/Sub emulator: {_PACKAGE} is not installed"
        raise UnavailableError(message)
    return ["java", "-Xmx1g", "-XX:+UseSerialGC", "-jar", str(jar), "--host=127.0.0.1"]


def pstest_command() -> list[str]:
    """Return what starts pstest, but for its port.

    Raises:
        UnavailableError: it can't be built.
    """
    return [str(PSTEST.get() / "pstest")]


def _jars() -> Iterator[Path]:
    """Yield the emulator's jars: of a package of Debian's, and of an SDK that lies somewhere."""
    if shutil.which("dpkg-query"):
        command = ["dpkg-query", "--listfiles", _PACKAGE]
        listed = subprocess.run(command, capture_output=True, text=True, check=False).stdout
        yield from (Path(line) for line in listed.splitlines() if line.endswith("-all.jar"))
    if found := shutil.which("gcloud"):
        sdk = Path(found).resolve().parent.parent
        yield from (sdk / "platform" / "pubsub-emulator" / "lib").glob("*-all.jar")


def _build(folder: Path) -> Path:
    (folder / "main.go").write_text(_MAIN)
    for command in (
        ["mod", "init", "pstest"],
        ["get", f"{_MODULE}@{_VERSION}"],
        ["mod", "tidy"],
        ["build", "-o", "bin/pstest", "."],
    ):
        run(["go", *command], folder)
    return folder / "bin"


PSTEST = Made(f"pstest-{_VERSION}", "pstest", "about 40 seconds", ("go",), _build)


class PubSubServer(Guarded):
    """A running server; ``endpoint`` is what a source is given."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        """Start it and wait until it answers."""
        port = free_port()
        self.endpoint = f"http://127.0.0.1:{port}"
        log = folder / "pubsub.log"
        super().__init__("the server", [*command, f"--port={port}"], port, log, _START_SECONDS)
        limit = [("grpc.max_send_message_length", -1)]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=limit)

    def create(self, name: str, **settings: Any) -> str:
        """Create a topic, and a subscription of it; return the subscription's path."""
        topic = f"projects/tests-1/topics/{name}"
        path = f"projects/tests-1/subscriptions/{name}"
        self._call("Publisher/CreateTopic", pubsub.Topic(name=topic), pubsub.Topic)
        asked = pubsub.Subscription(name=path, topic=topic, ack_deadline_seconds=10, **settings)
        self._call("Subscriber/CreateSubscription", asked, pubsub.Subscription)
        return path

    def publish(
        self,
        path: str,
        values: Sequence[bytes],
        key: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> list[str]:
        """Publish to the topic of a subscription; return the messages' ids."""
        ids: list[str] = []
        for start in range(0, len(values), 1_000):
            messages = [
                pubsub.PubsubMessage(
                    data=value, ordering_key=key or "", attributes=attributes or {}
                )
                for value in values[start : start + 1_000]
            ]
            topic = path.replace("/subscriptions/", "/topics/")
            asked = pubsub.PublishRequest(topic=topic, messages=messages)
            answer = self._call("Publisher/Publish", asked, pubsub.PublishResponse)
            ids += answer.message_ids
        return ids

    def _call(self, method: str, asked: Any, answer: Any) -> Any:
        call = self._channel.unary_unary(
            f"/google.pubsub.v1.{method}",
            request_serializer=type(asked).serialize,
            response_deserializer=answer.deserialize,
        )
        return call(asked, timeout=30, wait_for_ready=True)
