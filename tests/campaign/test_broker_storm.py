"""A storm between the collector and its broker: a network with every fault, a broker that dies."""

from __future__ import annotations

import random
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from tests.collecting import CollectorProcess, Producing, Stream, check, entries_of, run_command
from tests.services.kafka import KafkaBroker
from tests.services.tcp_proxy import TcpProxy

if TYPE_CHECKING:
    from pathlib import Path

SECONDS = 90
FLAGS = ("--interval=1s", "--grace=0s", "--batch_size=2000")


def befall(kind: str, network: TcpProxy, broker: KafkaBroker, seconds: float) -> None:
    """Let a fault come and go."""
    if kind == "kill":
        broker.kill()
        time.sleep(seconds)
        broker.start()
    elif kind == "close":
        network.close_all()
    else:
        {
            "drop": network.drop,
            "delay": lambda: network.delay(seconds / 10),
            "throttle": lambda: network.throttle(30_000),
        }[kind]()
        time.sleep(seconds)
        network.heal()


@pytest.mark.faults
@pytest.mark.timeout(900)
def test_a_storm_between_collector_and_broker_costs_nothing(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """At 1,000 messages a second: all are collected once, memory stays, and it tells little."""
    assert kafka.bootstrap_servers  # a real broker can be had; this one is killed
    folder = tmp_path / "broker"
    folder.mkdir()
    rng, kinds = random.Random(4), ("drop", "close", "delay", "throttle", "kill", "close")
    with TcpProxy() as network:
        broker = KafkaBroker(folder, proxy=network)
        broker.start()
        try:
            stream = Stream(broker)
            flags = (f"--bootstrap_servers={network.address}", *FLAGS)
            with (
                Producing(stream, a_second=1000),
                CollectorProcess([stream], tmp_path, *flags) as collector,
            ):
                collector.wait_for("  cycle 3 ")
                had = psutil.Process(collector.pid).memory_info().rss
                end, faults = time.monotonic() + SECONDS, 0
                while time.monotonic() < end:
                    befall(kinds[faults % len(kinds)], network, broker, rng.uniform(0.5, 5))
                    time.sleep(rng.uniform(0, 2))
                    faults += 1
                settled = len(entries_of(tmp_path / stream.name))
                collector.wait_for(f"  cycle {settled + 2} ", seconds=120)
                grown = psutil.Process(collector.pid).memory_info().rss - had
                collector.send(signal.SIGTERM)
                assert collector.end(15) == 0, collector.lines
            end_of_it = run_command([stream], tmp_path, *flags, "--once", "--flush")
            assert end_of_it.returncode == 0, end_of_it.stderr
            check(tmp_path / stream.name, stream.produced)
        finally:
            broker.kill()
    told = sum("trying again" in line for line in collector.lines)
    print(f"{faults} faults, told {told} times, {len(stream.produced):,} messages, {grown:,} bytes")
    assert faults > 10
    assert told <= faults
    assert "Traceback" not in "".join(collector.lines)
    assert grown < 128 << 20
