"""Make the collections of format 1 that later versions are tested with, and keep what was produced.

They are real ones, of the last version that began such: this runs with the code of commit 7b0e8e7,
``PYTHONPATH=CHECKOUT python tests/data/format_1/make.py``, and can run with no other.
"""

from __future__ import annotations

import json
import socket
import tarfile
import tempfile
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from tests.collecting import Collecting, Sending, Stream, json_of
from transforms.sources.kafka.broker import Broker
from transforms.sources.kafka.embedded import EmbeddedBroker

FOLDER = Path(__file__).parent
SECOND = timedelta(seconds=1)
FLAGS = ("--interval=10s", "--batch_size=6", "--metadata=full", "--shards=2")
FORMATS = {
    "parquet": ("--output_format=parquet", "--compression=zstd"),
    "jsonl": ("--output_format=jsonl", "--compression=none"),
    "jsonl-gzip": ("--output_format=jsonl", "--compression=gzip"),
}


def at(clock: str) -> datetime:
    """Return a time of the day on which all of it happened."""
    return datetime.fromisoformat(f"2026-11-22T{clock}").replace(tzinfo=timezone.utc)


class Life:
    """What happened to each of the collections: the same, whatever its format."""

    def __init__(self, broker: EmbeddedBroker, output: Path, flags: tuple[str, ...]) -> None:
        """Begin it."""
        self.stream, self.sent = Stream(broker, name="sensor"), list[Sending]()
        self.collecting = Collecting.of(self.stream, output, *FLAGS, *flags)
        self.path, self.flags = self.collecting.path, flags

    def send(self, *messages: Sending) -> None:
        """Produce messages."""
        self.sent += messages
        self.stream.send(*messages)

    def rows(self, clock: str, count: int, **fields: object) -> None:
        """Produce messages that are rows, a second apart, with a value of each type."""
        self.send(*(self._row(at(clock) + n * SECOND, fields) for n in range(count)))

    def _row(self, stamp: datetime, fields: dict[str, object]) -> Sending:
        n = len(self.sent) + stamp.second
        own: dict[str, object] = {
            "id": n,
            "level": n % 7,
            "load": 10 * n,
            "temperature": 20 + n / 8,
            "name": None if n % 5 == 0 else f"sensor {n % 3} für \u6c34",
            "seen": f"2026-11-22T0{n % 9}:00:00Z",
            "is_open": n % 2 == 0,
            "place": {"room": f"r{n % 4}", "at": {"x": n / 2, "floor": n % 4}},
            "samples": [n / 4, None, 2.5],
            "parts": [{"name": "lid", "size": k} for k in range(n % 3)] or [{"name": None}],
        }
        headers = {"source": f"gate-{n % 2}", "trace": bytes([n % 256, 255]), "none": None}
        key = None if n % 4 == 0 else f"key-{n % 3}".encode()
        return Sending(json_of(own | fields), stamp, n % 4, key, headers if n % 3 else None)

    def arrays(self, clock: str) -> None:
        """Produce messages that hold arrays: of rows, and of none."""
        readings = [{"id": 1000 + n, "temperature": n / 4} for n in range(3)]
        headers: dict[str, str | bytes | None] = {"array": "yes"}
        self.send(
            Sending(json_of(readings), at(clock), 1, b"array", headers),
            Sending(b"[]", at(clock), 1),
        )

    def no_rows(self, clock: str) -> None:
        """Produce a tombstone, what never is a row, and what is one under other types."""
        headers: dict[str, str | bytes | None] = {"why": "torn", "raw": b"\xff", "none": None}
        self.send(
            Sending(None, at(clock), 0, b"gone", headers),
            Sending(b'{"id": 1', at(clock), 2, b"torn", headers),
            Sending(b"\xff\xfe", at(clock), 3),
            Sending(json_of({"id": 7, "load": 0.5}), at(clock), 0, b"half", headers),
            Sending(json_of({"id": 8, "load": 1.5}), at(clock), 3),
        )

    def command(self, *words: str) -> None:
        """Run a command."""
        assert cli.main([words[0], str(self.path), *words[1:]]) == 0

    def live(self) -> None:
        """Collect, in the night, in the morning, and from ten o'clock on; then expire the night."""
        self.rows("04:10:00", 9)
        self.arrays("04:10:02")
        self.collecting.once(at("04:10:09"))  # early, as far as batches are full
        self.rows("04:10:08", 4)
        self.no_rows("04:10:08")
        self.collecting.once(at("04:10:13"))
        self.rows("04:10:05", 2)  # late
        self.collecting.once(at("04:10:23"))
        self.collecting.run(at("04:10:23"), at("06:56:20"), lambda _: None)  # to cycle 998

        self.rows("07:00:00", 9)
        self.arrays("07:00:04")
        self.collecting.once(at("07:00:09"))
        self.rows("07:00:06", 3)
        self.rows("08:30:00", 2)  # so far ahead that it is early
        self.send(Sending(json_of({"id": 9, "level": 0.5}), at("07:00:07"), 2, b"level"))
        self.no_rows("07:00:07")
        self.collecting.once(at("07:00:13"))
        self.rows("04:10:06", 2)  # late, of a window that will have expired
        self.rows("07:00:01", 3)  # late
        self.rows("07:00:12", 3, added=1)
        self.collecting.once(at("07:00:23"))
        self.command("schema", "--pin=level=double")
        self.command("redrive", "--metadata=full", *self.flags)
        self.command("follow", "--cursor=old", "--once")
        self.collecting.once(at("07:00:33"))
        self.collecting.run(at("07:00:33"), at("09:50:00"), lambda _: None)

        self.rows("10:00:00", 9, level=1.5)
        self.rows("09:59:55", 2)  # late
        self.no_rows("10:00:04")
        self.collecting.once(at("10:00:13"))
        self.rows("10:00:10", 9)
        self.rows("10:00:20", 2)
        self.rows("11:30:00", 1)
        # so far ahead that `open` does not name it
        self.send(Sending(json_of({"id": 10}), at("12:00:00") + timedelta(days=2), 0))
        self.arrays("10:00:14")
        self.collecting.once(at("10:00:18"))  # most rows wait
        expire(LocalStorage(str(self.path)), at("07:00:00"), at("10:00:19"))
        self.command("audit")


def kept(message: Sending) -> dict[str, object]:
    """Return a message as it is written down: bytes as text, one code a byte."""
    assert message.at is not None
    return {
        "at": message.at.isoformat(),
        "partition": message.partition,
        "key": _text(message.key),
        "value": _text(message.value),
        "headers": message.headers and {k: _text(v) for k, v in message.headers.items()},
    }


def _text(value: str | bytes | None) -> str | None:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def pack(folder: Path, name: str) -> None:
    """Pack a collection; nothing of who packed it."""

    def nobody(member: tarfile.TarInfo) -> tarfile.TarInfo:
        member.mtime = member.uid = member.gid = 0
        member.uname = member.gname = ""
        return member

    with tarfile.open(FOLDER / f"{name}.tar.xz", "w:xz", preset=9) as packed:
        packed.add(folder, "sensor", filter=nobody)


def main() -> None:
    """Make them."""
    topic, sent = Broker.topic, list[Sending]()
    for name, flags in FORMATS.items():
        with (
            EmbeddedBroker() as broker,
            tempfile.TemporaryDirectory() as output,
            pytest.MonkeyPatch.context() as patch,
        ):
            # a cluster of librdkafka's has another id each time, by which a log would know it
            patch.setattr(Broker, "topic", lambda *a: topic(*a)._replace(cluster_id=None))
            patch.setattr(socket, "gethostname", lambda: "collector")
            life = Life(broker, Path(output), flags)
            life.live()
            pack(life.path, name)
            sent = life.sent
    lines = (json.dumps(kept(message)) for message in sent)
    (FOLDER / "messages.jsonl").write_text("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    main()
