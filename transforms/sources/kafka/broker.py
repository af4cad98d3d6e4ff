"""What the planner asks of Kafka: topics, offsets, and a group's committed ones."""

from __future__ import annotations

import difflib
import threading
import time
from concurrent.futures import wait
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from confluent_kafka import (
    OFFSET_INVALID,
    ConsumerGroupTopicPartitions,
    IsolationLevel,
    KafkaError,
    KafkaException,
    TopicCollection,
    TopicPartition,
)
from confluent_kafka.admin import AdminClient, OffsetSpec

from batch_collection.errors import CollectionError, SourceError
from batch_collection.windows import EPOCH, LAST_INSTANT, from_microseconds, microseconds
from transforms.process.process import current
from transforms.sources.contract import Answer, Bounds
from transforms.sources.kafka.client import NETWORK, ClientLog, ReadingClient, listed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from concurrent.futures import Future
    from datetime import datetime

__all__ = ["Broker", "TopicInfo"]


_REQUEST_SECONDS = 10.0
# One try each for what is asked again. An error of one leader may follow a first try that a client
# which only just began let pass unanswered.
_LOOK_UPS = (3.0, 3.0, _REQUEST_SECONDS)
_LAST_SECONDS = 1.0  # of a process that is asked to stop
# One try each, so that a refused login shows early. One that is silent may only be busy, or far
# away, and TLS and a login take some answers: it has ten seconds. Where no broker can be connected
# to, or one closes each connection, the first two are enough.
_PATIENCE = (0.5, 1.0, 2.0, 3.0, 4.0)
_ENOUGH = 2
_DEFAULTS = {**NETWORK, "socket.timeout.ms": 10_000}  # when a silent connection is given up
_POLL_SECONDS = 0.05
_NAMES_SHOWN = 5
_EMBEDDED = "mockCluster"  # it lets a request for topic ids, of which it has none, time out
_NO_ID = "A" * 22  # of brokers before 2.8
_NEW_COORDINATOR = {
    KafkaError.COORDINATOR_LOAD_IN_PROGRESS,
    KafkaError.COORDINATOR_NOT_AVAILABLE,
    KafkaError.NOT_COORDINATOR,
}
_T = TypeVar("_T")


class TopicInfo(NamedTuple):
    """A topic as the broker has it; ``topic_id`` and ``cluster_id`` are None where it has none."""

    name: str
    topic_id: str | None
    cluster_id: str | None
    partitions: tuple[int, ...]


class Broker:
    """A Kafka cluster, asked as an administrator would; it never makes a topic.

    Every method raises ``SourceError`` within 15 s where the cluster doesn't answer or refuses,
    within 30 s where only some brokers do, and within 5 s once this process is asked to stop
    (``stop`` of ``Process``). Threads may ask at once: what the client tells is told to them all.
    """

    def __init__(self, config: Mapping[str, object]) -> None:
        """Take librdkafka's settings; nothing is asked yet.

        Raises:
            SourceError: librdkafka refuses the settings.
        """
        self._config = config
        self._servers = config.get("bootstrap.servers")
        uncommitted = config.get("isolation.level") == "read_uncommitted"
        self._isolation = (
            IsolationLevel.READ_UNCOMMITTED if uncommitted else IsolationLevel.READ_COMMITTED
        )
        self._log = ClientLog()
        self._asking, self._lock = 0, threading.Lock()
        settings: dict[str, Any] = {**_DEFAULTS, **config, "error_cb": self._log.failed}
        try:
            self._admin: AdminClient | None = AdminClient(settings, logger=self._log)
        except KafkaException as error:
            message = f"bad kafka settings: {error.args[0].str()}; fix --consumer_config or -X"
            raise SourceError(message) from error

    def names(self) -> list[str]:
        """Return the names of all topics that this user is shown, those of Kafka's own, too."""
        return sorted(self._metadata().topics)

    def topic(self, name: str) -> TopicInfo:
        """Return what the broker knows of a topic; see ``topics``."""
        return self.topics((name,))[0]

    def topics(self, names: Iterable[str]) -> list[TopicInfo]:
        """Return what the broker knows of some topics, which it lists once.

        Raises:
            CollectionError: there is no such topic, or this user isn't shown it.
        """
        metadata = self._metadata()
        return [self._info(name, metadata) for name in names]

    def _info(self, name: str, metadata: Any) -> TopicInfo:
        topic = metadata.topics.get(name)
        if topic is None:
            raise CollectionError(self._missing(name, metadata.topics))
        if topic.error is not None:
            raise self._log.error(self._servers, f"look up topic={name}", topic.error)
        cluster_id = metadata.cluster_id or None
        embedded = cluster_id is not None and cluster_id.startswith(_EMBEDDED)
        topic_id = None if embedded else self.topic_id(name)
        return TopicInfo(name, topic_id, cluster_id, tuple(sorted(topic.partitions)))

    def topic_id(self, name: str) -> str | None:
        """Return the id of a topic, None where the broker has none; an embedded one is silent."""
        asked = self._client.describe_topics(
            TopicCollection([name]), request_timeout=_REQUEST_SECONDS
        )
        topic_id = self._await(asked[name], f"describe topic={name}").topic_id
        return None if topic_id is None or str(topic_id) == _NO_ID else str(topic_id)

    def offsets(self, name: str, partitions: Iterable[int]) -> dict[int, Bounds]:
        """Return the earliest offset and the end, by partition.

        The end is exclusive: the last stable offset, or the high watermark where the settings say
        ``isolation.level=read_uncommitted``.

        Raises:
            SourceError: partitions have no leader; it names them.
        """
        wanted = tuple(partitions)
        starts, ends = self._found(name, wanted, OffsetSpec.earliest(), OffsetSpec.latest())
        return {each: Bounds(starts[each].offset, ends[each].offset) for each in wanted}

    def offsets_at(
        self, name: str, partitions: Iterable[int], instant: datetime
    ) -> dict[int, Answer]:
        """Return the first record stamped at or after ``instant``, by partition."""
        milliseconds = max(-(microseconds(EPOCH - instant) // 1000), 0)  # rounded up
        spec = OffsetSpec.for_timestamp(milliseconds)
        (found,) = self._found(name, tuple(partitions), spec)
        return {each: _answer(one.offset, one.timestamp) for each, one in found.items()}

    def committed(self, name: str, partitions: Iterable[int], group_id: str) -> dict[int, int]:
        """Return the offsets a group has committed; partitions without one are left out.

        A consumer is asked: librdkafka's ListConsumerGroupOffsets kills the process where the
        group's coordinator moves (librdkafka 5040).
        """
        places = [TopicPartition(name, each) for each in partitions]
        client = ReadingClient({**self._config, "group.id": group_id})
        try:
            found = self._committed(client, places, f"read the offsets of group_id={group_id}")
        finally:
            client.consumer.close()
        return {place.partition: place.offset for place in found if place.offset >= 0}

    def _committed(
        self, client: ReadingClient, places: list[TopicPartition], doing: str
    ) -> list[TopicPartition]:
        for seconds in _PATIENCE:
            try:
                found = client.consumer.committed(places, timeout=seconds)
            except KafkaException as error:
                failure = error
            else:
                self._check(found, doing)
                return found
            client.consumer.poll(0)  # what it has to tell
            if client.log.refused or current().stop.is_set() or _is_final(failure):
                break
        raise client.error(doing, failure.args[0]) from failure

    def commit(self, name: str, group_id: str, offsets: Mapping[int, int]) -> None:
        """Commit offsets, by partition, for a group that nobody else is a member of."""
        if not offsets:
            return
        places = [TopicPartition(name, each, offset) for each, offset in offsets.items()]
        doing = f"commit offsets of group_id={group_id}"
        group = ConsumerGroupTopicPartitions(group_id, places)
        deadline = time.monotonic() + _REQUEST_SECONDS
        while True:
            asked = self._client.alter_consumer_group_offsets(
                [group], request_timeout=_REQUEST_SECONDS
            )
            try:
                self._check(self._await(asked[group_id], doing).topic_partitions, doing)
            except SourceError as error:
                is_late = time.monotonic() > deadline or current().stop.is_set()
                if is_late or not _has_new_coordinator(error):
                    raise
            else:
                return
            time.sleep(_POLL_SECONDS)

    def close(self) -> None:
        """Let go of the cluster."""
        self._admin = None

    @property
    def _client(self) -> AdminClient:
        if self._admin is None:
            message = f"the connection to kafka at {self._servers} is closed"
            raise SourceError(message)
        return self._admin

    def _metadata(self) -> Any:
        """List everything: asking for one topic by its name may make the broker create it."""
        with self._asks():
            for tries, seconds in enumerate(_PATIENCE, 1):
                try:
                    return self._client.list_topics(timeout=seconds)
                except KafkaException as error:
                    failure = error
                self._client.poll(0)
                is_enough = tries >= _ENOUGH and (self._log.hangs_up or self._log.nobody)
                if self._log.refused or is_enough or current().stop.is_set():
                    break
            raise self._log.error(self._servers, "list topics", failure.args[0]) from failure

    def _found(
        self, name: str, partitions: tuple[int, ...], *specs: OffsetSpec
    ) -> list[dict[int, Any]]:
        """Look offsets up; if that fails, learn who leads the partitions now, and ask again.

        librdkafka's ListOffsets goes on asking the old leader, also one that is no more.
        """
        for seconds in _LOOK_UPS:
            try:
                return self._look_up(name, partitions, specs, seconds)
            except SourceError as error:
                failure = error
            if self._log.refused or current().stop.is_set():
                break
            self._check_leaders(name, partitions)
        raise failure

    def _check_leaders(self, name: str, partitions: tuple[int, ...]) -> None:
        topic = self._metadata().topics.get(name)
        there = topic.partitions if topic is not None else {}
        orphans = [each for each in partitions if each in there and there[each].leader < 0]
        if orphans:
            message = (
                f"topic={name} has no leader for partition={listed(orphans)}: the brokers that "
                f"hold it are away from kafka at {self._servers}; nothing of the topic is "
                "collected meanwhile"
            )
            raise SourceError(message)

    def _look_up(
        self, name: str, partitions: tuple[int, ...], specs: Iterable[OffsetSpec], seconds: float
    ) -> list[dict[int, Any]]:
        asked = [self._ask(name, partitions, spec, seconds) for spec in specs]
        return [self._offsets(name, answers, seconds) for answers in asked]

    def _ask(
        self, name: str, partitions: tuple[int, ...], spec: OffsetSpec, seconds: float
    ) -> dict[int, Future[Any]]:
        if not partitions:
            return {}
        asked = self._client.list_offsets(
            {TopicPartition(name, each): spec for each in partitions},
            isolation_level=self._isolation,
            request_timeout=seconds,
        )
        return {place.partition: answer for place, answer in asked.items()}

    def _offsets(
        self, name: str, answers: dict[int, Future[Any]], seconds: float
    ) -> dict[int, Any]:
        doing = f"list offsets of topic={name}"
        found = {each: self._await(answer, doing, seconds) for each, answer in answers.items()}
        if any(one.offset == OFFSET_INVALID for one in found.values()):
            raise self._log.error(self._servers, doing)  # a leader went away: no error is given
        return found

    def _await(self, answer: Future[_T], doing: str, seconds: float = _REQUEST_SECONDS) -> _T:
        """Wait for an answer, serving the client's log; a refusal isn't waited out."""
        with self._asks():
            deadline = time.monotonic() + seconds + 1
            while not answer.done() and not self._log.refused and time.monotonic() < deadline:
                wait([answer], _POLL_SECONDS)
                self._client.poll(0)
                if current().stop.is_set():
                    deadline = min(deadline, time.monotonic() + _LAST_SECONDS)
            if not answer.done():
                raise self._log.error(self._servers, doing)
            try:
                return answer.result()
            except KafkaException as error:
                raise self._log.error(self._servers, doing, error.args[0]) from error

    @contextmanager
    def _asks(self) -> Iterator[None]:
        """Ask; what went wrong before is forgotten, unless another thread may still tell of it."""
        with self._lock:
            if not self._asking:
                self._log.forget()
            self._asking += 1
        try:
            yield
        finally:
            with self._lock:
                self._asking -= 1

    def _check(self, places: Iterable[TopicPartition], doing: str) -> None:
        for place in places:
            if place.error is not None:
                where = f"{doing}, topic={place.topic}, partition={place.partition}"
                failure = self._log.error(self._servers, where, place.error)
                raise failure from KafkaException(place.error)

    def _missing(self, name: str, topics: Iterable[str]) -> str:
        names = sorted(topics)
        similar = difflib.get_close_matches(name, names, _NAMES_SHOWN)
        shown = similar or [each for each in names if not each.startswith("__")][:_NAMES_SHOWN]
        there = (
            f"similar: {', '.join(shown)}"
            if similar
            else f"there are: {', '.join(shown) or 'none'}"
        )
        return f"no topic={name} at kafka {self._servers}; {there}"


def _is_final(failure: KafkaException) -> bool:
    """Tell whether a broker answered, and asking it again is of no use."""
    code = failure.args[0].code()
    return code > 0 and code not in _NEW_COORDINATOR  # librdkafka's own are negative


def _has_new_coordinator(error: SourceError) -> bool:
    """Tell whether the group's coordinator only just begins to be one."""
    cause = error.__cause__
    return isinstance(cause, KafkaException) and cause.args[0].code() in _NEW_COORDINATOR


def _answer(offset: int, milliseconds: int) -> Answer:
    if offset < 0:
        return Answer(None, None)
    if milliseconds < 0:
        return Answer(offset, None)
    try:
        return Answer(offset, from_microseconds(milliseconds * 1000))
    except OverflowError:  # stamped in nanoseconds, say
        return Answer(offset, LAST_INSTANT)
