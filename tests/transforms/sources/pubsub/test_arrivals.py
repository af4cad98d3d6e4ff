"""When all that waited has come, and whether a source is away, as far as pulls can tell."""

from __future__ import annotations

import threading
from datetime import timedelta

import pytest

from batch_collection.errors import SourceError
from tests.leased_stream import BEGIN, Clock, LeasedStream, MemorySource
from transforms.sources.pubsub.arrivals import Arrivals

AFTER = BEGIN + timedelta(hours=1)


@pytest.fixture
def stream() -> LeasedStream:
    """Give a stream."""
    return LeasedStream()


@pytest.fixture
def clock() -> Clock:
    """Give a clock."""
    return Clock()


def test_all_has_come_once_nothing_does_for_a_while(stream: LeasedStream, clock: Clock) -> None:
    """An empty answer says nothing, nor does time in which nobody pulls: room may be short."""
    arrivals = Arrivals(MemorySource(stream), clock)
    clock.seconds = 100.0
    assert not arrivals.are_over(AFTER)
    arrivals.pull(10)
    assert not arrivals.are_over(AFTER)
    stream.publish(b"x")
    clock.seconds = 109.0
    arrivals.pull(10)
    clock.seconds = 130.0
    assert not arrivals.are_over(AFTER)
    arrivals.pull(10)
    clock.seconds = 139.9
    assert not arrivals.are_over(AFTER)
    clock.seconds = 140.0
    assert arrivals.are_over(AFTER)


def test_all_has_come_once_only_newer_messages_do(stream: LeasedStream, clock: Clock) -> None:
    """The oldest of an answer decides."""
    arrivals = Arrivals(MemorySource(stream), clock)
    stream.publish(b"a", b"b")  # a millisecond after the beginning, and two
    arrivals.pull(2)
    assert arrivals.are_over(BEGIN)
    assert not arrivals.are_over(BEGIN + timedelta(milliseconds=1))


def test_a_source_that_is_away_has_not_brought_all(stream: LeasedStream, clock: Clock) -> None:
    """However long it is."""
    source = MemorySource(stream)
    arrivals = Arrivals(source, clock)
    arrivals.pull(1)
    source.away = True
    clock.seconds = 20.0
    with pytest.raises(SourceError):
        arrivals.pull(1)
    assert arrivals.is_away()
    assert not arrivals.are_over(AFTER)
    source.away = False
    arrivals.pull(1)
    assert not arrivals.is_away()


def test_a_pull_that_is_kept_waiting_says_that_the_source_is_back(
    stream: LeasedStream, clock: Clock
) -> None:
    """It may answer after minutes only, when a message comes."""
    source = MemorySource(stream, wait_seconds=30.0)
    arrivals = Arrivals(source, clock)
    source.away = True
    with pytest.raises(SourceError):
        arrivals.pull(1)
    source.away = False
    waiting = threading.Thread(target=arrivals.pull, args=(1,))
    waiting.start()
    while source.calls != ["pull"]:
        pass
    assert arrivals.is_away()
    clock.seconds = 5.0
    assert not arrivals.is_away()
    arrivals.interrupt()
    waiting.join()
