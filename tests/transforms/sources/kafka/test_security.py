"""TLS and SASL as users ask for them, and what they are told when something does not fit."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, NamedTuple

import pytest
from confluent_kafka.admin import (
    AclBinding,
    AclBindingFilter,
    AclOperation,
    AclPermissionType,
    ResourcePatternType,
    ResourceType,
)

from pipeline.cli import main
from tests.collecting import Stream, check, sending
from tests.services.certificates import Authority
from tests.services.kafka import KafkaBroker

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

USER, PASSWORD, WRONG = "alice", "correct-horse", "battery-staple"
LISTENERS = {"TLS": "SSL", "MUTUAL": "SSL", "SASL_TLS": "SASL_SSL"}
MODULES = "org.apache.kafka.common.security"


class Guarded(NamedTuple):
    """A broker with every kind of listener, what its clients need, and what lies in it."""

    broker: KafkaBroker
    folder: Path
    stream: Stream

    def collect(self, listener: str, output: Path, properties: dict[str, str], *flags: str) -> int:
        """Collect all there is by a listener; return the exit code."""
        words = [f"-X{name}={value}" for name, value in properties.items()]
        return self.collect_with(listener, output, *words, *flags)

    def collect_with(self, listener: str, output: Path, *words: str) -> int:
        """Collect with these words on the command line."""
        flags = (
            f"--bootstrap_servers={self.broker.addresses[listener]}",
            f"--topics={self.stream.name}",
            f"--output={output}",
            "--once",
            "--flush",
        )
        return main([*flags, *words])

    def tls(self, *, trusted: str = "authority.pem", client: bool = False) -> dict[str, str]:
        """Return a client's properties."""
        mine = {
            "ssl.certificate.location": str(self.folder / "client.pem"),
            "ssl.key.location": str(self.folder / "client.pem"),
        }
        return {
            "security.protocol": "ssl",
            "ssl.ca.location": str(self.folder / trusted),
            **(mine if client else {}),
        }

    def sasl(self, mechanism: str, user: str = USER, password: str = PASSWORD) -> dict[str, str]:
        """Return a client's properties, without TLS."""
        return {
            "security.protocol": "sasl_plaintext",
            "sasl.mechanism": mechanism,
            "sasl.username": user,
            "sasl.password": password,
        }

    def sasl_tls(
        self, mechanism: str, user: str = USER, password: str = PASSWORD
    ) -> dict[str, str]:
        """Return a client's properties, with TLS."""
        login = self.sasl(mechanism, user, password)
        return {**self.tls(), **login, "security.protocol": "sasl_ssl"}


def _properties(folder: Path) -> dict[str, object]:
    """Return a broker's properties: certificates for each TLS listener, all mechanisms of SASL."""
    found: dict[str, object] = {
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "allow.everyone.if.no.acl.found": "true",
        "sasl.enabled.mechanisms": "PLAIN,SCRAM-SHA-256,SCRAM-SHA-512",
        "listener.name.mutual.ssl.client.auth": "required",
    }
    for listener in LISTENERS:
        prefix = f"listener.name.{listener.lower()}.ssl"
        found |= {
            f"{prefix}.keystore.type": "PEM",
            f"{prefix}.keystore.location": folder / "server.pem",
            f"{prefix}.truststore.type": "PEM",
            f"{prefix}.truststore.location": folder / "authority.pem",
        }
    for listener in ("sasl_plaintext", "sasl_tls"):
        prefix = f"listener.name.{listener}"
        plain = f'{MODULES}.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
        found[f"{prefix}.plain.sasl.jaas.config"] = plain
        for bits in ("256", "512"):
            scram = f"{MODULES}.scram.ScramLoginModule required;"
            found[f"{prefix}.scram-sha-{bits}.sasl.jaas.config"] = scram
    return found


@pytest.fixture
def forbidden_groups(guarded: Guarded) -> Iterator[None]:
    """Let our user have no consumer group, whatever its name."""
    rule = (ResourceType.GROUP, "*", ResourcePatternType.LITERAL, f"User:{USER}", "*")
    admin, seconds = guarded.broker.admin(), 30
    denied = AclBinding(*rule, AclOperation.ALL, AclPermissionType.DENY)
    admin.create_acls([denied])[denied].result(seconds)
    yield
    gone = AclBindingFilter(*rule, AclOperation.ALL, AclPermissionType.DENY)
    admin.delete_acls([gone])[gone].result(seconds)


@pytest.mark.usefixtures("forbidden_groups")
def test_who_may_read_a_topic_needs_no_group(guarded: Guarded, tmp_path: Path) -> None:
    """Librdkafka asks for the coordinator of one that is never joined, and is refused."""
    assert guarded.collect("SASL_PLAINTEXT", tmp_path, guarded.sasl("PLAIN")) == 0
    check(tmp_path / guarded.stream.name, guarded.stream.produced)


@pytest.fixture(scope="module")
def guarded(kafka: KafkaBroker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Start a broker with certificates and users."""
    assert kafka.bootstrap_servers  # a real broker can be had
    folder = tmp_path_factory.mktemp("certificates")
    authority = Authority(folder / "authority.pem")
    authority.issue(folder / "server.pem", "127.0.0.1")
    authority.issue(folder / "client.pem", "collector")
    Authority(folder / "other.pem")
    users = [f"SCRAM-SHA-{b}=[name={USER},password={PASSWORD}]" for b in ("256", "512")]
    broker = KafkaBroker(
        tmp_path_factory.mktemp("guarded"),
        _properties(folder),
        listeners=LISTENERS,
        scram_users=users,
    )
    try:
        broker.start()
        stream = Stream(broker)
        stream.send(*(sending(None, number % 4, id=number) for number in range(20)))
        yield Guarded(broker, folder, stream)
    finally:
        broker.kill()


def good(guarded: Guarded) -> dict[str, tuple[str, dict[str, str]]]:
    """Return the ways in, by name."""
    return {
        "tls": ("TLS", guarded.tls()),
        "mutual tls": ("MUTUAL", guarded.tls(client=True)),
        "plain": ("SASL_PLAINTEXT", guarded.sasl("PLAIN")),
        "scram-256": ("SASL_PLAINTEXT", guarded.sasl("SCRAM-SHA-256")),
        "plain, tls": ("SASL_TLS", guarded.sasl_tls("PLAIN")),
        "scram-512, tls": ("SASL_TLS", guarded.sasl_tls("SCRAM-SHA-512")),
    }


@pytest.mark.parametrize(
    "way", ["tls", "mutual tls", "plain", "scram-256", "plain, tls", "scram-512, tls"]
)
def test_a_guarded_topic_is_collected(
    guarded: Guarded, tmp_path: Path, way: str, reader_flag: str
) -> None:
    """With properties of -X: certificates verified, and users known."""
    listener, properties = good(guarded)[way]
    assert guarded.collect(listener, tmp_path, properties, reader_flag) == 0
    check(tmp_path / guarded.stream.name, guarded.stream.produced)


def test_a_file_of_properties_says_the_same(guarded: Guarded, tmp_path: Path) -> None:
    """As most clients of librdkafka take them."""
    file = tmp_path / "client.properties"
    properties = guarded.sasl_tls("SCRAM-SHA-256")
    file.write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
    assert guarded.collect_with("SASL_TLS", tmp_path / "out", f"--consumer_config={file}") == 0
    check(tmp_path / "out" / guarded.stream.name, guarded.stream.produced)


def bad(guarded: Guarded) -> dict[str, tuple[str, dict[str, str], str]]:
    """Return mistakes by name: the listener, the properties, and what is told."""
    login = "refuses the login"
    tls = "we can't agree on TLS"
    closed = "closes connections at once"
    return {
        "password": ("SASL_PLAINTEXT", guarded.sasl("SCRAM-SHA-256", password=WRONG), login),
        "password, tls": ("SASL_TLS", guarded.sasl_tls("PLAIN", password=WRONG), login),
        "user": ("SASL_TLS", guarded.sasl_tls("SCRAM-SHA-512", user="bob"), login),
        "no sasl there": ("PLAINTEXT", guarded.sasl("PLAIN"), login),
        "authority": ("TLS", guarded.tls(trusted="other.pem"), tls),
        "no certificate": ("MUTUAL", guarded.tls(), tls),
        "plaintext to tls": ("TLS", {}, closed),
        "plaintext to sasl": ("SASL_PLAINTEXT", {}, closed),
        "tls to plaintext": ("PLAINTEXT", guarded.tls(), "no answer from kafka"),
        "protocol": ("PLAINTEXT", {"security.protocol": "tls"}, "bad kafka settings"),
        "no password": (
            "SASL_PLAINTEXT",
            {"security.protocol": "sasl_plaintext", "sasl.mechanism": "PLAIN"},
            "bad kafka settings",
        ),
    }


@pytest.mark.parametrize(
    "mistake",
    [
        "password",
        "password, tls",
        "user",
        "no sasl there",
        "authority",
        "no certificate",
        "plaintext to tls",
        "plaintext to sasl",
        "tls to plaintext",
        "protocol",
        "no password",
    ],
)
def test_a_mistake_is_one_line_that_names_the_flag_and_no_secret(
    guarded: Guarded, tmp_path: Path, capfd: pytest.CaptureFixture[str], mistake: str
) -> None:
    """Exit code 2, within seconds; what may be a broker that only just starts is given some."""
    listener, properties, told = bad(guarded)[mistake]
    began = time.monotonic()
    assert guarded.collect(listener, tmp_path, properties) == 2
    assert time.monotonic() - began < 10
    *meanwhile, line = capfd.readouterr().err.splitlines()
    assert all(each.endswith(" ...") for each in meanwhile), meanwhile
    assert line.startswith("error: ")
    assert told in line
    assert "--consumer_config or -X" in line
    assert WRONG not in line
    assert PASSWORD not in line
