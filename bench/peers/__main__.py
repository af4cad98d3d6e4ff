"""How fast a topic is collected by others, and by us, in one run.

    python -m bench.peers [--messages=2_000_000] [--only=NAME]

Needs Java and Maven for a real Kafka, which runs on the same cores. Each peer is set up once, in
the user's cache; one that can't be had here is left out, and it is said why. Each is a process of
its own, measured from its start to its exit, and its files must hold each message at least once.
Slow ones get fewer messages: rows a second are compared.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow.compute as pc
import pyarrow.dataset as ds

from bench.child import python
from bench.collecting import OURS, Run, fill, ways
from bench.kafka import real_kafka
from bench.measured import Taken
from bench.peers.known import PEERS, Job
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["main"]


def measure(name: str, servers: str, topic: str, messages: int) -> Run:
    """Let a peer, or this project, collect a topic, and check what came of it.

    Raises:
        UnavailableError: the peer can't be set up here.
    """
    with tempfile.TemporaryDirectory() as folder:
        directory = Path(folder)
        if name == OURS:
            command = [sys.executable, *ways(servers, topic, directory)[OURS]]
        else:
            peer = PEERS[name]
            made = peer.made.get(lambda text: print(text, file=sys.stderr))
            command = peer.command(made, Job(servers, topic, directory, messages))
        taken = Taken(**json.loads(python("-m", "bench.measured", *command).splitlines()[-1]))
        files = [path for path in directory.rglob("*") if _holds_rows(path)]
        ids = ds.dataset([str(file) for file in files], format="parquet").to_table(["id"])["id"]
        if pc.count_distinct(ids).as_py() != messages:
            sys.exit(f"{name}: {messages:,} messages became {len(ids):,} rows: no result")
        size = sum(file.stat().st_size for file in files)
    return Run(name, messages, **taken._asdict(), files=len(files), file_bytes=size)


def _holds_rows(path: Path) -> bool:
    """Tell Parquet files, whatever they are called, from notes of the peers'."""
    if not path.is_file() or path.name.startswith(("_", ".")) or path.stat().st_size < _LEAST:
        return False
    with path.open("rb") as file:
        return file.read(len(_MAGIC)) == _MAGIC


_MAGIC, _LEAST = b"PAR1", 12


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=2_000_000)
    parser.add_argument("--only", choices=[*PEERS])
    given = parser.parse_args(arguments)
    names = [given.only] if given.only else [*PEERS]
    with real_kafka("peers are") as broker:
        _show_all(broker, names, given.messages)
    return 0


def _show_all(broker: KafkaBroker, names: Sequence[str], messages: int) -> None:
    sizes = {name: min(messages, PEERS[name].messages) for name in names}
    topics = {size: fill(broker, size) for size in sorted({messages, *sizes.values()})}
    ours = measure(OURS, broker.bootstrap_servers, topics[messages], messages)
    print("| | rows/s | ours to it | CPU microseconds a row | MB | files | after a crash | lacks |")
    print("|---|---|---|---|---|---|---|---|")
    _show(ours, ours, "each message once", "")
    for name in names:
        size = sizes[name]
        try:
            run = measure(name, broker.bootstrap_servers, topics[size], size)
        except UnavailableError as error:
            print(f"{error}; {name} is not measured", file=sys.stderr)
            continue
        _show(run, ours, PEERS[name].promises, PEERS[name].lacks)


def _show(run: Run, ours: Run, promises: str, lacks: str) -> None:
    speed, our_speed = (each.messages / each.seconds for each in (run, ours))
    figures = (
        f"{speed:,.0f}",
        f"{our_speed / speed:.1f}",
        f"{run.cpu_seconds / run.messages * 1e6:.1f}",
        f"{run.peak_bytes / 1e6:,.0f}",
        f"{run.files}",
    )
    print(f"| {run.way} | {' | '.join(figures)} | {promises} | {lacks} |", flush=True)


if __name__ == "__main__":
    sys.exit(main())
