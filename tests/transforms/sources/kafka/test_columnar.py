"""What is special about the columnar reader: its columns, its memory, and doing without it."""

from __future__ import annotations

import ctypes
import logging
import os
import random
import re
import shutil
import subprocess
import sys
import time
import uuid
from contextlib import closing
from typing import TYPE_CHECKING, NamedTuple

import psutil
import pyarrow as pa
import pytest

from tests.services.extension import built, can_compile, needed
from tests.services.mock_cluster import librdkafka
from transforms.sources.contract import MESSAGES, Slice
from transforms.sources.kafka.client import ReadingClient
from transforms.sources.kafka.columnar import ColumnarClient, client_of
from transforms.sources.kafka.reader import read_slices

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker
    from transforms.sources.kafka.reader_name import ReaderName

MB = 1 << 20
NAMES = (b"trace", b"trace", b"", "größe".encode(), "\U0001f600".encode(), b"n" * 300)
NOT_TEXT = (b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\xe2\x82", b"a\x80")


class Raw(NamedTuple):
    """A message of any bytes, which no client in Python would take."""

    value: bytes | None
    key: bytes | None = None
    headers: tuple[tuple[bytes, bytes | None], ...] = ()


def produce(broker: EmbeddedBroker, topic: str, messages: Iterable[Raw]) -> None:
    """Write messages to partition 0, by librdkafka alone."""
    library = librdkafka()
    for function in ("conf_new", "new", "headers_new"):
        getattr(library, f"rd_kafka_{function}").restype = ctypes.c_void_p
    pointer, text, size = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_ssize_t
    settings = pointer(library.rd_kafka_conf_new())
    servers = broker.bootstrap_servers.encode()
    library.rd_kafka_conf_set(settings, b"bootstrap.servers", servers, None, size(0))
    library.rd_kafka_conf_set(settings, b"linger.ms", b"50", None, size(0))
    client = pointer(library.rd_kafka_new(0, settings, None, size(0)))
    for message in messages:
        headers = pointer(library.rd_kafka_headers_new(size(8)))
        for name, content in message.headers:
            length = size(0 if content is None else len(content))
            library.rd_kafka_header_add(headers, name, size(len(name)), text(content), length)
        # topic 1, partition 3, value 4, key 5, flags 7 (2: copy), headers 10, end 0
        value, key = message.value, message.key
        fields = (1, text(topic.encode()), 3, 0, 4, text(value), size(len(value or b"")))
        more = (5, text(key), size(len(key or b"")), 7, 2, 10, headers, 0)
        assert library.rd_kafka_producev(client, *fields, *more) == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)


def fuzzed(count: int, seed: int) -> list[Raw]:
    """Return messages of all shapes: null, empty, long, with headers of any names."""
    rng = random.Random(seed)

    def some() -> bytes | None:
        return rng.choice((None, b"", rng.randbytes(rng.randrange(1, 40)), b"\x00"))

    def headers() -> tuple[tuple[bytes, bytes | None], ...]:
        if rng.random() < 0.5:
            return ()
        names = NAMES + (NOT_TEXT if rng.random() < 0.1 else ())
        return tuple((rng.choice(names), some()) for _ in range(rng.randrange(1, 5)))

    messages = [Raw(some(), some(), headers()) for _ in range(count)]
    messages[rng.randrange(count)] = Raw(
        rng.randbytes(900_000)
    )  # of some 1 MB that librdkafka takes
    return messages


def table(broker: EmbeddedBroker, slices: list[Slice], reader: ReaderName) -> pa.Table:
    """Read slices to one table, each batch of which is valid."""
    config = {"bootstrap.servers": broker.bootstrap_servers}
    batches = list(read_slices(config, slices, skip_lost=False, reader=reader))
    assert all(isinstance(batch, pa.RecordBatch) for batch in batches)
    found = pa.Table.from_batches(batches, MESSAGES)
    found.validate(full=True)
    return found


@pytest.mark.parametrize(
    "rounds",
    [2, pytest.param(50, marks=[pytest.mark.faults, pytest.mark.timeout(1200)], id="long")],
)
def test_both_readers_give_the_same_of_whatever_is_in_a_topic(
    embedded: EmbeddedBroker, rounds: int
) -> None:
    """Null and empty values and keys, a large one, headers of any names and values."""
    needed("columnar")
    for _ in range(rounds):
        seed = random.randrange(2**32)
        print(f"seed={seed}")
        topic = embedded.create_topic(f"fuzzed-{uuid.uuid4().hex[:8]}")
        messages = fuzzed(2000, seed)
        produce(embedded, topic, messages)
        slices = [Slice(topic, 0, 0, 2000)]
        columnar, portable = (table(embedded, slices, each) for each in ("columnar", "portable"))
        assert columnar.equals(portable)
        assert columnar["value"].to_pylist() == [message.value for message in messages]
        part = [Slice(topic, 0, 500, 1500)]
        assert table(embedded, part, "columnar").equals(portable.slice(500, 1000))


def test_names_that_are_text_and_names_that_are_not_are_told_apart_as_python_does(
    embedded: EmbeddedBroker,
) -> None:
    """All leads of UTF-8, at the borders of what follows them."""
    needed("columnar")
    edges = (0x00, 0x7F, 0x80, 0x8F, 0x90, 0x9F, 0xA0, 0xBF, 0xC0, 0xFF)
    leads = (*range(0x7F, 0x82), *range(0xC0, 0xC4), *range(0xDF, 0xE2), *range(0xEC, 0x100))
    names = [bytes((lead, at, end)) for lead in leads for at in edges for end in (0x7F, 0x80, 0xBF)]
    names += [bytes((lead, at, 0x80, 0xBF)) for lead in range(0xEF, 0x100) for at in edges]
    names = [name for name in names if 0 not in name]
    topic = embedded.create_topic(f"names-{uuid.uuid4().hex[:8]}")
    produce(embedded, topic, (Raw(b"", None, ((name, b""),)) for name in names))
    slices = [Slice(topic, 0, 0, len(names))]
    assert table(embedded, slices, "columnar").equals(table(embedded, slices, "portable"))


def test_memory_is_flat_over_fifty_slices(embedded: EmbeddedBroker) -> None:
    """What a slice took is given back when its batches are gone."""
    needed("columnar")
    topic = embedded.create_topic(f"flat-{uuid.uuid4().hex[:8]}")
    produce(
        embedded, topic, (Raw(b"x" * 100, b"key", ((b"name", b"content"),)) for _ in range(20_000))
    )

    def read_again(times: int) -> int:
        for _ in range(times):
            found = table(embedded, [Slice(topic, 0, 0, 20_000)], "columnar")
            assert found.num_rows == 20_000
        return int(psutil.Process().memory_info().rss)

    before = read_again(10)
    assert read_again(50) - before < 8 * MB  # one slice has 4


def test_a_batch_outlives_its_reader(embedded: EmbeddedBroker) -> None:
    """Its memory is its own: neither the next batch's nor the consumer's."""
    needed("columnar")
    topic = embedded.create_topic(f"kept-{uuid.uuid4().hex[:8]}")
    values = [b"%d" % number * 20 for number in range(5000)]
    produce(embedded, topic, map(Raw, values))
    config = {"bootstrap.servers": embedded.bootstrap_servers}
    slices = [Slice(topic, 0, 0, 5000)]
    batches = list(
        read_slices(config, slices, skip_lost=False, reader="columnar", chunk_messages=100)
    )
    table(embedded, slices, "columnar")
    assert len(batches) >= 50
    assert [value for each in batches for value in each.column("value").to_pylist()] == values  # type: ignore[union-attr]


def test_a_gatherer_that_is_closed_says_so(embedded: EmbeddedBroker) -> None:
    """It gives neither messages nor a crash."""
    needed("columnar")
    client = ColumnarClient({"bootstrap.servers": embedded.bootstrap_servers})
    intake = client.intake()
    assert intake.batch() is None
    intake.close()
    intake.close()
    for use in (intake.batch, lambda: intake.take(1, 0.0), lambda: intake.expect(0, 0, 1)):
        with pytest.raises(ValueError, match="closed"):
            use()
    client.consumer.close()


def test_what_librdkafka_logs_and_reports_is_heard(caplog: pytest.LogCaptureFixture) -> None:
    """Though its callbacks are not confluent-kafka's: the log's lines, and the last error."""
    needed("columnar")
    caplog.set_level(logging.DEBUG)
    client = ColumnarClient({"bootstrap.servers": "127.0.0.1:1"})
    with closing(client.intake()) as intake:
        deadline = time.monotonic() + 10
        while not (client.log.nobody and "Connection refused" in caplog.text):
            assert intake.take(10, 0.1) == (0, 0, 0, {}, [])
            assert time.monotonic() < deadline
    assert "Connection refused" in client.log.reason
    client.consumer.close()


def test_users_plugins_of_librdkafka_stay(tmp_path: Path) -> None:
    """Ours comes behind them; one that can't be loaded is told as it is."""
    needed("columnar")
    missing = str(tmp_path / "no-such-plugin")
    with pytest.raises(Exception, match="no-such-plugin"):
        ColumnarClient({"bootstrap.servers": "127.0.0.1:1", "plugin.library.paths": missing})


WITHOUT = """
import sys
sys.modules["transforms.sources.kafka.gather"] = None  # as where it was not built
from transforms.sources.kafka import columnar
"""


def run_without(code: str) -> subprocess.CompletedProcess[str]:
    """Run Python where the columnar reader was not built."""
    return subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, check=False
    )


def test_where_it_was_not_built_the_portable_reader_reads_and_it_is_said_once() -> None:
    """One line, however often is read; nothing is said of what was asked for."""
    done = run_without(
        "assert columnar.client_of('portable') is columnar.ReadingClient\n"
        "for _ in range(3): assert columnar.client_of('auto') is columnar.ReadingClient\n"
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("reading takes more CPU")


def test_asked_for_where_it_was_not_built_it_is_an_error() -> None:
    """Nobody who asked for it gets another."""
    done = run_without("columnar.client_of('columnar')")
    assert done.returncode == 1
    assert "CollectionError: --reader=columnar can't be had: it was not built" in done.stderr


def test_where_it_was_built_it_is_taken() -> None:
    """By itself, and when it is asked for."""
    needed("columnar")
    assert client_of("auto") is client_of("columnar") is ColumnarClient
    assert client_of("portable") is ReadingClient


def test_it_is_built_with_a_compiler_and_left_out_without(tmp_path: Path) -> None:
    """A build never fails for want of one; nor does that of all else that is compiled."""
    assert built(tmp_path / "without", {"CC": "no-such-compiler"}) == []
    if not can_compile():
        pytest.skip("cc is not installed")
    found = [path.name for path in built(tmp_path / "with")]
    names = sorted(name.partition(".")[0] for name in found)
    assert names == ["gather", "plain_json", "random_order"]
    assert all(".abi3." in name for name in found)


OURS = re.compile(r"librdkafka|gather\.(c|abi3)")
LEAKING = """
import sys
from transforms.sources.contract import Slice
from transforms.sources.kafka.client import idle_consumers
from transforms.sources.kafka.reader import read_slices
servers, topic, count = sys.argv[1], sys.argv[2], int(sys.argv[3])
rows = 0
for start in (0, 700):
    slices = [Slice(topic, 0, start, count)]
    config = {"bootstrap.servers": servers}
    for batch in read_slices(config, slices, skip_lost=False, reader="columnar"):
        rows += batch.num_rows
    del batch
idle_consumers().close()
print(rows)
"""


@pytest.mark.faults
def test_each_message_is_destroyed_once(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Valgrind sees neither a message left nor one that is touched when it is gone."""
    if shutil.which("valgrind") is None:
        pytest.skip("valgrind is not installed")
    needed("columnar")
    topic = embedded.create_topic(f"leaks-{uuid.uuid4().hex[:8]}")
    produce(embedded, topic, fuzzed(2000, seed=1))
    log = tmp_path / "valgrind.log"
    command = ["valgrind", "--leak-check=full", "--num-callers=40", f"--log-file={log}"]
    done = subprocess.run(
        [*command, sys.executable, "-c", LEAKING, embedded.bootstrap_servers, topic, "2000"],
        env={**os.environ, "PYTHONMALLOC": "malloc"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.split() == [str(2000 + 1300)]
    seen = [line for line in log.read_text().splitlines() if OURS.search(line)]
    assert seen == []
