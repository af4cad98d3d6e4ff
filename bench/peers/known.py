"""The peers: how each is set up, once, and what collects a topic with it."""

from __future__ import annotations

import os
import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.made import Made, run

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["PEERS", "Job", "Peer"]

_JOBS = Path(__file__).parent / "jobs"
_SPARK, _FLINK, _BENTHOS, _QUIX = "4.1.1", "2.3.0", "4.27.0", "3.28.0"
_HADOOP = "3.4.2"
_OPENED = (
    "lang",
    "lang.invoke",
    "lang.reflect",
    "io",
    "net",
    "nio",
    "text",
    "time",
    "util",
    "util.concurrent",
)


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be collected: a topic of so many messages, into a directory."""

    servers: str
    topic: str
    directory: Path
    messages: int


@dataclass(frozen=True, slots=True)
class Peer:
    """Another way to collect.

    Attributes:
        made: what it needs, set up once.
        command: what collects a topic with it, and ends.
        messages: how many it gets at the most: a slow one would take minutes.
        promises: what of its files is true after a crash, as its documentation has it.
        lacks: what of the job it does not do.
    """

    made: Made
    command: Callable[[Path, Job], list[str]]
    messages: int
    promises: str
    lacks: str


def _python(folder: Path, *packages: str) -> Path:
    """Make an environment of Python, one that may be moved: it is called by its path."""
    run([sys.executable, "-m", "pip", "install", "-q", f"--target={folder}/lib", *packages], folder)
    return folder / "lib"


def _jars(folder: Path, *artifacts: tuple[str, str, str], alone: bool = False) -> None:
    """Let Maven copy jars, and what they need unless they come ``alone``, to ``folder/jars``."""
    exclusions = "<exclusions><exclusion><groupId>*</groupId><artifactId>*</artifactId></exclusion>"
    left_out = f"{exclusions}</exclusions>" if alone else ""
    dependencies = "".join(
        f"<dependency><groupId>{group}</groupId><artifactId>{name}</artifactId>"
        f"<version>{version}</version>{left_out}</dependency>"
        for group, name, version in artifacts
    )
    (folder / "pom.xml").write_text(
        '<project xmlns="http://maven.apache.org/POM/4.0.0"><modelVersion>4.0.0</modelVersion>'
        "<groupId>bench</groupId><artifactId>peers</artifactId><version>1</version>"
        f"<dependencies>{dependencies}</dependencies></project>"
    )
    copy = ["dependency:copy-dependencies", "-DincludeScope=runtime", "-DoutputDirectory=jars"]
    run(["mvn", "-q", "-B", *copy], folder)


def _make_spark(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir()
    _python(made, f"pyspark=={_SPARK}")
    _jars(made, ("org.apache.spark", "spark-sql-kafka-0-10_2.13", _SPARK))
    for jar in (made / "jars").glob("scala-library-*.jar"):
        jar.unlink()  # Spark brings its own
    return made


def _spark(made: Path, job: Job) -> list[str]:
    jars = ",".join(str(jar) for jar in sorted((made / "jars").glob("*.jar")))
    settings = ("spark.ui.enabled=false", "spark.sql.session.timeZone=UTC")
    return [
        "env",
        f"SPARK_HOME={made}/lib/pyspark",
        f"PYTHONPATH={made}/lib",
        f"PYSPARK_PYTHON={sys.executable}",
        str(made / "lib" / "pyspark" / "bin" / "spark-submit"),
        "--master=local[2]",
        f"--jars={jars}",
        *[f"--conf={each}" for each in settings],
        str(_JOBS / "spark.py"),
        *_words(job),
    ]


def _make_flink(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir()
    _python(made, "--no-deps", f"apache-flink-libraries=={_FLINK}")
    _jars(
        made,
        ("org.apache.flink", "flink-sql-connector-kafka", "5.0.0-2.2"),
        ("org.apache.flink", "flink-sql-parquet", _FLINK),
        ("org.apache.flink", "flink-sql-gateway", _FLINK),
        ("org.apache.flink", "flink-sql-gateway-api", _FLINK),
        ("org.apache.hadoop", "hadoop-client-api", _HADOOP),
        ("org.apache.hadoop", "hadoop-client-runtime", _HADOOP),
        ("com.github.luben", "zstd-jni", "1.5.7-6"),
        alone=True,
    )
    return made


def _flink(made: Path, job: Job) -> list[str]:
    script = job.directory / "job.sql"
    text = (_JOBS / "flink.sql").read_text(encoding="utf-8")
    names = {"servers": job.servers, "topic": job.topic, "directory": f"{job.directory}/data"}
    script.write_text(text.format(**names), encoding="utf-8")
    home = made / "lib" / "pyflink"
    settings = job.directory / "conf"
    settings.mkdir()
    (settings / "config.yaml").write_text("execution:\n  target: local\n", encoding="utf-8")
    return [
        "env",
        f"FLINK_CONF_DIR={settings}",
        "java",
        "-Xmx2g",
        *[f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in _OPENED],
        "-cp",
        f"{home}/lib/*:{home}/opt/*:{made}/jars/*",
        "org.apache.flink.table.client.SqlClient",
        "embedded",
        "-f",
        str(script),
    ]


def _make_benthos(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir()
    shutil.copy(_JOBS / "benthos.go", made / "main.go")
    (made / "go.mod").write_text("module bench\n\ngo 1.24\n")
    environment = {**os.environ, "GOFLAGS": ""}
    run(["go", "get", f"github.com/benthosdev/benthos/v4@v{_BENTHOS}"], made, environment)
    run(["go", "mod", "tidy"], made, environment)
    # a dependency of it reaches into Go's runtime
    run(["go", "build", "-ldflags=-checklinkname=0", "-o", "benthos", "."], made, environment)
    return made


def _benthos(made: Path, job: Job) -> list[str]:
    until = ["-m", "bench.peers.until", str(job.directory), str(job.messages)]
    return [
        "env",
        f"SERVERS={job.servers}",
        f"TOPIC={job.topic}",
        f"DIRECTORY={job.directory}",
        sys.executable,
        *until,
        str(made / "benthos"),
        "-c",
        str(_JOBS / "benthos.yaml"),
    ]


def _make_quix(folder: Path) -> Path:
    made = folder / "made"
    made.mkdir()
    _python(made, f"quixstreams=={_QUIX}", "pyarrow")
    return made


def _quix(made: Path, job: Job) -> list[str]:
    program = str(_JOBS / "quix.py")
    return [
        "env",
        f"PYTHONPATH={made}/lib",
        sys.executable,
        program,
        *_words(job),
        str(job.messages),
    ]


def _words(job: Job) -> list[str]:
    return [job.servers, job.topic, str(job.directory)]


PEERS = {
    "Spark Structured Streaming": Peer(
        Made(f"peer-spark-{_SPARK}", "Spark", "2 minutes", ("java", "mvn"), _make_spark),
        _spark,
        2_000_000,
        "each message once, for readers that heed its _spark_metadata",
        "no limit of rows a batch; a bad message is a row of nulls",
    ),
    "Flink SQL": Peer(
        Made(f"peer-flink-{_FLINK}", "Flink", "a minute", ("java", "mvn"), _make_flink),
        _flink,
        2_000_000,
        "each message once, in files of closed checkpoints",
        "no limit of rows a batch; a bad message ends it",
    ),
    "Benthos (Redpanda Connect)": Peer(
        Made(f"peer-benthos-{_BENTHOS}", "Benthos", "3 minutes", ("go",), _make_benthos),
        _benthos,
        2_000_000,
        "each message at least once",
        "no windows; files of at most 10,000 rows here",
    ),
    "Quix Streams": Peer(
        Made(f"peer-quix-{_QUIX}", "Quix Streams", "half a minute", (), _make_quix),
        _quix,
        400_000,
        "each message at least once",
        "no windows: a file for each partition and commit",
    ),
}
