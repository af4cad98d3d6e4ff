"""The same graph on the DirectRunner, on Prism, and on Flink.

    python -m bench.engines [--only=rows,visible,managers] [--messages=4_000_000] [--windows=200]
        [--decoded=600_000]

``rows``: a topic collected to its end, rows a second of the whole process. ``visible``: with
windows of one second and the default grace of two, seconds from a window's end to its manifest.
``managers``: a cluster with one TaskManager against two, where a decoder keeps each worker busy,
beside what two bare processes reach on these cores. All that is collected is exact, or the
measurement ends. It takes about twelve minutes on two quiet cores.

Needs Java and Maven for a real Kafka, which runs on the same cores, and for Flink; Go, or Prism on
PATH. An engine that can't be had is left out, and why is said.
"""

from __future__ import annotations

import argparse
import statistics
import sys
from functools import cache
from typing import TYPE_CHECKING

from bench.collecting import fill
from bench.engines import managers, rows, visible
from bench.engines.started import ENGINES, started
from bench.kafka import real_kafka
from tests.services.made import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.services.kafka import KafkaBroker

__all__ = ["main"]

_filled = cache(fill)  # parts may be given one size


def show_rows(broker: KafkaBroker, messages: int) -> None:
    """Collect the same topic on each engine."""
    topic = _filled(broker, messages)

    def show(engine: str, flags: Sequence[str]) -> None:
        taken = rows.collected(broker.bootstrap_servers, topic, messages, flags)
        print(
            f"rows      {engine:<13}{messages:,} messages in {taken.seconds:.1f} s: "
            f"{messages / taken.seconds:,.0f} rows/s, exact, audit clean; with its workers "
            f"{taken.cpu_seconds:.1f} s of CPU, {taken.peak_bytes / 1e6:.0f} MB",
            flush=True,
        )

    _on_each(show)


def show_visible(broker: KafkaBroker, windows: int) -> None:
    """Collect messages as they come on each engine."""

    def show(engine: str, flags: Sequence[str]) -> None:
        waits = visible.waits(broker, windows, flags)
        p99 = statistics.quantiles(waits, n=100)[98]
        print(
            f"visible   {engine:<13}{len(waits)} windows, seconds after their end: median "
            f"{statistics.median(waits):.2f}, p99 {p99:.2f}, at the most {max(waits):.2f}; exact, "
            "audit clean",
            flush=True,
        )

    _on_each(show)


def show_managers(broker: KafkaBroker, messages: int) -> None:
    """Collect the same topic with one TaskManager and with two."""
    topic = _filled(broker, messages)
    speeds = {}
    for count in (1, 2):
        speeds[count] = managers.rows_per_second(broker, topic, messages, count)
        print(f"managers  {count} TaskManager(s): {speeds[count]:,.0f} rows/s, exact", flush=True)
    alone, both = (managers.bare(count, messages // 4) for count in (1, 2))
    print(
        f"managers  two against one: {speeds[2] / speeds[1]:.2f}; of bare processes that only "
        f"decode: {both / alone:.2f} ({alone:,.0f} and {both:,.0f} messages/s)"
    )


def _on_each(show: Callable[[str, Sequence[str]], None]) -> None:
    for engine in ENGINES:
        try:
            with started(engine) as flags:
                show(engine, flags)
        except UnavailableError as error:
            print(f"{error}; {engine} is left out")


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", default="rows,visible,managers", help="parts, by commas")
    parser.add_argument("--messages", type=int, default=4_000_000, help="of rows")
    parser.add_argument("--windows", type=int, default=200, help="of visible")
    parser.add_argument("--decoded", type=int, default=600_000, help="messages of managers")
    given = parser.parse_args(arguments)
    parts = {
        "rows": lambda broker: show_rows(broker, given.messages),
        "visible": lambda broker: show_visible(broker, given.windows),
        "managers": lambda broker: show_managers(broker, given.decoded),
    }
    chosen = given.only.split(",")
    if unknown := set(chosen) - parts.keys():
        parser.error(f"unknown --only={','.join(sorted(unknown))}; use some of: {', '.join(parts)}")
    with real_kafka("engines are") as broker:
        for name in chosen:
            try:
                parts[name](broker)
            except UnavailableError as error:
                print(f"{error}; {name} is left out")
    return 0


if __name__ == "__main__":
    sys.exit(main())
