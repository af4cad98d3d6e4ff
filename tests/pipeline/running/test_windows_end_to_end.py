"""From a broker to files, cycle by cycle: which windows, panes, files and manifests come of it."""

from __future__ import annotations

import random
import re
from datetime import datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest
from confluent_kafka.admin import NewPartitions

from batch_collection.errors import DeadLettersError, LogError, RowTimeError, StorageError
from batch_collection.inspection.audit import audit
from batch_collection.inspection.status import status
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import EPOCH, utc_now, window_start
from pipeline.cli import main
from pipeline.planning import planner, topic
from tests.builders import at
from tests.collecting import (
    Collecting,
    Sending,
    Stream,
    check,
    entries_of,
    files_by_window,
    json_of,
    manifests_of,
    payloads_of,
    rows_of,
    sending,
    strays_of,
)
from transforms.sources.kafka.embedded import EmbeddedBroker

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from batch_collection.log.entry import Entry
    from tests.services.kafka import KafkaBroker

SECOND = timedelta(seconds=1)
TEN = timedelta(seconds=10)


def panes(entries: Sequence[Entry]) -> list[tuple[str, str, list[int]]]:
    """Return each pane's window, timing and the rows of its files."""
    return [
        (f"{pane.window_start:%H:%M:%S}", pane.timing, [file.rows for file in pane.files])
        for entry in entries
        for pane in entry.panes
    ]


def every_second(start: str, end: str, partition: int = 0) -> list[Sending]:
    """Return one message a second, from ``start`` up to ``end``, exclusive."""
    first = at(start)
    return [
        sending(first + number * SECOND, partition, id=f"{partition}/{start}+{number}")
        for number in range((at(end) - first) // SECOND)
    ]


def within_grace(windows: int, seed: int) -> list[tuple[datetime, Sending]]:
    """Return what four producers send, 200 a window, 0-500 ms after its stamp, by arrival."""
    rng = random.Random(seed)
    arrivals = []
    for number in range(200 * windows):
        stamp = at("10:30:00") + rng.randrange(windows * 10_000) * SECOND / 1000
        arrival = stamp + rng.randrange(500) * SECOND / 1000
        arrivals.append((arrival, sending(stamp, number % 4, id=number)))
    return sorted(arrivals, key=lambda pair: pair[0])


def producing(
    stream: Stream, arrivals: Sequence[tuple[datetime, Sending]]
) -> Callable[[datetime], None]:
    """Return what sends all that has arrived by some time."""
    waiting = list(reversed(arrivals))

    def arrive(now: datetime) -> None:
        due = []
        while waiting and waiting[-1][0] <= now:
            due.append(waiting.pop()[1])
        stream.send(*due)

    return arrive


# one file a window


def test_a_cycle_ends_where_its_rows_are_of_too_many_windows(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the times are, all is collected once, and no cycle has many files; it is said."""
    for module in (planner, topic):
        monkeypatch.setattr(module, "MOST_WINDOWS", 20)
    stream, rng = Stream(embedded), random.Random(3)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--timestamp=field:t")
    rule = ("--timestamp_unit=s", "--flush")
    begin = round(at("00:00:00").timestamp())
    stream.send(*(sending(None, n % 4, t=begin + rng.randrange(30_000)) for n in range(150)))
    array = [{"t": begin + 10 * n} for n in range(50)]  # more than a cycle may have
    stream.send(Sending(json_of(array), None, 1))

    entries = collecting.once(at("10:30:12"), *rule)

    check(collecting.path, stream.produced)
    alone = [entry for entry in entries if len(entry.files) > 2 * 20]
    assert len(alone) <= 1
    assert all(sum(read.messages for read in entry.reads) <= 4 for entry in alone)
    assert "cycle 1 of" in collecting.recorder.notes[0]
    assert "its rows are of more than 20 windows" in collecting.recorder.notes[0]
    assert len(entries) < 30
    assert strays_of(collecting.path) == []


@pytest.mark.slow
def test_each_window_is_one_file_however_its_messages_interleave(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Four producers whose messages come up to 500 ms late: 20 windows, 20 files, no revision."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=1")

    collecting.run(at("10:30:00"), at("10:33:22"), producing(stream, within_grace(20, seed=1)))

    check(collecting.path, stream.produced)
    assert len(stream.produced) == 4000
    files = files_by_window(collecting.path)
    assert sorted(files) == [at("10:30:00") + number * TEN for number in range(20)]
    assert [len(paths) for paths in files.values()] == [1] * 20
    manifests = manifests_of(collecting.path)
    assert manifests.keys() == files.keys()
    assert [[each["revision"] for each in all_] for all_ in manifests.values()] == [[1]] * 20
    assert {timing for _, timing, _ in panes(collecting.recorder.entries)} == {"on_time"}
    assert strays_of(collecting.path) == []


def test_each_shard_writes_one_file_a_window(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """With two shards a window is two files, each of its own partitions."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--shards=2")

    collecting.run(at("10:30:00"), at("10:30:52"), producing(stream, within_grace(5, seed=2)))

    check(collecting.path, stream.produced)
    files = files_by_window(collecting.path)
    assert [len(paths) for paths in files.values()] == [2] * 5
    partitions = [
        sorted(tuple(sorted(file.offsets)) for file in pane.files)
        for entry in entries_of(collecting.path)
        for pane in entry.panes
    ]
    assert partitions == [[(0, 2), (1, 3)]] * 5


def test_a_record_later_than_the_grace_makes_a_late_pane_and_a_revision(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Nothing is dropped for its time: another file, and a manifest that names all."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:10"))
    collecting.once(at("10:30:12"))
    stream.send(sending(at("10:30:03"), 2, id="late"))

    entries = collecting.once(at("10:30:22"))

    assert panes(entries) == [("10:30:00", "late", [1])]
    check(collecting.path, stream.produced)
    paths = [
        path.relative_to(collecting.path).as_posix()
        for path in files_by_window(collecting.path)[at("10:30:00")]
    ]
    first, second = manifests_of(collecting.path)[at("10:30:00")]
    assert (first["revision"], first["timing"], first["rows"]) == (1, "on_time", 10)
    assert (second["revision"], second["timing"], second["rows"]) == (2, "late", 11)
    assert [file["path"] for file in first["files"]] == paths[:1]
    assert [file["path"] for file in second["files"]] == paths
    assert len(paths) == 2


def test_a_record_within_the_grace_is_on_time(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """A window's end is collected when the grace is over, not before."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:10"))
    assert panes(collecting.once(at("10:30:11.999"))) == []
    stream.send(sending(at("10:30:09"), 2, id="slow"))

    assert panes(collecting.once(at("10:30:12"))) == [("10:30:00", "on_time", [11])]

    check(collecting.path, stream.produced)


def test_a_window_longer_than_max_ahead_is_one_file(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Its rows wait though its end is hours away; only one hours ahead of the clock does not."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=6h")
    for clock in ("06:30:00", "08:30:00", "10:30:00"):
        stream.send(sending(at(clock), 1, id=clock))
        assert panes(collecting.once(at(clock) + SECOND)) == []
    stream.send(sending(at("11:59:00"), 2, id="wrong clock"), sending(at("11:30:00"), 2, id="fast"))
    assert panes(collecting.once(at("10:30:02"))) == [("06:00:00", "early", [1])]

    assert panes(collecting.once(at("12:00:02"))) == [("06:00:00", "on_time", [4])]

    check(collecting.path, stream.produced)


def test_an_interval_without_messages_is_recorded_and_has_no_file(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Windows close without new data; those that had no row are in the log as ranges."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:10"))
    collecting.once(at("10:30:12"))

    (closed,) = collecting.once(at("10:30:22"))
    stream.send(*every_second("10:30:30", "10:30:40"))
    (after,) = collecting.once(at("10:30:42"))

    assert (closed.boundary, closed.panes) == (at("10:30:20"), ())
    assert closed.closed_empty == ((at("10:30:10"), at("10:30:20")),)
    assert after.closed_empty == ((at("10:30:20"), at("10:30:30")),)
    assert sorted(files_by_window(collecting.path)) == [at("10:30:00"), at("10:30:30")]
    assert sorted(manifests_of(collecting.path)) == [at("10:30:00"), at("10:30:30")]
    check(collecting.path, stream.produced)


def test_an_idle_partition_does_not_hold_windows_back(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Three of four partitions never get a message, the fourth falls silent: the clock closes."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:15", partition=3))

    assert panes(collecting.once(at("10:30:12"))) == [("10:30:00", "on_time", [10])]
    assert panes(collecting.once(at("10:30:22"))) == [("10:30:10", "on_time", [5])]

    check(collecting.path, stream.produced)


def test_a_record_of_1970_is_a_late_pane_of_its_own_window(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """An old stamp is kept in its window, and moves no boundary."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:12"))
    collecting.once(at("10:30:12"))
    stream.send(sending(EPOCH + 5 * SECOND, id="old"))

    (entry,) = collecting.once(at("10:30:13"))

    assert panes([entry]) == [("00:00:00", "late", [1])]
    assert entry.boundary == at("10:30:10")
    assert sorted(files_by_window(collecting.path)) == [EPOCH, at("10:30:00")]
    check(collecting.path, stream.produced)


def test_rows_of_the_first_and_the_last_window_of_the_calendar_are_collected(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Years 1 and 9999 stop nothing, in a backlog either, whatever grace and limit."""
    stream = Stream(embedded)
    flags = ("--interval=1h", "--grace=3h", "--timestamp=field:t")
    collecting = Collecting.of(stream, tmp_path, *flags, "--max_messages_per_cycle=2")
    ends = ("0001-01-01T00:00:00Z", "9999-12-31T22:59:59.999999Z")
    for partition, instant in enumerate(ends):
        stream.send(*[sending(at("10:30:00"), partition, t=instant)] * 4)
    (beyond,) = stream.send(sending(at("10:30:00"), t="9999-12-31T23:00:00Z"))

    entries = collecting.once(at("10:30:12"))
    entries += collecting.once(at("13:30:12"))

    check(collecting.path, stream.produced, dead=[(0, beyond.offset)])
    assert {start for start, _, _ in panes(entries)} == {"00:00:00", "22:00:00"}


def test_a_record_hours_ahead_is_written_at_once_and_moves_nothing(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """A device with a wrong clock makes an early pane; its neighbours wait for their windows."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:05"), sending(at("15:00:00"), id="ahead"))

    (entry,) = collecting.once(at("10:30:05"))

    assert panes([entry]) == [("15:00:00", "early", [1])]
    assert (entry.boundary, sum(file.rows for file in entry.carry)) == (at("10:30:00"), 5)
    check(collecting.path, stream.produced)
    assert panes(collecting.once(at("10:30:12"))) == [("10:30:00", "on_time", [5])]
    assert panes(collecting.once(at("15:00:12"))) == [("15:00:00", "on_time", [])]
    assert [each["rows"] for each in manifests_of(collecting.path)[at("15:00:00")]] == [1]
    check(collecting.path, stream.produced)


def test_records_days_ahead_are_in_the_manifests_of_their_windows(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """With those that come later, or alone; status counts these windows as closed."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10m")
    days = [timedelta(days=number) for number in (1, 2, 3)]
    stream.send(*(sending(at("10:30:00") + each, id=f"{each}") for each in (*days, timedelta())))
    collecting.once(at("10:31:00"))
    stream.send(sending(at("10:30:01") + days[1], id="later"))

    for each in days:
        collecting.once(at("10:41:00") + each)

    found = manifests_of(collecting.path)
    rows = [[manifest["rows"] for manifest in found[at("10:30:00") + each]] for each in days]
    assert rows == [[1], [2], [1]]
    totals = status(LocalStorage(str(collecting.path))).totals
    assert (totals.closed_windows, totals.empty_windows) == (4, 3 * 144 - 3)
    check(collecting.path, stream.produced)


# the count trigger


def test_a_burst_makes_early_panes_of_exactly_the_batch_size(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Of 3 N and some rows in one window, 3 N leave at once, the rest on time."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--batch_size=100")
    stream.send(sending(at("10:30:00"), id=-2))
    burst = [sending(at("10:30:04"), number % 4, id=number) for number in range(305)]
    moments = [(at("10:30:01"), sending(at("10:30:01"), id=-1))]
    moments += [(at("10:30:05"), each) for each in burst]

    collecting.run(at("10:30:00"), at("10:30:13"), producing(stream, moments))

    entries = [entry for entry in entries_of(collecting.path) if entry.panes]
    assert panes(entries) == [
        ("10:30:00", "early", [100, 100, 100]),
        ("10:30:00", "on_time", [7]),
    ]
    assert [entry.cause for entry in entries] == ["count", "interval"]
    (manifest,) = manifests_of(collecting.path)[at("10:30:00")]
    assert (manifest["revision"], manifest["rows"], len(manifest["files"])) == (1, 307, 4)
    check(collecting.path, stream.produced)


def test_the_sample_producer_fills_batches_of_ten(
    embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Arrays of 10 records, ``--batch_size=10``: every file has exactly 10 rows."""
    stream = Stream(embedded)
    code = main(
        [
            "produce",
            f"--bootstrap_servers={embedded.bootstrap_servers}",
            f"--topics={stream.name}",
            "--records_per_message=10",
            "--every=10ms",
            "--count=12",
        ]
    )
    assert (code, capsys.readouterr().out.count("10 records")) == (0, 12)
    collecting = Collecting.of(stream, tmp_path, "--interval=60s", "--batch_size=10")

    collecting.once(utc_now())

    rows = rows_of(collecting.path)
    assert [file.rows for entry in entries_of(collecting.path) for file in entry.files] == [10] * 12
    assert len(payloads_of(rows)) == 120
    assert rows.column_names == [
        "timestamp",
        "value",
        "_partition",
        "_offset",
        "_timestamp",
        "_index",
    ]
    assert audit(LocalStorage(str(collecting.path))).findings == ()


@pytest.mark.integration
def test_a_backlog_of_many_cycles_is_still_one_file_a_window(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """A cycle that may read only part of what waits ends at a boundary of the past."""
    stream = Stream(kafka)
    stream.send(*(message for _, message in within_grace(20, seed=3)))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--max_messages_per_cycle=1000")

    entries = collecting.once(at("10:40:00"))

    assert len([entry for entry in entries if entry.cause == "backlog"]) > 3
    assert max(sum(read.messages for read in entry.reads) for entry in entries) <= 1000
    assert [len(paths) for paths in files_by_window(collecting.path).values()] == [1] * 20
    assert [len(all_) for all_ in manifests_of(collecting.path).values()] == [1] * 20
    check(collecting.path, stream.produced)


# where it starts and ends


def test_flush_writes_the_open_windows(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """With ``--once --flush`` nothing waits, and what comes later for the window is added to it."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:14"))
    collecting.once(at("10:30:15"))
    assert sum(file.rows for file in entries_of(collecting.path)[-1].carry) == 4

    (entry,) = collecting.once(at("10:30:15"), "--flush")

    assert panes([entry]) == [("10:30:10", "early", [4])]
    assert entry.carry == ()
    assert strays_of(collecting.path) == []
    stream.send(sending(at("10:30:16"), id="after"))
    assert panes(collecting.once(at("10:30:22"))) == [("10:30:10", "on_time", [1])]
    check(collecting.path, stream.produced)


@pytest.mark.integration
def test_until_ends_a_backfill_at_its_instant(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Only messages stamped before it are read, their windows are closed, and the run ends."""
    stream = Stream(kafka, partitions=2)
    for partition in (0, 1):
        stream.send(*every_second("10:30:00", "10:30:40", partition))
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", f"--until={at('10:30:20').isoformat()}"
    )

    collecting.run(at("12:00:00"), at("12:00:30"), lambda _: None)

    wanted = [message for message in stream.produced if at("10:30:20") > (message.at or EPOCH)]
    assert len(wanted) == 40
    check(collecting.path, wanted)
    assert entries_of(collecting.path)[-1].boundary == at("10:30:20")
    assert [len(all_) for all_ in manifests_of(collecting.path).values()] == [1, 1]
    assert collecting.once(at("12:00:30")) == []


@pytest.mark.integration
@pytest.mark.parametrize(
    ("flag", "first"),
    [
        ("--start=earliest", "10:30:00"),
        ("--start=2026-11-22T10:30:30Z", "10:30:30"),
        ("--start=latest", "10:30:40"),
    ],
)
def test_an_end_before_what_was_read_is_nothing_to_do(
    kafka: KafkaBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str], flag: str, first: str
) -> None:
    """Read already, or begun behind it: one line says so, and no topic was truncated."""
    stream = Stream(kafka, partitions=2)
    stream.send(*every_second("10:30:00", "10:30:40"))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", flag)
    if flag == "--start=earliest":
        collecting.once(at("10:30:42"))

    words = (f"--bootstrap_servers={kafka.bootstrap_servers}", f"--output={tmp_path}")
    until = f"--until={at('10:30:20').isoformat()}"
    assert main([*words, f"--topics={stream.name}", "--interval=10s", flag, until]) == 0

    told = capsys.readouterr().err
    assert f"{stream.name} was read beyond --until before, or begins behind it" in told
    stream.send(*every_second("10:30:40", "10:30:50"))
    collecting.once(at("10:30:52"))
    check(collecting.path, [m for m in stream.produced if (m.at or EPOCH) >= at(first)])


@pytest.mark.integration
def test_until_reads_up_to_the_first_message_stamped_then(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """A message stamped before it, but behind that one, is left to the next run, as a late row."""
    stream = Stream(kafka, partitions=1)
    before = stream.send(sending(at("10:30:00"), id=0), sending(at("10:30:05"), id=1))
    stream.send(sending(at("10:30:20"), id=2), sending(at("10:30:06"), id=3))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")

    collecting.once(at("10:30:42"), f"--until={at('10:30:20').isoformat()}")
    check(collecting.path, before)

    assert panes(collecting.once(at("10:30:42"))) == [
        ("10:30:00", "late", [1]),
        ("10:30:20", "on_time", [1]),
    ]
    check(collecting.path, stream.produced)


@pytest.mark.integration
def test_start_latest_begins_with_what_comes_after(kafka: KafkaBroker, tmp_path: Path) -> None:
    """What was there at the first start is not collected; the start is pinned by then."""
    stream = Stream(kafka, partitions=2)
    stream.send(*every_second("10:30:00", "10:30:05"))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--start=latest")
    collecting.once(at("10:30:05"))
    after = stream.send(*every_second("10:30:05", "10:30:10", partition=1))

    collecting.once(at("10:30:12"))

    assert len(after) == 5
    check(collecting.path, after)


@pytest.mark.integration
def test_start_at_an_instant_begins_with_the_first_record_stamped_then(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Each partition begins at its own offset; one without such a record begins at its end."""
    stream = Stream(kafka, partitions=3)
    stream.send(*every_second("10:30:00", "10:30:10", 0))
    stream.send(*every_second("10:30:05", "10:30:09", 1))
    stream.send(*every_second("10:30:00", "10:30:03", 2))
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", f"--start={at('10:30:06').isoformat()}"
    )

    collecting.once(at("10:30:12"))

    assert entries_of(collecting.path)[0].ends == {0: 6, 1: 1, 2: 3}
    check(
        collecting.path,
        [message for message in stream.produced if (message.at or EPOCH) >= at("10:30:06")],
    )


@pytest.mark.parametrize("kind", ["embedded", pytest.param("kafka", marks=pytest.mark.integration)])
def test_a_group_says_where_to_begin_and_is_told_after_each_entry(
    kind: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    """Its offsets are taken at the first start only; the log, not the group, is the truth."""
    stream = Stream(request.getfixturevalue(kind))
    group = f"{stream.name}-group"
    stream.send(*every_second("10:30:00", "10:30:05", 0), *every_second("10:30:00", "10:30:05", 1))
    stream.commit(group, p0=3)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", f"--group_id={group}")

    collecting.once(at("10:30:06"))

    assert stream.committed(group) == {0: 5, 1: 5, 2: 0, 3: 0}
    stream.commit(group, p0=0, p1=1)
    stream.send(*every_second("10:30:05", "10:30:10", 0))
    collecting.once(at("10:30:12"))
    assert stream.committed(group) == {0: 10, 1: 5, 2: 0, 3: 0}
    skipped = {(0, 0), (0, 1), (0, 2)}
    check(collecting.path, [m for m in stream.produced if (m.partition, m.offset) not in skipped])


# row times


@pytest.mark.parametrize(
    ("flags", "written"),
    [
        (("--timestamp_unit=s",), lambda moment: moment.timestamp()),
        (("--timestamp_unit=ms",), lambda moment: round(moment.timestamp() * 1000)),
        ((), lambda moment: moment.isoformat()),
        ((), lambda moment: moment.astimezone(timezone(2 * timedelta(hours=1))).isoformat()),
    ],
    ids=["s", "ms", "rfc3339", "rfc3339 with an offset"],
)
def test_a_field_gives_the_row_time(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    flags: tuple[str, ...],
    written: Callable[[datetime], float | str],
) -> None:
    """With ``--timestamp=field:NAME`` rows go by their own time; one without is a dead letter."""
    stream = Stream(embedded)
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", "--timestamp=field:event.at", *flags
    )
    times = [at("10:30:00") + number * 2.5 * SECOND for number in range(8)]
    stream.send(*(sending(at("09:00:00"), 1, event={"at": written(time)}) for time in times))
    (dead,) = stream.send(sending(at("09:00:00"), 2, id="no time"))

    entries = collecting.once(at("10:30:22"))

    assert panes(entries) == [("10:30:00", "on_time", [4]), ("10:30:10", "on_time", [4])]
    check(collecting.path, stream.produced, dead=[(dead.partition, dead.offset)])


@pytest.mark.parametrize("name", ["meta.ts", '"meta.ts"'])
def test_a_key_with_a_dot_gives_the_row_time(
    embedded: EmbeddedBroker, tmp_path: Path, name: str
) -> None:
    """As it stands or quoted; a path of the same letters serves rows that have no such key."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", f"--timestamp=field:{name}")
    moment = at("10:30:05").isoformat()
    both = json_of({"meta.ts": moment, "meta": {"ts": "no time"}})
    stream.send(Sending(both, at("09:00:00")))
    (nested,) = stream.send(sending(at("09:00:00"), meta={"ts": moment}))
    is_path = name == "meta.ts"

    entries = collecting.once(at("10:30:12")) + collecting.once(at("10:30:22"))

    assert panes(entries) == [("10:30:00", "on_time", [1 + is_path])]
    dead = [] if is_path else [(nested.partition, nested.offset)]
    check(collecting.path, stream.produced, dead=dead)


def test_an_array_message_may_belong_to_several_windows(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """With row times of their own, the rows of one message go to different files, each once."""
    stream = Stream(embedded)
    collecting = Collecting.of(
        stream, tmp_path, "--interval=10s", "--timestamp=field:at", "--timestamp_unit=s"
    )
    stamps = [at("10:30:00").timestamp() + offset for offset in (0.5, 11, 3, 25)]
    stream.send(Sending(json_of([{"at": stamp} for stamp in stamps]), at("10:30:01")))

    entries = collecting.once(at("10:30:22"))

    assert panes(entries) == [("10:30:00", "on_time", [2]), ("10:30:10", "on_time", [1])]
    assert sum(file.rows for file in entries[-1].carry) == 1
    check(collecting.path, stream.produced)


def test_collected_rows_belong_to_the_time_of_planning(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """With ``--timestamp=collected`` no record is late, whatever its stamp."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--timestamp=collected")
    stream.send(sending(EPOCH, id=1), sending(at("23:00:00"), id=2), sending(at("10:30:00"), id=3))
    assert panes(collecting.once(at("10:30:05"))) == []

    stream.send(sending(at("10:30:01"), 1, id=4))
    entries = collecting.once(at("10:30:12"))

    assert panes(entries) == [("10:30:00", "on_time", [3])]
    assert panes(collecting.once(at("10:30:22"))) == [("10:30:10", "on_time", [1])]
    check(collecting.path, stream.produced)


# topics and partitions


def test_topics_are_collections_of_their_own(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """Two topics are collected in the same cycles, each with its own log and files."""
    one, other = Stream(embedded), Stream(embedded)
    one.send(*every_second("10:30:00", "10:30:20"))
    other.send(*every_second("10:30:05", "10:30:15", 3))
    collecting = Collecting((one, other), tmp_path, ("--interval=10s",))

    collecting.once(at("10:30:12"))
    one.send(*every_second("10:30:20", "10:30:30"))
    collecting.once(at("10:30:32"))

    for stream in (one, other):
        check(tmp_path / stream.name, stream.produced)
    assert len(files_by_window(tmp_path / one.name)) == 3
    assert len(files_by_window(tmp_path / other.name)) == 2


@pytest.mark.integration
def test_partitions_added_later_are_collected_from_their_beginning(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """A running collector sees them, and so does one that starts again."""
    stream = Stream(kafka, partitions=1)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    admin = kafka.admin()

    def add(total: int) -> None:
        for answer in admin.create_partitions([NewPartitions(stream.name, total)]).values():
            answer.result(10)
        stream.reconnect()
        stream.send(sending(at("10:30:30"), total - 1, id=f"first of {total}"))

    def arrive(now: datetime) -> None:
        if now == at("10:30:30"):
            add(2)

    stream.send(*every_second("10:30:00", "10:30:10"))
    collecting.run(at("10:30:10"), at("10:31:13"), arrive)
    check(collecting.path, stream.produced)
    assert entries_of(collecting.path)[-1].ends == {0: 10, 1: 1}

    add(3)
    collecting.once(at("10:31:22"))
    check(collecting.path, stream.produced)
    assert entries_of(collecting.path)[-1].ends == {0: 10, 1: 1, 2: 1}


# what is refused


@pytest.mark.parametrize(
    ("flags", "told"),
    [
        (("--interval=20s",), "--interval=20s, but {} was begun with --interval=10s"),
        (
            ("--interval=10s", "--timestamp=collected"),
            "--timestamp=collected, but {} was begun with --timestamp=record",
        ),
        (
            ("--interval=10s", "--start=latest"),
            "--start=latest, but {} was begun with --start=earliest",
        ),
    ],
)
def test_what_a_collection_was_begun_with_is_kept(
    embedded: EmbeddedBroker, tmp_path: Path, flags: tuple[str, ...], told: str
) -> None:
    """Another interval, row time or start is refused with the cure, and changes nothing."""
    stream = Stream(embedded)
    stream.send(*every_second("10:30:00", "10:30:10"))
    Collecting.of(stream, tmp_path, "--interval=10s").once(at("10:30:12"))
    path = tmp_path / stream.name

    with pytest.raises(LogError, match=re.escape(told.format(path))):
        Collecting.of(stream, tmp_path, *flags).once(at("10:30:22"))

    assert len(entries_of(path)) == 2
    check(path, stream.produced)


def test_a_wrong_row_time_is_said_and_can_be_mended(
    embedded: EmbeddedBroker, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing is committed, exit code 2; as long as that is so all can be pinned anew."""
    stream = Stream(embedded)
    stream.send(
        *(sending(at("10:30:00"), n % 4, id=n, ts="2026-11-22T10:30:00Z") for n in range(9))
    )
    flags = (
        f"--bootstrap_servers={embedded.bootstrap_servers}",
        *(f"--topics={stream.name}", f"--output={tmp_path}", "--once"),
    )
    path = tmp_path / stream.name

    for wrong in ("nope", "tz"):
        assert main([*flags, f"--timestamp=field:{wrong}"]) == 2
        last = capfd.readouterr().err.splitlines()[-1]
        assert f"error: --timestamp=field:{wrong}: none of the 9 messages of topic=" in last
        assert last.endswith(
            f"nothing was committed; field {wrong} is missing or null; send it, or use "
            "--timestamp=record; their fields are id, ts"
        )
        assert sum(read.messages for entry in entries_of(path) for read in entry.reads) == 0

    assert main([*flags, "--timestamp=field:ts", "--interval=10s"]) == 0
    entries = entries_of(path)
    assert [entry.cause for entry in entries] == ["start", "start", "start", "interval"]
    assert (entries[-1].row_time, entries[-1].interval) == ("field:ts", TEN)
    check(path, stream.produced)
    assert main([*flags, "--timestamp=field:nope", "--interval=10s"]) == 2
    assert "was begun with --timestamp=field:ts" in capfd.readouterr().err


def test_a_wrong_row_time_is_the_reason_that_is_said(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Whatever else is wrong with more of the messages."""
    stream = Stream(embedded)
    stream.send(*(Sending(b"{", at("10:30:00"), n % 4) for n in range(20)))
    stream.send(*(sending(at("10:30:00"), n % 4, id=n) for n in range(9)))

    with pytest.raises(RowTimeError, match="committed; field nope is missing or null; send it"):
        Collecting.of(stream, tmp_path, "--timestamp=field:nope").once(at("10:31:12"))


@pytest.mark.parametrize(
    "flags", [("--until=0001-01-01",), ("--grace=365000d",), ("--max_ahead=365000d",)]
)
def test_times_at_the_ends_of_the_calendar_stop_nothing(
    embedded: EmbeddedBroker, tmp_path: Path, flags: tuple[str, ...]
) -> None:
    """Windows of a week, say, do not begin where the calendar does."""
    stream = Stream(embedded)
    stream.send(*(sending(at("10:30:00"), n % 4, id=n) for n in range(9)))
    collecting = Collecting.of(stream, tmp_path, "--interval=7d", *flags)

    collecting.run(at("10:30:12"), at("10:30:14"), lambda _: None)
    Collecting.of(stream, tmp_path, "--interval=7d").once(at("10:30:15"), "--flush")

    check(collecting.path, stream.produced)


@pytest.mark.parametrize("folder", ["carry", "log", "staging"])
def test_a_folder_that_became_a_link_is_said_before_anything_is_committed(
    embedded: EmbeddedBroker, tmp_path: Path, folder: str
) -> None:
    """Of files behind one none can be deleted; with the folder in its place all goes on."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path / "out", "--interval=10s")
    stream.send(*(sending(at("10:30:01"), n % 4, id=n) for n in range(9)))
    collecting.once(at("10:30:05"))
    place, elsewhere = collecting.path / folder, tmp_path / "elsewhere"
    place.mkdir(exist_ok=True)
    place.rename(elsewhere)
    place.symlink_to(elsewhere)

    for _ in range(2):
        with pytest.raises(StorageError, match=f"{folder} is a symbolic link.*put the folder"):
            collecting.once(at("10:30:12"))
    place.unlink()
    elsewhere.rename(place)
    assert len(entries_of(collecting.path)) == 2

    collecting.once(at("10:30:12"))
    check(collecting.path, stream.produced)


def test_where_a_collection_starts_can_be_said_anew_before_it_holds_anything(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """What lies before is not missed; afterwards another start is refused as ever."""
    stream = Stream(embedded)
    stream.send(*(sending(at("10:30:00"), n % 4, id=n) for n in range(9)))
    with pytest.raises(RowTimeError):
        Collecting.of(stream, tmp_path, "--timestamp=field:nope").once(at("10:31:12"))
    collecting = Collecting.of(stream, tmp_path, "--start=latest")
    collecting.take_up(at("10:31:13"))
    later = stream.send(*(sending(at("10:31:20"), n % 4, id=n) for n in range(5)))

    collecting.once(at("10:32:12"))

    check(collecting.path, later)
    with pytest.raises(LogError, match="was begun with --start=latest"):
        Collecting.of(stream, tmp_path, "--start=earliest").once(at("10:32:22"))


@pytest.mark.parametrize(("limit", "committed"), [("3", 0), ("4", 1), ("1.9%", 0), ("2%", 1)])
def test_a_cycle_with_too_many_dead_letters_is_not_committed(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    limit: str,
    committed: int,
) -> None:
    """Exit code 1 before its commit; a run with a higher limit has all of it."""
    stream = Stream(embedded)
    bad = [Sending(b"{", at("10:30:00"), n) for n in range(4)]
    stream.send(*(sending(at("10:30:00"), n % 4, id=n) for n in range(196)), *bad)
    flags = (
        f"--bootstrap_servers={embedded.bootstrap_servers}",
        *(f"--topics={stream.name}", f"--output={tmp_path}", "--once"),
    )

    assert main([*flags, f"--max_dead_letters={limit}"]) == 1 - committed

    told = f"topic={stream.name}, cycle=1, became dead letters"
    assert (told in capfd.readouterr().err) != bool(committed)
    assert len(entries_of(tmp_path / stream.name)) == 1 + committed
    assert main([*flags, "--max_dead_letters=100%"]) == 0
    check(tmp_path / stream.name, stream.produced, dead={(n, 49) for n in range(4)})


def test_dead_letters_are_counted_over_all_cycles_of_a_run(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """A run that goes on stops before the one too many; the next one begins to count anew."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s", "--max_dead_letters=2")
    stream.send(sending(at("10:30:00"), id=0))

    def arrive(now: datetime) -> None:
        if now.second % 10 == 0 and now.microsecond == 0:
            stream.send(Sending(b"{", now))

    with pytest.raises(DeadLettersError, match=re.escape("(3 of this run), more than --max_dead_")):
        collecting.run(at("10:30:01"), at("10:31:30"), arrive)
    dead = [sum(read.dead_letters for read in entry.reads) for entry in entries_of(collecting.path)]
    assert sum(dead) == 2

    collecting.once(at("10:32:02"))
    check(collecting.path, stream.produced, dead={(0, n) for n in range(1, 4)})


def test_another_cluster_is_refused(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """A topic of the same name elsewhere is another topic: its offsets mean nothing here."""
    stream = Stream(embedded)
    stream.send(*every_second("10:30:00", "10:30:10"))
    Collecting.of(stream, tmp_path, "--interval=10s").once(at("10:30:12"))

    with EmbeddedBroker() as elsewhere:
        other = Stream(elsewhere, name=stream.name)
        with pytest.raises(LogError, match=r"cluster_id=.* \(another cluster\); use another"):
            Collecting.of(other, tmp_path, "--interval=10s").once(at("10:30:22"))

    check(tmp_path / stream.name, stream.produced)


@pytest.mark.integration
def test_a_topic_that_was_created_again_is_refused(kafka: KafkaBroker, tmp_path: Path) -> None:
    """Its offsets begin anew, and would be taken for those that were collected."""
    stream = Stream(kafka, partitions=1)
    stream.send(*every_second("10:30:00", "10:30:10"))
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    collecting.once(at("10:30:12"))
    admin = kafka.admin()  # kept: its end would cancel the request
    for answer in admin.delete_topics([stream.name]).values():
        answer.result(30)

    again = Stream(kafka, partitions=1, name=stream.name)
    again.send(*every_second("10:30:00", "10:30:20"))

    with pytest.raises(LogError, match=r"topic_id=.* \(a topic that was created again\)"):
        Collecting.of(again, tmp_path, "--interval=10s").once(at("10:30:22"))
    check(collecting.path, stream.produced)


def test_a_collection_of_another_topic_is_refused(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """A folder that was renamed, or a topic named like it, is found by the log."""
    stream, other = Stream(embedded), Stream(embedded)
    stream.send(*every_second("10:30:00", "10:30:10"))
    Collecting.of(stream, tmp_path, "--interval=10s").once(at("10:30:12"))
    (tmp_path / stream.name).rename(tmp_path / other.name)

    told = f"holds topic={stream.name}, not {other.name}; use another --output"
    with pytest.raises(LogError, match=re.escape(told)):
        Collecting.of(other, tmp_path, "--interval=10s").once(at("10:30:22"))


def test_the_windows_of_rows_are_those_of_their_stamps(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Each row lies in the file of its window: start inclusive, end exclusive."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stamps = ["10:29:59.999", "10:30:00", "10:30:09.999", "10:30:10", "10:30:19.999"]
    stream.send(*(sending(at(stamp), id=stamp) for stamp in stamps))

    collecting.once(at("10:30:22"))

    found = {}
    for entry in entries_of(collecting.path):
        for pane in entry.panes:
            for file in pane.files:
                found[pane.window_start] = file.rows
                assert window_start(file.min_time, TEN) == pane.window_start
                assert window_start(file.max_time, TEN) == pane.window_start
    assert found == {at("10:29:50"): 1, at("10:30:00"): 2, at("10:30:10"): 2}
    check(collecting.path, stream.produced)


def test_files_that_a_reader_took_away_do_not_stop_the_next_run(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Some move files out once they have them; the log still knows what was collected."""
    stream = Stream(embedded)
    collecting = Collecting.of(stream, tmp_path, "--interval=10s")
    stream.send(*every_second("10:30:00", "10:30:20"))
    collecting.once(at("10:30:22"))
    for file in (collecting.path / "data").rglob("*.parquet"):
        file.unlink()
    stream.send(*every_second("10:30:20", "10:30:30"))

    (entry,) = collecting.once(at("10:30:32"))

    assert [(pane.window_start, pane.rows) for pane in entry.panes] == [(at("10:30:20"), 10)]
    assert rows_of(collecting.path).num_rows == 10


def test_messages_of_many_bytes_are_read_in_cycles_of_few(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """No offset tells of bytes: a cycle with too many is planned again; files end by bytes, too."""
    stream = Stream(embedded)
    texts = [sending(at("10:30:00"), n % 4, id=n, text="x" * 9_980) for n in range(80)]
    stream.send(*texts)
    collecting = Collecting.of(
        stream, tmp_path, "--max_bytes_per_cycle=200_000", "--target_bytes=50_000"
    )

    collecting.once(at("10:32:12"))

    check(collecting.path, stream.produced)
    entries = entries_of(collecting.path)
    cycles = [sum(read.messages for read in entry.reads) for entry in entries[1:]]
    assert max(cycles) <= 20
    assert len(cycles) < 20
    files = [file.rows for entry in entries for file in entry.files]
    assert max(files) <= 5
    assert sum(files) == 80


def test_twice_as_many_messages_are_tried_every_eighth_cycle_where_bytes_are_bounded(
    embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Large messages pass; a cycle that is read in vain costs as much as one that is not."""
    stream = Stream(embedded)
    stream.send(*(sending(at("10:30:00"), 0, id=n, text="x" * 9_980) for n in range(8)))
    stream.send(*(sending(at("10:30:00"), 0, id=n) for n in range(8, 100)))
    collecting = Collecting.of(stream, tmp_path, "--max_bytes_per_cycle=41_000")

    collecting.once(at("10:32:12"))

    check(collecting.path, stream.produced)
    cycles = [
        sum(read.messages for read in entry.reads) for entry in entries_of(collecting.path)[1:]
    ]
    assert max(cycles[:8]) == cycles[0] < cycles[8] <= 2 * cycles[0]
    in_vain = [line for line in collecting.recorder.notes if "have more than 41,000 bytes" in line]
    assert len(in_vain) == 1, collecting.recorder.notes
