"""The brokers that tests read from, and the storages that they write to."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from batch_collection.storage.known import STORAGES
from batch_collection.storage.opening import open_storage
from tests.services.flink import FlinkCluster, FlinkServer, flink_jars
from tests.services.gcs import BUCKET, FakeGcs, bundled_server, newest_server
from tests.services.google import FakeGoogle
from tests.services.guarded import Guarded
from tests.services.kafka import KafkaBroker, kafka_jars
from tests.services.made import UnavailableError
from tests.services.needed import fixtures_of, prepare
from tests.services.package import built_sdist, installed
from tests.services.prism import PrismServer, prism_binary
from tests.services.pubsub import PubSubServer, emulator_command, pstest_command
from tests.toys import MemoryStorage
from transforms.process.process import new_process
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    from batch_collection.storage.contract import Storage


# a busy machine is no failure; on CI hypothesis' own profile stands below this one
settings.register_profile("patient", settings(), deadline=None)
settings.load_profile("patient")


@pytest.fixture(scope="session")
def jars() -> Path:
    """Return Kafka's jars; skip, saying why, where they can't be had."""
    try:
        return kafka_jars()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def kafka(jars: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """Start a real broker for all tests; skip, saying why, where it can't be had."""
    assert jars.is_dir()
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    try:
        broker.start()
        yield broker
    finally:
        broker.kill()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Let a Prism that is somewhere else be named."""
    parser.addoption("--prism_location", help="Prism's binary (default: found, or built by Go)")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Make what the chosen tests need now, where no test's time limit runs."""
    if session.config.option.collectonly:
        return
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    fixtures = {name for item in session.items for name in fixtures_of(item)}
    if session.config.getoption("--prism_location"):
        fixtures.discard("prism")
    prepare(fixtures, (lambda _: None) if reporter is None else reporter.write_line)


@pytest.fixture(autouse=True)
def _process() -> Iterator[None]:
    """Let each test be a process of its own: with nothing kept, no observer, not stopped."""
    with new_process():
        yield


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the servers of a test that failed have said last."""
    report = yield
    if report.failed:
        for name, server in getattr(item, "funcargs", {}).items():
            if isinstance(server, Guarded):
                said = server.log.read_text(errors="replace")[-_MOST_SAID:]
                report.sections.append((f"log of {name}", said))
    return report


_MOST_SAID = 3000
_CAMPAIGN = "campaign"


@pytest.fixture
def tell(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Say what a campaign of faults did, for the summary at the end."""
    return lambda text: record_property(_CAMPAIGN, text)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what campaigns of faults did, one line each."""
    reports = [
        report for kind in ("passed", "failed") for report in _of_calls(terminalreporter, kind)
    ]
    told = [
        f"{report.outcome}  {report.nodeid.partition('::')[2]}: {text}"
        for report in reports
        for name, text in report.user_properties
        if name == _CAMPAIGN
    ]
    if told:
        terminalreporter.section("campaign of faults")
        for line in told:
            terminalreporter.line(line)


def _of_calls(terminalreporter: pytest.TerminalReporter, kind: str) -> list[pytest.TestReport]:
    return [r for r in terminalreporter.stats.get(kind, []) if getattr(r, "when", "") == "call"]


@pytest.fixture(scope="session")
def prism(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[PrismServer]:
    """Start Prism for all tests; skip, saying why, where it can't be had."""
    try:
        binary = prism_binary(pytestconfig.getoption("--prism_location"))
    except UnavailableError as error:
        pytest.skip(str(error))
    server = PrismServer(binary, tmp_path_factory.mktemp("prism"))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def flink_home() -> Path:
    """Return Flink's jars; skip, saying why, where they can't be had."""
    try:
        return flink_jars()
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def flink(flink_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlinkServer]:
    """Start a job server with Flink in it for all tests."""
    server = FlinkServer(flink_home, tmp_path_factory.mktemp("flink"))
    yield server
    server.kill()


@pytest.fixture(params=["prism", pytest.param("flink", marks=pytest.mark.faults)])
def engine(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Give the flags that submit to an engine, each in turn; Flink takes its time."""
    flags: tuple[str, ...] = request.getfixturevalue(request.param).flags
    return flags


@pytest.fixture(scope="module")
def flink_cluster(
    flink_home: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FlinkCluster]:
    """Start a cluster of Flink's for a module of tests."""
    cluster = FlinkCluster(flink_home, tmp_path_factory.mktemp("cluster"))
    yield cluster
    cluster.close()


@pytest.fixture(scope="session")
def emulator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubServer]:
    """Start Google's Pub/Sub emulator for all tests; skip, saying why, where there is none."""
    yield from _pubsub(emulator_command, tmp_path_factory.mktemp("emulator"))


@pytest.fixture(scope="session")
def pstest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PubSubServer]:
    """Start pstest for all tests; skip, saying why, where it can't be built."""
    yield from _pubsub(pstest_command, tmp_path_factory.mktemp("pstest"))


def _pubsub(command: Callable[[], list[str]], folder: Path) -> Iterator[PubSubServer]:
    try:
        server = PubSubServer(command(), folder)
    except UnavailableError as error:
        pytest.skip(str(error))
    yield server
    server.kill()


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the package that a submission stages."""
    return built_sdist(tmp_path_factory.mktemp("sdist"))


@pytest.fixture(scope="session")
def worker_python(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install it into an empty environment; skip, saying why, where there is no package index."""
    try:
        return installed(sdist, tmp_path_factory.mktemp("worker") / "venv")
    except UnavailableError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeGoogle]:
    """Start a fake of what a submission to Dataflow meets."""
    fake = FakeGoogle(tmp_path_factory.mktemp("google"))
    yield fake
    fake.close()


@pytest.fixture(scope="session")
def embedded() -> Iterator[EmbeddedBroker]:
    """Start librdkafka's mock cluster for all tests."""
    with EmbeddedBroker() as broker:
        yield broker


@pytest.fixture(scope="session")
def gcs() -> Iterator[FakeGcs]:
    """Start the fake Cloud Storage of the wheel for all tests; skip where there is none."""
    yield from _fake_gcs(bundled_server)


@pytest.fixture(scope="session")
def newest_gcs() -> Iterator[FakeGcs]:
    """Start the newest fake Cloud Storage for all tests; skip where it can't be built."""
    yield from _fake_gcs(newest_server)


def _fake_gcs(program: Callable[[], Path]) -> Iterator[FakeGcs]:
    try:
        server = FakeGcs(program)
    except UnavailableError as error:
        pytest.skip(str(error))
    with server:
        yield server


@pytest.fixture(params=["local", "gcs"])
def new_uri(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], str]:
    """Give the URI of a place that isn't there yet, another at each call: one fixture, all stores.

    ``parametrize("new_uri", [...], indirect=True)`` chooses others: ``newest`` is the newest fake,
    ``memory`` a storage that only tests know.
    """
    if request.param == "local":
        return lambda: str(tmp_path / uuid.uuid4().hex[:8])
    if request.param == "memory":
        monkeypatch.setitem(STORAGES, "memory", MemoryStorage)
        return lambda: f"memory://{uuid.uuid4().hex[:8]}"
    server = request.getfixturevalue({"gcs": "gcs", "newest": "newest_gcs"}[request.param])
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    return lambda: f"gs://{BUCKET}/tests/{uuid.uuid4().hex[:8]}"


@pytest.fixture
def storage(new_uri: Callable[[], str]) -> Storage:
    """Return an empty storage, of each kind in turn."""
    return open_storage(new_uri())
