"""The collector's options, from the command line to one frozen record."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from pipeline import cli
from pipeline.options import kafka
from pipeline.options.collect import CollectOptions, check, configure
from pipeline.options.flags import Parser, normalised
from tests import toy_decoder
from transforms.decoding.known import DECODERS
from transforms.elements.plan import DeadLetterLimit
from transforms.sources.kafka.reader_name import READERS
from transforms.sources.kafka.settings import KafkaSettings

if TYPE_CHECKING:
    from pathlib import Path

NEEDED = ("--bootstrap_servers=localhost:1", "--topics=a,b", "--output=out")
SUBSCRIPTION = ("--input_subscription=projects/p-1/subscriptions/stream", "--output=out")


def options(*words: str) -> CollectOptions:
    """Check a command line that has what is needed, and ``words``."""
    parser = Parser()
    configure(parser)
    return check(parser.parse_args(normalised([*NEEDED, *words])))


def errors(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    """Run a wrong command line; give the lines on standard error."""
    assert cli.main(words) == 2
    out, err = capsys.readouterr()
    assert out == ""
    return err.splitlines()


def test_the_defaults_are_those_of_the_help() -> None:
    """What a user gets who names only broker, topics and output."""
    plain = options()
    assert plain.source.names == ("a", "b")
    assert plain.interval == timedelta(minutes=1)
    assert plain.batch_size == 1_000_000
    assert plain.grace == timedelta(seconds=2)
    assert (plain.files.format, plain.files.compression) == ("parquet", "zstd")
    assert plain.start == "earliest"
    assert not plain.is_start_given


def test_flags_may_be_spelt_with_dashes() -> None:
    """As Beam spells them, or as others do."""
    assert options("--batch-size=7", "--max-ahead", "2h").batch_size == 7


def test_workers_are_those_that_are_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """One unless more are; 0: one for each core that this process may use. Shards follow."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5}, raising=False)
    found = [options(*words) for words in ((), ("--direct_num_workers=2",))]
    found += [options("--direct_num_workers=0", *more) for more in ((), ("--shards=5",))]

    assert [(each.workers, each.shards) for each in found] == [(1, 1), (2, 2), (3, 3), (3, 5)]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (
            ("--runner=PrismRunner", *NEEDED, "--direct_num_workers=1"),
            (
                "--direct_num_workers goes with --runner=DirectRunner; with --runner=PrismRunner "
                "leave it out: --shards says how many tasks a cycle has, and flags of the engine "
                "how many workers"
            ),
        ),
        (
            (*SUBSCRIPTION, "--direct_num_workers=2"),
            (
                "--direct_num_workers=2 goes with --topics: what is pulled of a subscription is "
                "held by the one process that keeps its leases; leave it out"
            ),
        ),
        (
            (*NEEDED, "--direct_num_workers=-1"),
            "--direct_num_workers must be a whole number of at least 0, got '-1'",
        ),
        (
            (*NEEDED, "--direct_num_workers=99999"),
            (
                "--direct_num_workers must be at most 1000, processes of this machine, got "
                "'99999'; 0 is one for each core"
            ),
        ),
    ],
    ids=["engine", "subscription", "number", "many"],
)
def test_workers_that_there_cannot_be_are_refused(
    capsys: pytest.CaptureFixture[str], words: tuple[str, ...], told: str
) -> None:
    """With the reason, and what to do."""
    assert errors(capsys, *words) == [f"error: {told}"]


@pytest.mark.parametrize(
    ("word", "limit"),
    [
        ("0", DeadLetterLimit(most=0)),
        ("1_000", DeadLetterLimit(most=1000)),
        ("0%", DeadLetterLimit(percent=0)),
        ("2.5%", DeadLetterLimit(percent=2.5)),
        ("100%", DeadLetterLimit(percent=100)),
    ],
)
def test_dead_letters_are_limited_by_number_or_share(word: str, limit: DeadLetterLimit) -> None:
    """A number of a run's, or percent of a cycle's messages."""
    assert options(f"--max_dead_letters={word}").max_dead_letters == limit
    assert options().max_dead_letters is None


@pytest.mark.parametrize("word", [" ", "-1", "101%", "1.5", "%", "5 %", "nan%", "1e2%", "many"])
def test_no_other_limit_is_taken(capsys: pytest.CaptureFixture[str], word: str) -> None:
    """With the two ways to say it."""
    (line,) = errors(capsys, *NEEDED, f"--max_dead_letters={word}")
    told = f"must be a number as 1000, or a share from 0% to 100%, got {word!r}"
    assert line == f"error: --max_dead_letters {told}"


@pytest.mark.parametrize("reader", READERS)
def test_the_reader_is_what_was_asked_for(monkeypatch: pytest.MonkeyPatch, reader: str) -> None:
    """By itself it is chosen where messages are read."""
    monkeypatch.setattr(kafka, "is_built", lambda: True)
    source = options(f"--reader={reader}").source
    assert isinstance(source, KafkaSettings)
    assert source.by == reader
    assert options().source == options("--reader=auto").source


def test_a_reader_that_was_not_built_is_refused_here_and_not_for_an_engine(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before anything starts; an engine's workers build their own."""
    monkeypatch.setattr(kafka, "is_built", lambda: False)
    (line,) = errors(capsys, *NEEDED, "--reader=columnar")
    assert line == (
        "error: --reader=columnar was not built here; install this again with a C compiler (cc) "
        "on PATH, or use auto"
    )
    source = options("--reader=columnar", "--runner=PrismRunner").source
    assert isinstance(source, KafkaSettings)
    assert source.by == "columnar"


def test_compression_defaults_to_the_format_s_first() -> None:
    """JSON lines are not compressed unless asked."""
    assert options("--output_format=jsonl").files.compression == "none"


def test_all_wrong_flags_are_reported_together(capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown ones, bad values and missing ones, before anything starts."""
    lines = errors(
        capsys,
        "--inteval=5s",
        "--batch_size=many",
        "--output_format=xls",
        "--timestamp=now",
        "--flush",
    )
    assert lines == [
        "error: unknown flag --inteval; did you mean --interval?",
        "error: --topics is missing; name one or more, as batch-topic",
        "error: --bootstrap_servers is missing; name a broker, as localhost:9092",
        "error: --batch_size must be a whole number of at least 1, got 'many'",
        "error: --timestamp must be record, collected or field:NAME, got 'now'",
        "error: --output is missing; name a directory, as collected, or gs://bucket/prefix",
        "error: unknown --output_format=xls; use one of: parquet, jsonl",
        "error: --flush goes with --once",
    ]


def test_an_interval_must_be_whole_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """File names hold seconds."""
    assert errors(capsys, *NEEDED, "--interval=1500ms") == [
        "error: --interval must be whole seconds, got '1500ms'"
    ]
    assert errors(capsys, *NEEDED, "--interval=100ms") == [
        "error: --interval must be at least 1s, got '100ms'"
    ]


def test_the_name_of_a_time_field_may_be_quoted(capsys: pytest.CaptureFixture[str]) -> None:
    """A quote that is not closed is found before anything starts."""
    assert options('--timestamp=field:"meta.ts".x').rules.row_time == 'field:"meta.ts".x'
    (error,) = errors(capsys, *NEEDED, '--timestamp=field:"meta.ts')
    assert error.startswith("error: --timestamp: cannot read the field name '\"meta.ts': a name")


def test_an_unknown_runner_is_refused_with_those_there_are(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Beam would try and fail later."""
    there = "DirectRunner, PrismRunner, DataflowRunner, FlinkRunner, PortableRunner"
    assert errors(capsys, *NEEDED, "--runner=DirectRuner") == [
        f"error: unknown --runner=DirectRuner; did you mean DirectRunner?; use one of: {there}"
    ]


def test_a_decoder_that_is_registered_may_be_named(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The line that registers it is all; before, the error names those that are."""
    asked = f"--input_format={toy_decoder.NAME}"
    (line,) = errors(capsys, *NEEDED, asked)
    assert line == f"error: unknown {asked}; use one of: json, bytes, MODULE:FUNCTION"

    monkeypatch.setitem(DECODERS, toy_decoder.NAME, toy_decoder.read_csv)

    assert options(asked).rules.input_format == toy_decoder.NAME


def test_a_decoder_that_is_not_there_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """Before the first message is read."""
    (line,) = errors(capsys, *NEEDED, "--input_format=no_such:decode")
    assert line == "error: cannot load --input_format=no_such:decode: No module named 'no_such'"


def test_the_command_line_wins_over_the_config_file(tmp_path: Path) -> None:
    """The file's flags come first."""
    file = tmp_path / "collect.yaml"
    file.write_text("batch_size: 5\ninterval: 10s\n")
    parser = Parser()
    configure(parser)
    words = [*NEEDED, f"--config={file}", "--batch_size=6"]
    args, unknown, wrong, _ = cli._parse(parser, words, "collect")  # noqa: SLF001
    checked = check(args)
    assert (unknown, wrong) == ([], [])
    assert (checked.batch_size, checked.interval) == (6, timedelta(seconds=10))


def test_the_output_may_be_on_cloud_storage(tmp_path: Path) -> None:
    """A URL is left as it is, a directory becomes an absolute path."""
    assert options("--output=gs://bucket/prefix/").output == "gs://bucket/prefix"
    assert options(f"--output={tmp_path}").output == str(tmp_path)
    assert options().output.endswith("/out")


def test_an_output_that_names_no_bucket_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """With the other mistakes, before anything is asked of anybody."""
    expected = "error: --output=gs://: gs:// names no bucket; write gs://bucket/prefix"
    assert errors(capsys, *NEEDED, "--output=gs://") == [expected]
