"""On a cluster of Flink's with workers of its own: whatever is killed, the job heals, exact."""

from __future__ import annotations

import random
import signal
import time
from itertools import cycle, islice
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.inspection.audit import audit
from batch_collection.storage.opening import open_storage
from tests.collecting import CollectorProcess, Producing, Sending, Stream, run_command, sending
from tests.engines import FLAGS, finish, log_of, wait_until
from tests.services.gcs import BUCKET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.services.flink import FlinkCluster
    from tests.services.gcs import FakeGcs
    from tests.services.kafka import KafkaBroker

pytestmark = [pytest.mark.integration, pytest.mark.faults]

AGAIN = ("--number_of_execution_retries=50", "--execution_retry_delay=1000")
CHECKPOINTS = ("--checkpointing_interval=2000",)  # with them Flink tries again by itself


def on(cluster: FlinkCluster, *flags: str) -> tuple[str, ...]:
    """Return the flags of a collector that submits to it."""
    where = ("--runner=PortableRunner", f"--job_endpoint={cluster.endpoint}")
    return (*where, *cluster.environment, *FLAGS, *flags)


def kill_task_manager(cluster: FlinkCluster) -> None:
    """Kill one, each of which works for the job, and start another."""
    cluster.kill("task manager 1")
    cluster.start_task_manager(1)


def kill_pool(cluster: FlinkCluster) -> None:
    """Kill all Python workers."""
    cluster.kill("pool")
    cluster.start_pool()


def kill_job_manager(cluster: FlinkCluster) -> None:
    """Kill it, and start it again; ZooKeeper knows the job."""
    cluster.kill("job manager")
    cluster.start_job_manager()


FAULTS = {"TaskManager": kill_task_manager, "workers": kill_pool, "JobManager": kill_job_manager}
KILLS = 10


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("healing", [AGAIN, CHECKPOINTS], ids=["again", "checkpoints"])
def test_a_job_heals_and_loses_nothing(
    kafka: KafkaBroker,
    flink_cluster: FlinkCluster,
    tmp_path: Path,
    tell: Callable[[str], None],
    healing: tuple[str, ...],
) -> None:
    """Whatever is killed, ten times in turn, it goes on by itself, from where the log ends."""
    seed = random.randrange(2**32)
    print(f"seed={seed}")
    stream, rng = Stream(kafka), random.Random(seed)
    path = tmp_path / stream.name
    waits: dict[str, list[float]] = {name: [] for name in FAULTS}
    with Producing(stream, a_second=1000):
        with CollectorProcess([stream], tmp_path, *on(flink_cluster, *healing)) as collector:
            for name in islice(cycle(FAULTS), KILLS):
                already = len(log_of(path))
                wait_until(lambda: len(log_of(path)) > already + 2, collector)  # noqa: B023
                time.sleep(rng.uniform(0, 2))  # the moment of death is what is tried
                FAULTS[name](flink_cluster)
                began, already = time.monotonic(), len(log_of(path))
                wait_until(lambda: len(log_of(path)) > already + 1, collector)  # noqa: B023
                waits[name].append(time.monotonic() - began)
            assert collector.poll() is None, collector.lines
        flink_cluster.cancel_all()
    finish(stream, tmp_path, *FLAGS[:3])
    shown = "; ".join(
        f"{name} {', '.join(f'{wait:.0f}' for wait in each)} s" for name, each in waits.items()
    )
    tell(
        f"{KILLS} kills, {len(stream.produced):,} messages, seed={seed}: exact; collecting again "
        f"after: {shown}"
    )


def test_a_stale_job_frees_its_slots(
    kafka: KafkaBroker, flink_cluster: FlinkCluster, tmp_path: Path
) -> None:
    """Nobody waits for it any more, and another run has taken its collection over."""
    stream = Stream(kafka)
    path = tmp_path / stream.name
    with Producing(stream, a_second=500):
        detached = run_command([stream], tmp_path, *on(flink_cluster), "--detach")
        assert detached.returncode == 0, detached.stderr
        wait_until(lambda: len(log_of(path)) > 0)  # the job server submits it in its own time

        def is_taken_over() -> bool:
            run_command([stream], tmp_path, *FLAGS[:3], "--once")  # ends itself if it is the later
            return flink_cluster.states()[-1] == "FINISHED"

        wait_until(is_taken_over)
    finish(stream, tmp_path, *FLAGS[:3])
    assert flink_cluster.ask("/overview")["slots-available"] == 2


def test_flink_shows_what_is_counted_of_a_topic_that_goes_to_cloud_storage(
    kafka: KafkaBroker, flink_cluster: FlinkCluster, gcs: FakeGcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Workers of its own find the storage by themselves; all subtasks' counters are in REST."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", gcs.url)
    kill_pool(flink_cluster)  # the next one is told of it
    stream, output = Stream(kafka), f"gs://{BUCKET}/flink-cluster"
    stream.send(*(sending(partition=n % 4, id=n) for n in range(2_000)))
    stream.send(Sending(b"{", partition=1))
    counts = {"messages": 2_001, "rows": 2_000, "dead_letters": 1}

    def counted() -> dict[str, int]:
        return {name: flink_cluster.counted(f"batch_collection_{name}") for name in counts}

    with CollectorProcess([stream], output, *on(flink_cluster)) as collector:
        wait_until(lambda: "RUNNING" in flink_cluster.states(), collector)
        wait_until(lambda: counted() == counts, collector)
        assert flink_cluster.counted("batch_collection_cycles") > 0
        collector.send(signal.SIGINT)
        assert collector.end() == 0, collector.lines
    end = run_command([stream], output, *FLAGS[:3], "--once", "--flush")
    assert end.returncode == 0, end.stderr
    collection = batch_collection.open(f"{output}/{stream.name}")
    assert sorted(collection.table(["id"])["id"].to_pylist()) == list(range(2_000))
    assert audit(open_storage(f"{output}/{stream.name}")).findings == ()
