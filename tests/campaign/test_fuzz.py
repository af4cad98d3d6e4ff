"""Messages of all kinds of bytes: each is what Python's json says of it, alone."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.builders import at
from tests.campaign.mutations import STEMS, mutated
from tests.collecting import (
    Collecting,
    Sending,
    Stream,
    check,
    dead_letters_of,
    json_of,
    strays_of,
)
from tests.decoding import LAW, check_against_json, decoded, expected, offsets

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

pytestmark = pytest.mark.slow

A_CHUNK = 250
NEIGHBOURS = 10  # every tenth message is one
STAMP = at("10:30:01")
PATIENT = settings(
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)


def neighbour(place: int) -> bytes:
    """Return a good message that says where it stands."""
    return json_of({"a": place, "s": f"neighbour {place}", "l": [0.5, None]})


def messages(stems: list[bytes], seed: int, count: int) -> list[bytes | None]:
    """Return mutated stems, a tombstone now and then, good neighbours between them."""
    rng = random.Random(seed)
    made: list[bytes | None] = []
    for place in range(count):
        if place % NEIGHBOURS == 0:
            made.append(neighbour(place))
        elif rng.random() < 0.01:
            made.append(None)
        else:
            made.append(mutated(rng.choice(stems), rng))
    return made


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(3_000, id="short"),
        pytest.param(100_000, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(2400)]),
    ],
)
def test_no_message_harms_another_whatever_its_bytes(
    tell: Callable[[str], None], count: int
) -> None:
    """The account closes, rows are Python's, dead letters unchanged, neighbours where they were."""
    became: Counter[str] = Counter()
    slowest = 0.0

    @settings(PATIENT, max_examples=-(-count // A_CHUNK))
    @given(STEMS, st.integers(0, 2**32), st.sampled_from([1, 7, A_CHUNK, 2 * A_CHUNK - 8]))
    def decode_a_chunk(stems: list[bytes], seed: int, size: int) -> None:
        nonlocal slowest
        values = messages(stems, seed, size)
        began = time.thread_time()
        done = decoded(*values, pinned=LAW)
        slowest = max(slowest, (spent := time.thread_time() - began))
        check_against_json(values, done)
        assert {*range(0, size, NEIGHBOURS)} <= {*offsets(done)}
        assert spent < 5 + 0.02 * size, "it hangs"
        became.update(messages=size, rows=done.rows.num_rows)
        became.update(dead_letters=done.dead_letters.num_rows)

    while became["messages"] < count:
        decode_a_chunk()
    tell(
        f"{became['messages']} messages became {became['rows']} rows and "
        f"{became['dead_letters']} dead letters; the slowest chunk took {slowest:.2f} s"
    )

    assert became["dead_letters"] > count // 10
    assert became["rows"] > count // 10


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(500, id="short"),
        pytest.param(10_000, id="long", marks=[pytest.mark.faults, pytest.mark.timeout(1200)]),
    ],
)
def test_such_messages_end_to_end(
    embedded: EmbeddedBroker, tmp_path: Path, tell: Callable[[str], None], count: int
) -> None:
    """Through the broker, the graph and Parquet: rows and dead letters, the audit clean."""
    schema = tmp_path / "schema.json"
    schema.write_bytes(json_of(LAW))
    stems: list[bytes] = []

    @settings(PATIENT, max_examples=100)
    @given(STEMS)
    def gather(some: list[bytes]) -> None:
        stems.extend(some)

    gather()
    seed, dead = random.randrange(2**32), 0
    print(f"seed={seed}")
    for start in range(0, count, 500):
        stream = Stream(embedded)
        values = messages(stems, seed + start, 500)
        small = [value for value in values if value is None or len(value) < 100_000]
        produced = stream.send(*(Sending(v, STAMP, n % 4) for n, v in enumerate(small)))
        collecting = Collecting.of(
            stream, tmp_path / str(start), "--interval=10s", "--shards=2", f"--schema={schema}"
        )
        collecting.once(at("10:30:12"))

        letters = dead_letters_of(collecting.path)
        check(collecting.path, produced, dead=letters, empty_is_null=True)
        assert strays_of(collecting.path) == []
        for message in produced:
            is_dead = (message.partition, message.offset) in letters
            if message.value is not None and expected(message.value) is not None:
                assert not is_dead, message.value
            elif message.value is not None and not is_dead:
                json.loads(message.value)  # it added columns
        dead += len(letters)
    tell(f"{count} messages through the collector, {dead} dead letters, seed={seed}: audit clean")
