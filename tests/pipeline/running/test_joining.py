"""Topics that match a pattern, found while collecting goes on."""

from __future__ import annotations

import uuid
from contextlib import closing, contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from batch_collection.errors import LogError, SourceError
from batch_collection.paths import entry_path
from pipeline.cli import main
from pipeline.planning.joining import Joining, matching
from pipeline.planning.opening import collect_tasks
from pipeline.running.local import LocalDrive
from tests.builders import at
from tests.collecting import Collecting, Recorder, Stream, check, entries_of, sending
from transforms.process.process import current, new_process
from transforms.sources.kafka.topic import KafkaCluster

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from pipeline.options.collect import CollectOptions
    from pipeline.planning.topic import TopicCollection
    from tests.services.kafka import KafkaBroker
    from transforms.sources.kafka.embedded import EmbeddedBroker

SECOND = timedelta(seconds=1)


class Matching(Collecting):
    """A collector of all topics that begin with what a test has chosen."""

    pattern: str
    options: CollectOptions

    @contextmanager
    def drive(
        self, at: datetime, *flags: str, stop: threading.Event | None = None
    ) -> Iterator[LocalDrive]:
        """Give a drive that begins without any topic."""
        self._now = at
        self.options = options = self.options_of(self.pattern, *flags)
        with new_process(stop) as process, closing(options.source.connect()) as connection:
            process.observers.append(self.recorder)

            def began(topic: TopicCollection) -> None:
                topic.clock = self._clock

            cluster = cast("KafkaCluster", connection)
            joining = Joining(options, cluster, self.pattern, began, ends=options.once)
            steps = collect_tasks(options, is_here=True)
            yield LocalDrive(
                (),
                steps,
                once=options.once,
                flush=options.flush,
                clock=self._clock,
                joining=joining,
            )


@pytest.fixture
def prefix() -> str:
    """Return what the names of a test's topics begin with."""
    return f"match-{uuid.uuid4().hex[:8]}-"


def collecting(
    prefix: str, broker: EmbeddedBroker | KafkaBroker, output: Path, *names: str
) -> Matching:
    """Return a collector, and make topics."""
    streams = tuple(Stream(broker, name=prefix + name) for name in names or ("other",))
    found = Matching(streams, output, ("--interval=10s",))
    found.pattern = f"^{prefix}[ab]"
    return found


def test_a_topic_that_comes_later_is_collected_from_its_begin(
    prefix: str, embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Within half a minute, as a collection of its own; those that are there go on meanwhile."""
    found = collecting(prefix, embedded, tmp_path, "a", "other")
    streams = {"a": found.streams[0]}
    found.streams[0].send(sending(at("10:30:01"), id=0))

    def arrive(now: datetime) -> None:
        if now == at("10:30:25"):
            streams["b"] = Stream(embedded, name=f"{prefix}b")
        if at("10:30:25") < now < at("10:31:15"):
            for stream in streams.values():
                stream.send(sending(now, id=now.second))

    found.run(at("10:30:12"), at("10:31:33"), arrive)
    assert {path.name for path in tmp_path.iterdir()} == {f"{prefix}a", f"{prefix}b"}
    for stream in streams.values():
        check(tmp_path / stream.name, stream.produced)
    boundary = entries_of(tmp_path / f"{prefix}b")[1].boundary
    assert boundary is not None
    assert boundary <= at("10:31:00")
    assert found.recorder.notes == []


def test_where_nothing_matches_it_is_said_and_waited_for(
    prefix: str, embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Once, with what there is."""
    found = collecting(prefix, embedded, tmp_path)
    late: list[Stream] = []

    def arrive(now: datetime) -> None:
        if now == at("10:30:20"):
            late.append(Stream(embedded, name=f"{prefix}a"))
            late[0].send(sending(now, id=0))

    found.run(at("10:30:12"), at("10:31:13"), arrive)
    (note,) = found.recorder.notes
    assert note.startswith(f"no topic matches --topics={found.pattern}; they are waited for; ")
    check(tmp_path / late[0].name, late[0].produced)


def test_with_once_what_is_there_is_all(
    prefix: str, embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing that matches is no mistake: cron will come again."""
    servers = f"--bootstrap_servers={embedded.bootstrap_servers}"
    words = [servers, f"--output={tmp_path}", "--once", "--flush"]
    Stream(embedded, name=f"{prefix}other")
    assert main([*words, f"--topics=^{prefix}[ab]"]) == 0
    assert "nothing is collected; there are: " in capsys.readouterr().err
    streams = [Stream(embedded, name=prefix + name) for name in "ab"]
    for stream in streams:
        stream.send(sending(None, id=1), sending(None, 1, id=2))
    assert main([*words, f"--topics=^{prefix}[ab]"]) == 0
    for stream in streams:
        check(tmp_path / stream.name, stream.produced)
    assert not (tmp_path / f"{prefix}other").exists()


def test_a_topic_that_can_not_be_opened_keeps_no_other_from_being_collected(
    prefix: str, embedded: EmbeddedBroker, tmp_path: Path
) -> None:
    """Its collection is another's, say, or damaged; the run ends with its error."""
    found = collecting(prefix, embedded, tmp_path, "a", "b")
    for stream in found.streams:
        stream.send(sending(at("10:30:01"), id=0))
    found.once(at("10:30:12"))
    (tmp_path / f"{prefix}a" / entry_path(1)).write_text("{")
    found.streams[1].send(sending(at("10:30:13"), id=1))
    found.recorder = Recorder()
    with pytest.raises(LogError, match=entry_path(1)):
        found.once(at("10:30:33"))
    check(tmp_path / f"{prefix}b", found.streams[1].produced)
    (told,) = found.recorder.notes
    assert told.startswith("error: ")
    assert told.endswith(" go on")


def test_topics_are_looked_for_every_half_minute(
    prefix: str,
    embedded: EmbeddedBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A clock that is set back does not end it; brokers that are away for a look only cost it."""
    asked: list[datetime] = []
    found = collecting(prefix, embedded, tmp_path, "a")
    names = KafkaCluster.names

    def counted(cluster: KafkaCluster) -> list[str]:
        asked.append(found._clock())  # noqa: SLF001 - the test's own
        if len(asked) == 2:
            message = "no answer"
            raise SourceError(message)
        return names(cluster)

    monkeypatch.setattr(KafkaCluster, "names", counted)
    with found.drive(at("10:30:00")) as drive:
        assert drive.joining is not None
        for second in (0, 10, 29, 30, 31, 59, 60, 61):
            found._now = at("10:30:00") + second * SECOND  # noqa: SLF001
            drive.joining.look(found._now)  # noqa: SLF001
        drive.joining.look(at("09:00:00"))
        assert current().observers
    assert asked[:3] == [at("10:30:00"), at("10:30:30"), at("10:31:00")]
    assert len(asked) == 4


def test_a_pattern_can_be_tried_first(
    prefix: str, embedded: EmbeddedBroker, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """By ``validate`` and by ``preview``, which look at what matches now."""
    for name in ("a", "b", "other"):
        Stream(embedded, name=prefix + name).send(sending(None, id=1))
    flags = [f"--bootstrap_servers={embedded.bootstrap_servers}", f"--topics=^{prefix}[ab]"]
    assert main(["preview", *flags]) == 0
    heads = [line for line in capsys.readouterr().out.splitlines() if line[0] != " "]
    assert heads == [f"{prefix}a: 1 of 1 message", f"{prefix}b: 1 of 1 message"]
    assert main(["validate", *flags, f"--output={tmp_path}"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert f"ok      --topics=^{prefix}[ab]: 2 topics match" in lines
    assert f"ok      {prefix}b: 4 partitions, 1 message" in lines
    assert not any(f"{prefix}other" in line for line in lines)
    assert list(tmp_path.iterdir()) == []


@given(
    st.lists(st.from_regex(r"(__)?[a-z._-]{1,6}", fullmatch=True), unique=True, max_size=8),
    st.sampled_from(["^a", "^_", "^__", "^.*", "^[a-c].*", "^(a|b)$", "^__consumer"]),
)
def test_a_pattern_matches_from_the_begin_on(names: list[str], pattern: str) -> None:
    """Topics of Kafka's own only where it names them."""
    found = matching(pattern, names)
    assert found == sorted(found)
    assert set(found) <= set(names)
    if not pattern.startswith("^__"):
        assert not any(name.startswith("__") for name in found)
    for name in names:
        if pattern == "^a":
            assert (name in found) == name.startswith("a")
        if pattern == "^__":
            assert (name in found) == name.startswith("__")


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--topics=a,^b"], "--topics takes one pattern alone, as '^(a|b)', got 'a,^b'"),
        (["--topics=^a,^b"], "--topics takes one pattern alone, as '^(a|b)', got '^a,^b'"),
        (["--topics=^("], "--topics=^( is no regular expression: "),
        (
            ["--topics=^a{1,2}", "--runner=PrismRunner"],
            "with --runner=PrismRunner list topics by their names",
        ),
    ],
)
def test_a_pattern_that_can_not_be_is_refused(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """With what to write."""
    assert main([*words, "--bootstrap_servers=localhost:1", "--output=/tmp"]) == 2
    assert told in capsys.readouterr().err


@pytest.mark.integration
def test_a_topic_that_is_created_again_keeps_no_other_from_being_collected(
    prefix: str, kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Its collection is of the one that was there; others of the pattern go on to the end."""
    found = collecting(prefix, kafka, tmp_path, "a", "b")
    for stream in found.streams:
        stream.send(sending(at("10:30:01"), id=0))
    first, other = found.streams
    admin = kafka.admin()

    def arrive(now: datetime) -> None:
        if now == at("10:30:14"):
            admin.delete_topics([first.name])[first.name].result(30)
            again = Stream(kafka, name=first.name)
            again.send(*(sending(at("10:30:15"), id=number) for number in range(100, 120)))
        if at("10:30:14") < now < at("10:31:15"):
            other.send(sending(now, id=now.second))

    with pytest.raises(LogError, match=r"topic_id=.* \(a topic that was created again\)"):
        found.run(at("10:30:12"), at("10:31:33"), arrive)
    for stream in found.streams:
        check(tmp_path / stream.name, stream.produced)
