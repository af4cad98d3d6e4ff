"""Apache Flink, the real one, for tests: in a job server of Beam's, or a cluster on this machine.

All of it is from Maven, once, and lives no longer than the tests.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote
from urllib.request import Request, urlopen

import grpc
from apache_beam.portability.api import beam_job_api_pb2, beam_job_api_pb2_grpc

from tests.services.guarded import Guarded, free_port
from tests.services.made import Made
from tests.services.maven import fetched_jars

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["FLINK", "FlinkCluster", "FlinkServer", "flink_jars"]

ROOT = Path(__file__).parent.parent.parent
VERSION = "2.70.0"
_ARTIFACTS = (
    ("org.apache.beam", "beam-runners-flink-1.19", VERSION),
    ("org.slf4j", "slf4j-simple", "2.0.16"),
)
_PINNED = (
    ("org.apache.beam", "beam-runners-java-job-service", "2.65.0"),
)  # no newer one is served
_START_SECONDS = 120
_OPENED = ("lang", "util", "util.concurrent", "nio", "io", "net", "text", "time")
_REFLECTED = ("lang.reflect", "lang.invoke")
_ENDED = ("FINISHED", "FAILED", "CANCELED")
_MEMORY = {  # of a TaskManager: Flink's scripts would work them out
    "taskmanager.cpu.cores": 2,
    "taskmanager.memory.framework.heap.size": "128m",
    "taskmanager.memory.framework.off-heap.size": "64m",
    "taskmanager.memory.task.heap.size": "256m",
    "taskmanager.memory.task.off-heap.size": "0b",
    "taskmanager.memory.managed.size": "64m",
    "taskmanager.memory.network.min": "64m",
    "taskmanager.memory.network.max": "64m",
    "taskmanager.memory.jvm-metaspace.size": "160m",
    "taskmanager.memory.jvm-overhead.min": "64m",
    "taskmanager.memory.jvm-overhead.max": "64m",
}


def flink_jars(say: Callable[[str], None] | None = None) -> Path:
    """Return the folder with Flink's jars; ``say`` is told when Maven is to fetch them, once.

    Raises:
        UnavailableError: Java or Maven is missing, or Maven can't resolve them.
    """
    return FLINK.get(say)


FLINK = Made(
    f"flink-1.19-beam-{VERSION}",
    "real Flink",
    "its jars, by Maven, about 25 seconds",
    ("java", "mvn"),
    lambda folder: fetched_jars(folder, _ARTIFACTS, _PINNED),
)


def _java(jars: Path, main: str, *arguments: str, heap: str = "512m") -> list[str]:
    opened = (f"--add-opens=java.base/java.{name}=ALL-UNNAMED" for name in (*_OPENED, *_REFLECTED))
    options = [f"-Xmx{heap}", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
    quiet = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"
    path = os.pathsep.join(map(str, _ordered(jars)))
    return ["java", *options, *opened, quiet, "-cp", path, main, *arguments]


def _ordered(jars: Path) -> Iterator[Path]:
    """Yield the newest of Beam first, and its harness, which shades old classes of it, last."""
    found = sorted(jars.glob("*.jar"))
    harness = [path for path in found if path.name.startswith("beam-sdks-java-harness")]
    first = [p for p in found if p.name.startswith("beam-vendor") or _is_newest(p)]
    yield from first
    yield from (path for path in found if path not in {*first, *harness})
    yield from harness


def _is_newest(path: Path) -> bool:
    return path.name.startswith("beam-") and path.name.endswith(f"-{VERSION}.jar")


class FlinkServer(Guarded):
    """A job server, with Flink in it, or before a cluster; jobs are submitted to ``endpoint``.

    ``flags`` do so, for workers in the process that submits.
    """

    def __init__(
        self, jars: Path, folder: Path, master: str = "[local]", configuration: Path | None = None
    ) -> None:
        """Start it and wait until it answers.

        Args:
            jars: Flink's.
            folder: for its log, and what is staged.
            master: the cluster; ``[local]`` is one in this server.
            configuration: the folder of Flink's configuration.
        """
        port = free_port()
        self.endpoint = f"127.0.0.1:{port}"
        where = ("--runner=PortableRunner", f"--job_endpoint={self.endpoint}")
        self.flags = (*where, "--environment_type=LOOPBACK")
        words = [
            f"--flink-master={master}",
            "--job-host=127.0.0.1",
            f"--job-port={port}",
            f"--artifact-port={free_port()}",
            "--expansion-port=0",
            f"--artifacts-dir={folder / 'artifacts'}",
        ]
        if configuration is not None:
            words.append(f"--flink-conf-dir={configuration}")
        main = "org.apache.beam.runners.flink.FlinkJobServerDriver"
        command = _java(jars, main, *words, heap="1g")
        super().__init__("Flink", command, port, folder / "job-server.log", _START_SECONDS)

    def states(self) -> list[str]:
        """Return the states of all jobs, as who submitted them would be told, the newest last."""
        with grpc.insecure_channel(self.endpoint) as channel:
            stub = beam_job_api_pb2_grpc.JobServiceStub(channel)
            answer = stub.GetJobs(beam_job_api_pb2.GetJobsRequest(), timeout=30)
            # it keeps them in no order
            times = {job.job_id: self._began(stub, job.job_id) for job in answer.job_info}
        jobs = sorted(answer.job_info, key=lambda job: times[job.job_id])
        return [beam_job_api_pb2.JobState.Enum.Name(job.state) for job in jobs]

    @staticmethod
    def _began(stub: Any, job: str) -> int:
        asked = beam_job_api_pb2.GetJobStateRequest(job_id=job)
        first = next(iter(stub.GetStateStream(asked, timeout=30)))
        return int(first.timestamp.ToMilliseconds())


class FlinkCluster:
    """ZooKeeper, a JobManager, TaskManagers, a pool of Python workers for them, a job server.

    ``endpoint`` is the job server's, ``environment`` the flags that name the workers.
    """

    def __init__(self, jars: Path, folder: Path, managers: int = 2) -> None:
        """Start all, with so many TaskManagers of one slot, and wait until each answers."""
        self._jars, self._folder = jars, folder
        self._rest = free_port()
        self.pool_port = free_port()
        keeper = free_port()
        self._parts: dict[str, Guarded] = {}
        self._configure(keeper)
        self._start_keeper(keeper)
        self.start_job_manager()
        for number in range(1, managers + 1):
            self.start_task_manager(number)
        self.start_pool()
        master = f"127.0.0.1:{self._rest}"
        self._parts["job server"] = server = FlinkServer(jars, folder, master, self._conf)
        self.endpoint = server.endpoint
        self.environment = (
            "--environment_type=EXTERNAL",
            f"--environment_config=127.0.0.1:{self.pool_port}",
            f"--parallelism={managers}",
        )

    def kill(self, name: str) -> None:
        """Kill a part (-9): ``job manager``, ``task manager 1`` or ``2``, ``pool``."""
        self._parts.pop(name).kill()

    def close(self) -> None:
        """Kill all of it."""
        for part in reversed(self._parts.values()):
            part.kill()
        self._parts.clear()

    def start_job_manager(self) -> None:
        """Start it, or start it again."""
        main = "org.apache.flink.runtime.entrypoint.StandaloneSessionClusterEntrypoint"
        words = [f"--configDir={self._conf}", "--executionMode=cluster"]
        self._start("job manager", main, words, self._rest)

    def start_task_manager(self, number: int) -> None:
        """Start it, or start it again."""
        port, name = free_port(), f"task manager {number}"
        words = [f"--configDir={self._conf}"]
        settings = {
            **_MEMORY,
            "taskmanager.rpc.port": port,
            "taskmanager.resource-id": f"tm{number}-{port}",
        }
        words += [word for key, value in settings.items() for word in ("-D", f"{key}={value}")]
        self._start(name, "org.apache.flink.runtime.taskexecutor.TaskManagerRunner", words, port)

    def start_pool(self) -> None:
        """Start the pool of Python workers, or start it again."""
        module = "apache_beam.runners.worker.worker_pool_main"
        command = [sys.executable, "-m", module, f"--service_port={self.pool_port}"]
        folder = str(Path(sys.executable).parent)  # it starts `python`, which must be this one
        environment = {
            **os.environ,
            "PATH": os.pathsep.join([folder, os.environ.get("PATH", os.defpath)]),
            "PYTHONPATH": str(ROOT),
        }
        log = self._folder / "pool.log"
        self._parts["pool"] = Guarded(
            "the pool", command, self.pool_port, log, _START_SECONDS, environment
        )

    def ask(self, path: str) -> Any:
        """Return what the JobManager answers, such as to ``/jobs/overview``."""
        with urlopen(f"http://127.0.0.1:{self._rest}{path}", timeout=10) as answer:
            return json.load(answer)

    def states(self) -> list[str]:
        """Return the states of all jobs, the newest last."""
        return [job["state"] for job in self._jobs()]

    def counted(self, metric: str) -> int:
        """Return what all subtasks of the newest job have counted, as Flink itself shows it."""
        job, total = self._jobs()[-1]["jid"], 0
        for vertex in self.ask(f"/jobs/{job}")["vertices"]:
            path = f"/jobs/{job}/vertices/{vertex['id']}/subtasks/metrics"
            names = [each["id"] for each in self.ask(path)]
            for name in (each for each in names if each.endswith(f".{metric}")):
                found = self.ask(f"{path}?get={quote(name, safe='')}&agg=sum")
                total += sum(int(each["sum"]) for each in found)
        return total

    def cancel_all(self) -> None:
        """Cancel what runs, and wait until nothing does."""
        while left := [j["id"] for j in self.ask("/jobs")["jobs"] if j["status"] not in _ENDED]:
            for job in left:
                asked = Request(f"http://127.0.0.1:{self._rest}/jobs/{job}", method="PATCH")
                with urlopen(asked, timeout=10):  # noqa: S310 - of this machine
                    pass
            time.sleep(0.5)

    def _jobs(self) -> list[dict[str, Any]]:
        jobs = self.ask("/jobs/overview")["jobs"]
        return sorted(jobs, key=lambda job: job["start-time"])

    def _start(self, name: str, main: str, words: list[str], port: int) -> None:
        log = self._folder / f"{name.replace(' ', '-')}.log"
        command = _java(self._jars, main, *words)
        self._parts[name] = Guarded(name, command, port, log, _START_SECONDS)

    def _start_keeper(self, port: int) -> None:
        file = self._folder / "zoo.cfg"
        file.write_text(
            f"tickTime=2000\ndataDir={self._folder / 'zookeeper'}\nclientPort={port}\n"
            "admin.enableServer=false\n"
        )
        main = "org.apache.flink.runtime.zookeeper.FlinkZooKeeperQuorumPeer"
        self._start("keeper", main, ["--zkConfigFile", str(file), "--peerId", "1"], port)

    def _configure(self, keeper: int) -> None:
        self._conf = self._folder / "conf"
        self._conf.mkdir()
        settings = {
            "jobmanager.rpc.address": "127.0.0.1",
            "jobmanager.rpc.port": free_port(),
            "rest.address": "127.0.0.1",
            "rest.port": self._rest,
            "rest.bind-port": self._rest,
            "taskmanager.host": "127.0.0.1",
            "taskmanager.numberOfTaskSlots": 1,  # so that a job needs both
            "heartbeat.interval": 1000,
            "heartbeat.timeout": 10000,
            "high-availability.type": "zookeeper",
            "high-availability.zookeeper.quorum": f"127.0.0.1:{keeper}",
            "high-availability.zookeeper.client.session-timeout": 10000,
            "high-availability.storageDir": (self._folder / "ha").as_uri(),
            "execution.checkpointing.dir": (self._folder / "checkpoints").as_uri(),
            "state.checkpoints.dir": (self._folder / "checkpoints").as_uri(),
        }
        lines = (f"{name}: {value}\n" for name, value in settings.items())
        (self._conf / "flink-conf.yaml").write_text("".join(lines))
