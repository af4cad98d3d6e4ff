"""How far collections are behind their topics, as brokers say it."""

from __future__ import annotations

from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError, SourceError
from batch_collection.inspection.status import status
from batch_collection.log.entries import newest_entry, no_collection

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from batch_collection.inspection.status import Status
    from batch_collection.log.entry import Source
    from batch_collection.storage.contract import Storage
    from transforms.sources.contract import Connection

__all__ = ["Lags", "lags_asked_of"]


@dataclass(slots=True)
class Lags:
    """Asks brokers where topics end, through one connection; without it nothing is asked."""

    connection: Connection | None = None
    _away: str | None = None

    def status(self, storage: Storage, last: int) -> Status:
        """Sum a log up, with the lag; what brokers can't tell takes nothing from the rest.

        Raises:
            CollectionError: the log can't be read.
        """
        if self.connection is None:
            return status(storage, last)
        newest = newest_entry(storage)
        if newest is None:
            raise no_collection(storage)
        try:
            ends = self._ends(self.connection, newest.source)
        except CollectionError as error:
            return replace(status(storage, last), lag_unknown=str(error))
        return status(storage, last, ends)

    def _ends(self, connection: Connection, collected: Source) -> dict[int, int]:
        """Return a topic's ends, by partition, if it is the one that was collected."""
        if collected.kind != "kafka":
            message = f"it was collected from {collected.kind}: no broker tells its lag"
            raise CollectionError(message)
        self._check_is_there(connection)
        (topic,) = connection.sources([collected.topic])
        there = topic.identity().topic_id
        if collected.topic_id not in {None, there}:
            message = (
                f"topic={topic.name} there is not the one collected: its id is {there}, collected "
                f"was {collected.topic_id}"
            )
            raise CollectionError(message)
        return {partition: bounds.end for partition, bounds in topic.bounds().items()}

    def _check_is_there(self, connection: Connection) -> None:
        """See once that brokers answer: those that are away are not waited for again and again."""
        if self._away is None:
            self._away = ""
            try:
                connection.sources(())
            except CollectionError as error:
                self._away = str(error)
        if self._away:
            raise SourceError(self._away)


@contextmanager
def lags_asked_of(config: Mapping[str, object] | None) -> Iterator[Lags]:
    """Ask the brokers of some settings of librdkafka; None: no lag is asked for.

    Raises:
        SourceError: librdkafka refuses the settings.
    """
    if config is None:
        yield Lags()
        return
    from transforms.sources.kafka.settings import KafkaSettings  # noqa: PLC0415 - seldom needed

    with closing(KafkaSettings((), config).connect()) as connection:
        yield Lags(connection)
