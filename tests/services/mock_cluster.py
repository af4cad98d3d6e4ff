"""librdkafka's mock cluster, whose brokers answer with the errors that a test wants."""

from __future__ import annotations

import ctypes
import importlib.metadata
from functools import cache

import pytest

__all__ = ["LIST_OFFSETS", "OFFSET_COMMIT", "OFFSET_FETCH", "MockCluster", "librdkafka"]

LIST_OFFSETS, OFFSET_COMMIT, OFFSET_FETCH = 2, 8, 9
"""Kafka's numbers of requests."""


@cache
def librdkafka() -> ctypes.CDLL:
    """Load the library that confluent-kafka brings; skip where it brings none."""
    files = importlib.metadata.files("confluent-kafka") or []
    found = [file.locate() for file in files if file.name.startswith("librdkafka")]
    libraries = [path for path in found if ".so" in str(path) or ".dylib" in str(path)]
    if not libraries:
        pytest.skip("confluent-kafka brings no librdkafka of its own")
    return ctypes.CDLL(str(libraries[0]))


class MockCluster:
    """Brokers inside this process, with as many partitions a topic as asked for.

    ``with`` starts and ends it.
    """

    def __init__(self, brokers: int = 1) -> None:
        """Start it."""
        library = librdkafka()
        for function in ("conf_new", "new", "mock_cluster_new"):
            getattr(library, f"rd_kafka_{function}").restype = ctypes.c_void_p
        library.rd_kafka_mock_cluster_bootstraps.restype = ctypes.c_char_p
        settings = ctypes.c_void_p(library.rd_kafka_conf_new())
        self._library = library
        self._owner = ctypes.c_void_p(library.rd_kafka_new(0, settings, None, ctypes.c_size_t(0)))
        self._cluster = ctypes.c_void_p(library.rd_kafka_mock_cluster_new(self._owner, brokers))
        servers: bytes = library.rd_kafka_mock_cluster_bootstraps(self._cluster)
        self.bootstrap_servers = servers.decode()

    def __enter__(self) -> MockCluster:  # noqa: PYI034 - Python 3.10 has no Self
        """Return it, running."""
        return self

    def __exit__(self, *_: object) -> None:
        """Stop it."""
        self._library.rd_kafka_mock_cluster_destroy(self._cluster)
        self._library.rd_kafka_destroy(self._owner)

    def create_topic(self, name: str, partitions: int) -> str:
        """Create a topic and return its name."""
        topic = ctypes.c_char_p(name.encode())
        assert self._library.rd_kafka_mock_topic_create(self._cluster, topic, partitions, 1) == 0
        return name

    def fail(self, request: int, *codes: int) -> None:
        """Let the next requests of a kind, of any client, be answered with these errors."""
        errors = (ctypes.c_int * len(codes))(*codes)
        number, count = ctypes.c_int16(request), ctypes.c_size_t(len(codes))
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, number, count, errors)

    def lead(self, name: str, partition: int, broker: int) -> None:
        """Make a broker the leader of a partition; -1 is nobody."""
        topic = ctypes.c_char_p(name.encode())
        self._library.rd_kafka_mock_partition_set_leader(self._cluster, topic, partition, broker)
