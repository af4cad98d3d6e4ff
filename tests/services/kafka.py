"""A real Kafka broker for tests: one KRaft node in a temporary directory, no Docker.

The jars come from Maven once and stay in the user's cache directory. The broker lives no longer
than the process that started it, whatever way that one ends.
"""

from __future__ import annotations

import base64
import contextlib
import logging
import os
import signal
import socket
import subprocess
import time
import uuid
from typing import TYPE_CHECKING, Any

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient, NewTopic

from tests.services.made import Made
from tests.services.maven import fetched_jars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from confluent_kafka.admin import TopicMetadata

    from tests.services.tcp_proxy import TcpProxy

__all__ = ["JARS", "KafkaBroker", "kafka_jars"]

VERSION = "4.3.1"
_ARTIFACTS = (
    ("org.apache.kafka", "kafka_2.13", VERSION),
    ("org.apache.kafka", "kafka-tools", VERSION),
    ("org.slf4j", "slf4j-simple", "1.7.36"),
)
_START_SECONDS = 60
_STOP_SECONDS = 30
# Signals come as lines on standard input; its end, which the death of the tests brings too, kills.
_WARDEN = """
"$@" & broker=$!
while read -r signal; do
    if [ "$signal" = WAIT ]; then wait $broker; exit; fi
    kill -"$signal" $broker
done
kill -KILL $broker 2>/dev/null
wait $broker
"""
_LISTENERS = {"PLAINTEXT": "PLAINTEXT", "SASL_PLAINTEXT": "SASL_PLAINTEXT"}
_PROXIED = "PROXIED"
_SASL_USER, _SASL_PASSWORD = "alice", "correct-horse"


def kafka_jars(say: Callable[[str], None] | None = None) -> Path:
    """Return the folder with Kafka's jars; ``say`` is told when Maven is to fetch them, once.

    Raises:
        UnavailableError: Java or Maven is missing, or Maven can't resolve them.
    """
    return JARS.get(say)


JARS = Made(
    f"kafka-{VERSION}",
    "real Kafka",
    "its jars, by Maven, about 15 seconds",
    ("java", "mvn"),
    lambda folder: fetched_jars(folder, _ARTIFACTS),
)


class KafkaBroker:
    """One broker with its own data; it can be stopped and started again on the same ports.

    ``properties`` are added to the broker's, and win. A second listener wants ``login``.
    ``addresses`` are those of all listeners, by name; ``cluster_id`` and ``controller`` are what a
    second node needs.
    """

    def __init__(
        self,
        folder: Path,
        properties: Mapping[str, object] | None = None,
        *,
        listeners: Mapping[str, str] | None = None,
        proxy: TcpProxy | None = None,
        scram_users: Iterable[str] = (),
        controller: KafkaBroker | None = None,
    ) -> None:
        """Lay the broker out in ``folder``; ``start`` starts it.

        Args:
            folder: an empty one.
            properties: see above.
            listeners: further ones, by name, with their security protocols.
            proxy: what stands before one more listener, ``PROXIED``; who asks there is sent there.
            scram_users: such as ``SCRAM-SHA-256=[name=alice,password=secret]``.
            controller: a broker that is the controller of this one, too, as node 2 of its cluster.
        """
        self._jars = kafka_jars()
        self._folder = folder
        self._warden: subprocess.Popen[str] | None = None
        protocols = {**_LISTENERS, **(listeners or {})}
        if proxy is not None:
            protocols[_PROXIED] = "PLAINTEXT"
        own_controller, *ports = _free_ports(1 + len(protocols))
        self.addresses = {
            name: f"127.0.0.1:{port}" for name, port in zip(protocols, ports, strict=True)
        }
        self.bootstrap_servers = self.addresses["PLAINTEXT"]
        self.cluster_id: str = controller.cluster_id if controller else _new_id()
        self.controller: str = (
            controller.controller if controller else f"127.0.0.1:{own_controller}"
        )
        settings = _settings(folder) | _node(
            self.addresses, protocols, self.controller, has_controller=controller is None
        )
        if proxy is not None:
            proxy.target = ports[-1]
            advertised = {**self.addresses, _PROXIED: proxy.address}
            settings["advertised.listeners"] = _listed(advertised)
        settings |= dict(properties or {})
        lines = (f"{name}={value}\n" for name, value in settings.items())
        self._file = folder / "server.properties"
        self._file.write_text("".join(lines))
        users = [word for user in scram_users for word in ("--add-scram", user)]
        where = ["-t", self.cluster_id, "-c", str(self._file)]
        self._run("kafka.tools.StorageTool", "format", *where, *users)

    def start(self) -> None:
        """Start the broker and wait until it answers."""
        command = [*self._java("kafka.Kafka"), str(self._file)]
        with (self._folder / "broker.log").open("ab") as log:
            self._warden = subprocess.Popen(
                ["/bin/sh", "-c", _WARDEN, "warden", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                tail = (self._folder / "broker.log").read_text()[-2000:]
                self.kill()
                message = f"broker did not start within {_START_SECONDS}s:\n{tail}"
                raise RuntimeError(message)

    def login(self, password: str = _SASL_PASSWORD) -> dict[str, str]:
        """Return the settings of a client that logs in by SASL PLAIN."""
        return {
            "bootstrap.servers": self.addresses["SASL_PLAINTEXT"],
            "security.protocol": "SASL_PLAINTEXT",
            "sasl.mechanism": "PLAIN",
            "sasl.username": _SASL_USER,
            "sasl.password": password,
        }

    def stop(self) -> None:
        """Stop in good order; kill what doesn't go."""
        self.send("TERM")
        self.send("WAIT")
        if self._warden is not None:
            try:
                self._warden.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired:
                os.killpg(self._warden.pid, signal.SIGKILL)
        self.kill()

    def kill(self) -> None:
        """Kill with SIGKILL and wait until the process is gone; nothing if it is."""
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()
        self._warden = None

    def restart(self) -> None:
        """Start again on the same ports and data."""
        self.kill()
        self.start()

    def send(self, name: str) -> None:
        """Send the broker a signal, as ``TERM``, ``STOP`` or ``CONT``."""
        if self._warden is None or self._warden.stdin is None:
            message = f"cannot send signal={name}: the broker does not run"
            raise RuntimeError(message)
        self._warden.stdin.write(f"{name}\n")
        self._warden.stdin.flush()

    def create_topic(
        self,
        name: str,
        partitions: int = 1,
        replicas: Any = None,
        **config: object,
    ) -> str:
        """Create a topic and return its name; ``retention_ms=1`` stands for ``retention.ms=1``.

        Nothing is deleted by age, and any timestamp is taken, unless ``config`` says otherwise.
        ``replicas`` are the nodes of each partition, its preferred leader first: [[2, 1], [1]].
        """
        settings: dict[str, object] = {"retention_ms": -1, "message_timestamp_after_max_ms": 2**62}
        named = {key.replace("_", "."): str(value) for key, value in (settings | config).items()}
        topic = (
            NewTopic(name, num_partitions=partitions, replication_factor=1, config=named)
            if replicas is None
            else NewTopic(name, partitions, replica_assignment=replicas, config=named)
        )
        admin = self.admin()  # kept: its end would cancel the request
        admin.create_topics([topic])[name].result(30)
        deadline = time.monotonic() + _START_SECONDS
        while not _led(admin.list_topics(timeout=10).topics.get(name), partitions):
            if time.monotonic() > deadline:
                message = f"topic={name} did not show within {_START_SECONDS}s"
                raise RuntimeError(message)
        return name

    def admin(self) -> AdminClient:
        """Return a new admin client of this broker."""
        quiet = logging.Logger("broker", logging.CRITICAL)  # noqa: LOG001 - belongs to no tree
        return AdminClient({"bootstrap.servers": self.bootstrap_servers}, logger=quiet)

    def _answers(self) -> bool:
        if not _accepts(self.bootstrap_servers):
            time.sleep(0.1)
            return False
        try:
            return bool(self.admin().list_topics(timeout=5).brokers)
        except KafkaException:
            return False

    def _java(self, main: str) -> list[str]:
        options = ["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
        quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
        return ["java", *options, quiet, "-cp", f"{self._jars}/*", main]

    def _run(self, main: str, *arguments: str) -> None:
        command = [*self._java(main), *arguments]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            message = f"{main} failed: {(done.stdout + done.stderr)[-2000:]}"
            raise RuntimeError(message)


def _settings(folder: Path) -> dict[str, object]:
    """Return a small node's properties: eager to compact, delete and answer."""
    return {
        "sasl.enabled.mechanisms": "PLAIN",
        "listener.name.sasl_plaintext.plain.sasl.jaas.config": "org.apache.kafka.common.security."
        f'plain.PlainLoginModule required user_{_SASL_USER}="{_SASL_PASSWORD}";',
        "log.dirs": folder / "logs",
        "offsets.topic.replication.factor": 1,
        "offsets.topic.num.partitions": 1,
        "transaction.state.log.replication.factor": 1,
        "transaction.state.log.min.isr": 1,
        "transaction.state.log.num.partitions": 1,
        "broker.heartbeat.interval.ms": 200,
        "broker.session.timeout.ms": 1000,
        "group.initial.rebalance.delay.ms": 0,
        "log.initial.task.delay.ms": 100,
        "log.cleaner.backoff.ms": 100,
        "log.retention.check.interval.ms": 500,
        "log.segment.delete.delay.ms": 100,
    }


def _node(
    addresses: Mapping[str, str],
    protocols: Mapping[str, str],
    controller: str,
    *,
    has_controller: bool,
) -> dict[str, object]:
    """Return the properties that say who a node is and where it listens."""
    mapped = {**protocols, "CONTROLLER": "PLAINTEXT"}
    listening = {**addresses, "CONTROLLER": controller} if has_controller else addresses
    return {
        "process.roles": "broker,controller" if has_controller else "broker",
        "node.id": 1 if has_controller else 2,
        "controller.quorum.voters": f"1@{controller}",
        "controller.listener.names": "CONTROLLER",
        "listeners": _listed(listening),
        "listener.security.protocol.map": ",".join(f"{name}:{p}" for name, p in mapped.items()),
    }


def _listed(addresses: Mapping[str, str]) -> str:
    return ",".join(f"{name}://{address}" for name, address in addresses.items())


def _new_id() -> str:
    """Return a cluster id as Kafka writes them; one that starts with ``-`` reads as an option."""
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "A")


def _led(topic: TopicMetadata | None, partitions: int) -> bool:
    """Tell whether the broker serves a topic; the controller has made it some time before."""
    if topic is None or topic.error is not None or len(topic.partitions) != partitions:
        return False
    return all(partition.leader >= 0 for partition in topic.partitions.values())


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _accepts(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=1).close()
    except OSError:
        return False
    return True
