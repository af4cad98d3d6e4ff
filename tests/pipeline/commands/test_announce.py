"""``announce``, ``wait`` and ``collect --announce``: from the shell."""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import CollectionError
from batch_collection.publishing.publish import publish
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.cli import main
from pipeline.options.collect import check, configure
from pipeline.options.flags import Parser
from tests.builders import Collector, message
from tests.collecting import CollectorProcess, Stream, run_command, sending

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker

NOTE = """
import json, sys
from pathlib import Path
event = json.load(sys.stdin)
place = Path(event["source"].removeprefix("file://"))
manifest = json.loads((place / event["subject"]).read_text())
assert manifest["rows"] == event["data"]["rows"]
assert all((place / file["path"]).exists() for file in manifest["files"])
with open(sys.argv[1], "a") as noted:
    print(event["id"].partition("-")[2], event["data"]["rows"], file=noted)
"""


@pytest.fixture
def noting(tmp_path: Path) -> str:
    """Return a target that sees that all is visible, and notes it in ``noted``."""
    program = tmp_path / "note.py"
    program.write_text(NOTE)
    return f"command:{sys.executable} {program} {tmp_path / 'noted'}"


@pytest.fixture
def collector(tmp_path: Path) -> Collector:
    """Return a collector that has closed a window."""
    collector = Collector(LocalStorage(str(tmp_path / "collection")))
    collector.collect(message(0), message(1), boundary="10:31:00")
    return collector


def test_each_window_is_announced_once_and_has_a_line(
    collector: Collector, noting: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A second run goes on; another cursor begins anew, or with what is to come."""
    words = ["announce", collector.storage.uri, f"--to={noting}", "--once"]
    assert main(words) == 0
    line = "2026-11-22T10:30:00Z  revision 1  on_time          2 rows     1 file  announced\n"
    assert capsys.readouterr().out == line
    collector.collect(message(2, "10:31:00"), boundary="10:32:00")
    assert main(words) == 0
    assert main(words) == 0
    assert main([*words, "--cursor=other", "--start=latest"]) == 0
    noted = ["20261122T103000Z.r1 2", "20261122T103100Z.r1 1"]
    assert (tmp_path / "noted").read_text().splitlines() == noted
    assert main([*words, f"--cursor_file={tmp_path}/place.json"]) == 0
    assert (tmp_path / "noted").read_text().splitlines() == noted * 2


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ([], "--to is missing; name one of: https://HOST/PATH, kafka://TOPIC or command:PROGRAM"),
        (["--to=gs://b"], "--to: announcements go to https://HOST/PATH, kafka://TOPIC or command:"),
        (["--to=kafka://t"], "--to=kafka://t needs --bootstrap_servers; name a broker, as"),
        (["--to=command:nowhere"], "--to: there is no program 'nowhere' to announce to"),
        (["--to=command:true", "--secret_file=s"], "cannot read --secret_file=s: No such file"),
        (["--to=https://h", "--secret_file=PATH"], "must hold whsec_ and 24 to 64 bytes in base64"),
        (["--secret_file=PATH"], "--secret_file goes with --to"),
        (["--to=command:true", "--cursor=a", "--cursor_file=b"], "--cursor_file=FILE, not both"),
    ],
)
def test_mistakes_are_told_in_a_line(
    words: list[str], told: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before the collection is looked at."""
    path = tmp_path / "file"
    path.write_text("hidden")
    given = [word.replace("PATH", str(path)) for word in words]
    assert main(["announce", "collection", "--once", *given]) == 2
    errors = capsys.readouterr().err
    assert told in errors
    assert all(line.startswith("error: ") for line in errors.splitlines())
    assert "hidden" not in errors


def test_a_receiver_that_refuses_ends_a_run_that_ends(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the exit code of a failure; nothing is remembered."""
    monkeypatch.setattr("pipeline.commands.announce.PATIENCE", timedelta(0))
    words = ["announce", collector.storage.uri, "--to=command:false", "--once"]
    assert main(words) == 1
    assert capsys.readouterr().err == (
        "error: cannot announce windows/20261122T103000Z.r1.json to command false: it ended with "
        "exit code 1; the next run begins with it\n"
    )


def test_wait_ends_when_it_is_closed_and_visible(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not when it is committed only; a window without rows is closed as well."""
    uri = collector.storage.uri
    entry = collector.collect(message(2, "10:31:00"), boundary="10:33:00", published=False)
    assert main(["wait", uri, "--window=2026-11-22T10:30:59Z", "--timeout=0s"]) == 0
    assert main(["wait", uri, "--window=2026-11-22T10:31:00Z", "--timeout=0s"]) == 3
    publish(collector.storage, entry)
    for flag in ("--window=2026-11-22T10:31:00Z", "--window=2026-11-22T10:32:00Z"):
        assert main(["wait", uri, flag, "--timeout=0s"]) == 0
    assert main(["wait", uri, "--closed_through=2026-11-22T10:33:00Z", "--timeout=0s"]) == 0
    assert main(["wait", uri, "--closed_through=2026-11-22T10:33:01Z", "--timeout=0s"]) == 3
    found = capsys.readouterr()
    first, second = (f"{uri}/windows/20261122T10{minute}00Z.r1.json" for minute in (30, 31))
    assert found.out.splitlines() == [
        f"window 2026-11-22T10:30:00Z is closed: 2 rows in 1 file, revision 1, {first}",
        f"window 2026-11-22T10:31:00Z is closed: 1 row in 1 file, revision 1, {second}",
        "window 2026-11-22T10:32:00Z is closed: no rows",
        "closed through 2026-11-22T10:33:00Z",
    ]
    assert (
        found.err.splitlines()
        == [
            f"not closed within 0s: {uri} is at cycle 2, closed up to 2026-11-22T10:33:00Z",
        ]
        * 2
    )


def test_a_window_beyond_the_calendar_never_closes(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """It ends after the year 9999, where no boundary can be."""
    words = ["wait", collector.storage.uri, "--timeout=0s"]
    assert main([*words, "--window=9999-12-31T23:59:59Z"]) == 3
    assert capsys.readouterr().err.startswith("not closed within 0s: ")


def test_wait_begins_before_the_collection_is_there(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It looks again and again; after the timeout it says that there is none."""
    storage = LocalStorage(str(tmp_path / "later"))
    words = ["wait", storage.uri, "--window=2026-11-22T10:30:00Z", "--poll=20ms"]
    assert main([*words, "--timeout=50ms"]) == 3
    assert f"not closed within 50ms: no collection in {storage.uri}" in capsys.readouterr().err

    def collect() -> None:
        time.sleep(0.1)
        Collector(storage).collect(message(0), boundary="10:31:00")

    collecting = threading.Thread(target=collect)
    collecting.start()
    assert main([*words, "--timeout=30s"]) == 0
    collecting.join()


def test_one_instant_is_waited_for(capsys: pytest.CaptureFixture[str]) -> None:
    """Neither none nor two."""
    for words in ([], ["--window=2026-11-22T10:30:00Z", "--closed_through=2026-11-22T10:30:00Z"]):
        assert main(["wait", "collection", *words]) == 2
        told = "error: give --window=INSTANT or --closed_through=INSTANT, one of the two\n"
        assert capsys.readouterr().err == told


def test_a_collector_announces_what_it_closes(
    embedded: EmbeddedBroker, noting: str, tmp_path: Path
) -> None:
    """All of it has come when a run ends; one that goes on announces while it collects."""
    stream = Stream(embedded)
    past = utc_now() - timedelta(hours=1)
    stream.send(*(sending(past, value=number) for number in range(100)))
    output = tmp_path / "collected"
    flags = ("--interval=1s", "--grace=0s", f"--announce={noting}")
    done = run_command([stream], output, "--once", *flags)
    assert done.returncode == 0, done.stderr
    first = (tmp_path / "noted").read_text().splitlines()
    assert [line.split()[1] for line in first] == ["100"]
    stream.send(*(sending(past, value=number) for number in range(7)))
    with CollectorProcess([stream], output, *flags) as collecting:
        deadline = time.monotonic() + 30
        while (tmp_path / "noted").read_text().splitlines() == first:
            assert time.monotonic() < deadline, "nothing was announced"
            time.sleep(0.1)
        collecting.send(signal.SIGTERM)
        assert collecting.end() == 0
    place = json.loads((output / stream.name / "cursors" / "announce.json").read_text())
    assert place["cycle"] > 1


def test_a_collector_whose_receiver_refuses_collects(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its exit code says that not all was announced."""
    monkeypatch.setattr("pipeline.running.announcer.PATIENCE", timedelta(0))
    stream = Stream(embedded)
    stream.send(*(sending(utc_now() - timedelta(hours=1), value=number) for number in range(9)))
    words = [f"--bootstrap_servers={embedded.bootstrap_servers}", f"--topics={stream.name}"]
    words += [f"--output={tmp_path}", "--once", "--announce=command:false"]
    assert main(words) == 1
    assert main(["audit", str(tmp_path / stream.name)]) == 0


def test_jobs_of_engines_are_announced_beside_them() -> None:
    """The error says how."""
    parser = Parser()
    configure(parser)
    words = ["--bootstrap_servers=a:1", "--topics=a", "--output=o", "--announce=command:true"]
    args, _, _ = parser.read([*words, "--runner=PrismRunner"])
    with pytest.raises(CollectionError, match="run batch-collection announce PATH beside the job"):
        check(args)
