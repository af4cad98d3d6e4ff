"""Metrics by the rules of Prometheus: of collections from their logs, of a run from its events."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.registry import Collector

from batch_collection.errors import CollectionError
from batch_collection.windows import utc_now
from transforms.process.events import Away, CycleCommitted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from prometheus_client.core import Metric

    from batch_collection.log.entry import Entry
    from pipeline.serving.views import CollectionView
    from transforms.process.events import Event

__all__ = ["COUNTS", "RunMetrics", "registry_of"]

_PREFIX = "batch_collection_"
_LABELS = ("topic",)
COUNTS = {
    "messages": "Messages that were read and accounted for.",
    "rows": "Rows in batches that were committed.",
    "late_rows": "Rows in batches of windows that were closed before.",
    "files": "Batch files that were committed.",
    "bytes": "Bytes of batch files that were committed.",
    "dead_letters": "Messages of which no row could be made, each time that was tried.",
    "redriven": "Dead letters of which rows were made later.",
    "tombstones": "Messages without a value.",
    "lost": "Messages that were gone from the source before they were read.",
}
"""Of ``Sums``, and what they count."""
_SECONDS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800, 3600)
_logger = logging.getLogger(__name__)


def registry_of(
    views: Callable[[], Sequence[CollectionView]], ready: Callable[[], bool]
) -> CollectorRegistry:
    """Return what is exposed of some collections, and of this process.

    Args:
        views: Gives the collections that there are.
        ready: Tells whether collecting goes on as it should.
    """
    registry = CollectorRegistry(auto_describe=False)
    ProcessCollector(registry=registry)
    registry.register(_OfLogs(views, ready))
    return registry


class _OfLogs(Collector):
    """What logs say, looked at when it is asked for."""

    def __init__(
        self, views: Callable[[], Sequence[CollectionView]], ready: Callable[[], bool]
    ) -> None:
        self._views, self._ready = views, ready

    def collect(self) -> Iterable[Metric]:
        """Yield all families; a collection that can't be read keeps what it last had."""
        views = self._views()
        up = GaugeMetricFamily(
            f"{_PREFIX}log_readable", "Whether the log could be read just now.", labels=_LABELS
        )
        for view in views:
            try:
                view.refresh()
            except CollectionError as error:
                _logger.warning("cannot look at %s: %s", view.storage.uri, error)
                up.add_metric([view.name], 0)
            else:
                up.add_metric([view.name], 1)
        yield up
        yield GaugeMetricFamily(
            f"{_PREFIX}ready", "Whether collecting goes on as it should.", float(self._ready())
        )
        for name, text in COUNTS.items():
            family = CounterMetricFamily(f"{_PREFIX}{name}", text, labels=_LABELS)
            for view in views:
                family.add_metric([view.name], getattr(view.sums, name))
            yield family
        closed = CounterMetricFamily(
            f"{_PREFIX}closed_windows",
            "Windows that were closed, with rows or without.",
            labels=_LABELS,
        )
        for view in views:
            closed.add_metric([view.name], view.sums.closed_windows + view.sums.empty_windows)
        yield closed
        yield from _gauges(views)


def _gauges(views: Sequence[CollectionView]) -> Iterator[Metric]:
    seen = [(view, view.newest) for view in views if view.newest is not None]
    texts: Mapping[str, tuple[str, Callable[[CollectionView, Entry], float | None]]] = {
        "cycle": ("The newest entry of the log.", lambda _, entry: entry.cycle),
        "committed_seconds": (
            "When the newest entry was committed, in seconds since 1970.",
            lambda _, entry: entry.committed_at.timestamp(),
        ),
        "closed_through_seconds": (
            "All windows that end by this instant are closed, in seconds since 1970.",
            lambda _, entry: None if entry.boundary is None else entry.boundary.timestamp(),
        ),
        "carry_rows": (
            "Rows that are durable and wait for their batch.",
            lambda _, entry: sum(file.rows for file in entry.carry),
        ),
        "carry_bytes": (
            "Bytes of those rows.",
            lambda _, entry: sum(file.bytes for file in entry.carry),
        ),
        "lag_messages": (
            "Messages that the source has and no entry yet, as a collector saw it last.",
            lambda view, _: view.lag(),
        ),
    }
    for name, (text, value_of) in texts.items():
        family = GaugeMetricFamily(f"{_PREFIX}{name}", text, labels=_LABELS)
        for view, entry in seen:
            value = value_of(view, entry)
            if value is not None:
                family.add_metric([view.name], value)
        yield family


class RunMetrics:
    """An observer: what only the run itself knows, from its start on."""

    def __init__(self, registry: CollectorRegistry) -> None:
        """Register them."""
        self._visible = Histogram(
            f"{_PREFIX}window_visible_seconds",
            "From the end of a window until its first rows in time are visible.",
            _LABELS,
            buckets=_SECONDS,
            registry=registry,
        )
        self._cycles = Histogram(
            f"{_PREFIX}cycle_seconds",
            "From the plan of a cycle to its commit.",
            _LABELS,
            buckets=_SECONDS,
            registry=registry,
        )
        self._retries = Counter(
            f"{_PREFIX}retries",
            "Times that a topic was left alone for a while.",
            _LABELS,
            registry=registry,
        )

    def __call__(self, event: Event) -> None:
        """Take an event."""
        match event:
            case CycleCommitted() if not event.entry.is_maintenance:
                name, now = event.collection.rpartition("/")[2], utc_now()
                self._cycles.labels(name).observe(event.took.total_seconds())
                for pane in event.entry.panes:
                    if pane.timing == "on_time" and pane.rows:
                        waited = (now - pane.window_end).total_seconds()
                        self._visible.labels(name).observe(waited)
            case Away():
                self._retries.labels(event.topic).inc()
            case _:
                pass
