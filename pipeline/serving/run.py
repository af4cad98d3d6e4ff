"""A run of this process, as it is served."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipeline.serving.health import Health
from pipeline.serving.metrics import RunMetrics
from pipeline.serving.server import Served
from pipeline.serving.views import CollectionView

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from pipeline.planning.topic import TopicCollection
    from transforms.process.events import Event

__all__ = ["Watched"]

_LEAST_PATIENCE = 120.0


class Watched:
    """An observer that knows how a run goes, and what is served of it."""

    def __init__(self, interval: timedelta) -> None:
        """Begin before the source has answered; a cycle may take two intervals, or two minutes."""
        self._views: tuple[CollectionView, ...] = ()
        self._health = Health(max(2 * interval.total_seconds(), _LEAST_PATIENCE))
        self.served = Served(
            lambda: self._views, self._health.reasons, lambda: tuple(self._health.troubles)
        )
        self._metrics = RunMetrics(self.served.registry)

    def begin(self, topics: Sequence[TopicCollection]) -> None:
        """Hear that the source has answered, and what is collected."""
        self._views = tuple(map(_view_of, topics))
        self._health.started()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        self._health(event)
        self._metrics(event)


def _view_of(topic: TopicCollection) -> CollectionView:
    """Return the view of what is collected here: nobody need look at the log for its end."""
    return CollectionView(
        topic.name, topic.storage, lambda _: topic.newest, lambda: topic.survey.lag
    )
