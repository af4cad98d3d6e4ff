"""The files to deploy with: whole, with flags, paths and probes that there are."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pipeline import cli
from pipeline.options import collect
from pipeline.options.engine import pass_on
from pipeline.options.flags import Parser
from pipeline.serving import server
from tests.test_architecture import in_setup

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pipeline.options.collect import CollectOptions

ROOT = Path(__file__).parents[2]
EXAMPLES = ROOT / "examples"
DOCKERFILE = (EXAMPLES / "docker" / "Dockerfile").read_text(encoding="utf-8")
UNIT = EXAMPLES / "systemd" / "batch-collection@.service"


def parsed(words: Sequence[str]) -> Any:
    """Return the flags of a command line, which has no mistake."""
    command, *flags = words
    module = import_module(f"pipeline.commands.{command.replace('-', '_')}")
    parser = Parser()
    module.configure(parser)
    args, unknown, errors, _ = cli._parse(parser, list(flags), command)  # noqa: SLF001
    assert (unknown, errors) == ([], []), words
    return args


def options(words: Sequence[str]) -> CollectOptions:
    """Return the options of a collector, all of whose flags are good."""
    assert words[0] == "collect"
    return collect.check(parsed(words))


def served(path: str) -> bool:
    """Tell whether something is answered there."""
    return path in server._PATHS.split()  # noqa: SLF001


@pytest.fixture
def orders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give the file of a systemd unit, and the secret that it takes from elsewhere."""
    monkeypatch.setenv("KAFKA_PASSWORD", "secret")
    text = (EXAMPLES / "systemd" / "orders.yaml").read_text(encoding="utf-8")
    assert "output: /var/lib/batch-collection\n" in text
    path = tmp_path / "orders.yaml"
    path.write_text(text.replace("/var/lib/batch-collection", str(tmp_path)), encoding="utf-8")
    return path


def test_the_image_has_what_it_copies_and_is_not_root() -> None:
    """Its lock is there, its health check asks what is answered, it ends by the right signal."""
    copied = re.findall(r"(?m)^COPY (?!--from)(.*) \S+$", DOCKERFILE)
    for name in " ".join(copied).split():
        assert (ROOT / name).exists(), name
    (version,) = re.findall(r"(?m)^ARG PYTHON=(.+)$", DOCKERFILE)
    assert (ROOT / "requirements" / f"py{version.replace('.', '')}.txt").exists()
    assert re.search(r"(?m)^USER (\d+)$", DOCKERFILE)
    assert "STOPSIGNAL SIGTERM" in DOCKERFILE
    (url,) = re.findall(r"http://127\.0\.0\.1:8080(/\w+)", DOCKERFILE)
    assert served(url)
    (check,) = re.findall(r'CMD \["python", "-c", "(.*)"\]', DOCKERFILE)
    compile(check, "health check", "exec")
    (entry,) = re.findall(r'ENTRYPOINT \["(.*)"\]', DOCKERFILE)
    assert f"{entry} = " in (ROOT / "setup.py").read_text(encoding="utf-8")
    assert in_setup("REQUIREMENTS")


def test_the_composed_services_run_commands_that_there_are(tmp_path: Path) -> None:
    """The collector writes where the volume is, and nowhere else."""
    path = EXAMPLES / "docker" / "compose.yaml"
    services = yaml.safe_load(path.read_text(encoding="utf-8"))["services"]
    build = services["collector"]["build"]
    assert (path.parent / build["context"] / build["dockerfile"]).resolve() == (
        EXAMPLES / "docker" / "Dockerfile"
    )
    parsed(services["producer"]["command"])
    words = [
        word.replace("--output=/data", f"--output={tmp_path}")
        for word in services["collector"]["command"]
    ]
    found = options(words)
    assert found.http is not None
    assert f"127.0.0.1:8080:{found.http.port}" in services["collector"]["ports"]
    assert services["collector"]["read_only"]
    assert found.source.collections == ("batch-topic",)
    producer = parsed(services["producer"]["command"])
    assert producer.bootstrap_servers == "kafka:9092"
    kafka = services["kafka"]["environment"]
    advertised = kafka["KAFKA_ADVERTISED_LISTENERS"].split(",")
    assert f"PLAINTEXT://{producer.bootstrap_servers}" in advertised
    assert "MACHINE://localhost:9092" in advertised  # as the tutorial says
    assert "MACHINE://:9094" in kafka["KAFKA_LISTENERS"].split(",")
    assert services["kafka"]["ports"] == ["127.0.0.1:9092:9094"]


def test_the_unit_starts_a_collector(orders: Path) -> None:
    """With the flags of a file."""
    (line,) = re.findall(r"(?m)^ExecStart=\S+/batch-collection (.*)$", UNIT.read_text("utf-8"))
    assert "/etc/batch-collection/%i.yaml" in line
    found = options(shlex.split(line.replace("/etc/batch-collection/%i.yaml", str(orders))))
    assert found.http == ("127.0.0.1", 8080)
    assert found.source.collections == ("orders",)


def test_systemd_takes_the_unit(tmp_path: Path) -> None:
    """By its own check, where it is installed; the program is not, where the unit looks for it."""
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("no systemd-analyze")
    text = UNIT.read_text(encoding="utf-8").replace(
        "/opt/batch-collection/bin/batch-collection", "/bin/true"
    )
    copy = tmp_path / UNIT.name
    copy.write_text(text, encoding="utf-8")
    done = subprocess.run(
        [program, "verify", str(copy)], capture_output=True, text=True, check=False
    )
    ours = [line for line in done.stderr.splitlines() if UNIT.name in line]
    assert (done.returncode, ours) == (0, [])


def test_cron_runs_commands_that_there_are(orders: Path) -> None:
    """Each line has five fields, a user, and flags that are known; % is escaped."""
    lines = (EXAMPLES / "cron" / "batch-collection").read_text(encoding="utf-8").splitlines()
    jobs = [line for line in lines if line and not line.startswith("#")]
    called = []
    for job in jobs:
        *fields, user, rest = job.split(None, 6)
        assert all(re.fullmatch(r"[\d*/,-]+", each) for each in fields), job
        assert user == "collector"
        assert "%" not in rest.replace(r"\%", "")
        assert rest.startswith("batch-collection ")
        first = rest.partition(" && ")[0].replace("/etc/batch-collection/orders.yaml", str(orders))
        words = shlex.split(first)[1:]
        called.append(words[0])
        parsed(words)
    assert called == ["collect", "wait", "audit", "expire"]
    once = options(["collect", f"--config={orders}", "--once", "--if_running=skip"])
    assert once.once
    assert once.skips_if_running


def test_kubernetes_runs_a_collector_and_asks_how_it_goes(tmp_path: Path) -> None:
    """Its config is good, its probes are answered, what is mounted is there; it is not root."""
    text = (EXAMPLES / "kubernetes" / "collector.yaml").read_text(encoding="utf-8")
    objects = {each["kind"]: each for each in yaml.safe_load_all(text)}
    assert objects.keys() == {"ConfigMap", "Deployment", "ServiceAccount"}
    deployment = objects["Deployment"]["spec"]
    assert (deployment["replicas"], deployment["strategy"]["type"]) == (1, "Recreate")
    labels = deployment["template"]["metadata"]["labels"]
    assert deployment["selector"]["matchLabels"] == labels
    pod = deployment["template"]["spec"]
    assert pod["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert pod["securityContext"]["runAsUser"] == int(
        re.findall(r"(?m)^USER (\d+)$", DOCKERFILE)[0]
    )
    (container,) = pod["containers"]
    (port,) = container["ports"]
    for probe in ("livenessProbe", "readinessProbe", "startupProbe"):
        asked = container[probe]["httpGet"]
        assert served(asked["path"]), probe
        assert asked["port"] == port["name"]
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    mounts = {mount["name"]: mount["mountPath"] for mount in container["volumeMounts"]}
    assert mounts.keys() == volumes.keys()
    assert volumes["config"]["configMap"]["name"] == objects["ConfigMap"]["metadata"]["name"]
    ((name, config),) = objects["ConfigMap"]["data"].items()
    secret = tmp_path / "kafka.properties"
    secret.write_text("security.protocol=SASL_SSL\n")
    assert f"{mounts['secrets']}/{secret.name}" in config
    path = tmp_path / name
    path.write_text(
        config.replace(mounts["secrets"], str(tmp_path)).replace("BUCKET", "bucket"), "utf-8"
    )
    words = [word.replace(mounts["config"], str(tmp_path)) for word in container["args"]]
    found = options(words)
    assert found.http is not None
    assert found.http.port == port["containerPort"]


def test_the_flink_cluster_has_one_version_of_beam_and_a_command_that_is_good() -> None:
    """Workers are those of the image, each beside a TaskManager; what is copied is there."""
    image = (EXAMPLES / "flink" / "Dockerfile").read_text(encoding="utf-8")
    for name in " ".join(re.findall(r"(?m)^COPY (.*) \S+$", image)).split():
        assert (ROOT / name).exists(), name
    python, beam = re.findall(r"(?m)^FROM apache/beam_python(.+)_sdk:(.+)$", image)[0]
    lock = ROOT / "requirements" / f"py{python.replace('.', '')}.txt"
    assert f"COPY requirements/{lock.name} " in image
    assert f"apache-beam=={beam} " in lock.read_text(encoding="utf-8")
    text = (EXAMPLES / "flink" / "compose.yaml").read_text(encoding="utf-8")
    services = yaml.safe_load(text)["services"]
    managers = {f"service:{name}" for name in services if name.startswith("taskmanager")}
    workers = [each for name, each in services.items() if name.startswith("workers")]
    assert {each["network_mode"] for each in workers} == managers
    assert services["jobserver"]["image"].endswith(f":{beam}")
    yaml.safe_load((EXAMPLES / "flink" / "config.yaml").read_text(encoding="utf-8"))
    shown = text.partition("says:\n")[2].partition("\n# http")[0].replace("#", "")
    words = shlex.split(shown.replace("\\\n", " "))[1:]
    parser = Parser()
    collect.configure(parser)
    args, unknown, errors = parser.read(words)
    assert (pass_on(args, unknown)[0], errors) == ([], [])
    found = collect.check(args)
    assert found.engine is not None
    assert found.engine.is_detached
    (mount,) = workers[0]["volumes"]
    assert found.output.startswith(mount.partition(":")[2])
