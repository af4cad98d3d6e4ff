"""Flags: spelling, suggestions, files, and all mistakes at once."""

from __future__ import annotations

import argparse
import tempfile
import threading
from datetime import timedelta
from pathlib import Path

import pytest

from batch_collection.errors import CollectionError
from pipeline.cli import main
from pipeline.options.flags import Flags, normalised, properties, unknown_flags


def test_dashes_and_underscores_are_one_spelling() -> None:
    """Only the flag's name is touched, never its value."""
    words = ["--batch-size=10", "--output", "my-dir", "--topics=a-b", "-X", "a-b=c-d", "--"]
    assert normalised(words) == [
        "--batch_size=10",
        "--output",
        "my-dir",
        "--topics=a-b",
        "-X",
        "a-b=c-d",
        "--",
    ]


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["status"], "PATH is missing; give the collection, OUTPUT/NAME"),
        (["serve"], "ROOT is missing; give a collection, or the directory that collections lie in"),
        (["completion"], "bash|zsh|fish is missing; give the shell that reads the script"),
        (["status", "a", "--json=1"], "--json: it takes no value, got '1'"),
        (["status", ""], "a path is empty; name a directory, as collected, or gs://bucket/prefix"),
    ],
)
def test_what_is_missing_or_too_much_is_told_in_plain_words(
    words: list[str], told: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not in those of argparse; a variable of the shell that is empty is no working directory."""
    assert main(words) == 2
    assert capsys.readouterr().err == f"error: {told}\n"


def test_an_unknown_flag_is_named_with_the_nearest_known_one() -> None:
    """And a word that is no flag is named as it is."""
    known = ["--interval", "--output", "--max_rows_per_cycle", "--max_seconds_to_wait"]
    assert unknown_flags(["--inteval=5s", "--max", "--zzz", "word"], known) == [
        "unknown flag --inteval; did you mean --interval?",
        "unknown flag --max; did you mean --max_rows_per_cycle or --max_seconds_to_wait?",
        "unknown flag --zzz",
        "unexpected 'word'",
    ]


@pytest.mark.parametrize(
    "words",
    [
        ["-X", "sasl.password", "hunter2"],
        ["-Xsasl.password", "hunter2"],
        ["--X", "sasl.password", "hunter2"],
        ["-x", "sasl.password", "hunter2"],
    ],
)
def test_a_stray_word_beside_a_property_is_not_shown(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a password, where a blank was written for the equals sign."""
    assert main(["collect", *words]) == 2
    said = capsys.readouterr().err
    assert "unexpected word (not shown, as it may be a secret); -X takes key=value" in said
    assert "hunter2" not in said


def test_all_mistakes_are_told_together() -> None:
    """One line each, with the cure."""
    args = argparse.Namespace(
        topics="", batch_size="0", interval="soon", grace="-1s", until="never", kind="x"
    )
    flags = Flags(args)
    flags.names("topics")
    flags.number("batch_size")
    flags.duration("interval", timedelta(seconds=1))
    flags.duration("grace", timedelta(0))
    flags.instant("until")
    flags.choice("kind", ["one", "two"])
    with pytest.raises(CollectionError) as error:
        flags.done()
    assert str(error.value).splitlines() == [
        "--topics is missing",
        "--batch_size must be a whole number of at least 1, got '0'",
        "--interval is not a duration: 'soon'; write it as 10s, 1m, 1h30m or 250ms",
        "--grace is not a duration: '-1s'; write it as 10s, 1m, 1h30m or 250ms",
        "--until is not an instant: 'never'; write it as 2026-11-22T10:30:00Z",
        "unknown --kind=x; use one of: one, two",
    ]


@pytest.mark.parametrize(
    ("words", "flag"),
    [
        (["follow", "c", "--cursor=a"], "--poll"),
        (["announce", "c", "--to=command:true"], "--poll"),
        (["wait", "c", "--window=2026-11-22"], "--poll"),
        (["status", "c"], "--watch"),
        (["produce", "--bootstrap_servers=localhost:9092", "--topics=a"], "--every"),
    ],
)
def test_a_pause_is_no_longer_than_a_thread_can_wait(
    words: list[str], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is told before anything begins, not by the clock when the first pause does."""
    assert main([*words, f"{flag}=1000y"]) == 2
    assert capsys.readouterr() == ("", f"error: {flag} must be at most 36500d, got '1000y'\n")
    assert timedelta(days=36_500).total_seconds() < threading.TIMEOUT_MAX


_BEYOND = "9" * 5000
_KAFKA = ["--bootstrap_servers=localhost:9092", "--topics=a"]
_NUMBERS = [
    (["collect", *_KAFKA, "--output=out"], "--batch_size", "2,147,483,647"),
    (["collect", *_KAFKA, "--output=out"], "--max_bytes_per_cycle", "9,223,372,036,854,775,807"),
    (["collect", *_KAFKA, "--output=out"], "--shards", "10,000"),
    (["export", "c", "--to=jsonl", "--output=new"], "--shards", "99,999"),
    (["produce", *_KAFKA], "--partitions", "100,000"),
    (["produce", *_KAFKA], "--records_per_message", "1,000,000"),
    (["status", "c"], "--last", "9,223,372,036,854,775,807"),
]


@pytest.mark.parametrize(("words", "flag", "most"), _NUMBERS)
@pytest.mark.parametrize("text", [f"{2**64}", _BEYOND])
def test_a_number_beyond_all_that_can_be_counted_is_told_with_the_most(
    words: list[str], flag: str, most: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of 5,000 digits Python makes none, and Kafka and Beam count in fewer bits than Python."""
    assert main([*words, f"{flag}={text}"]) == 2
    assert capsys.readouterr() == ("", f"error: {flag} must be at most {most}, got {text!r}\n")


@pytest.mark.parametrize(
    "flag",
    [
        *("--batch_size=٣", "--interval=٣s", "--max_dead_letters=٣", "--max_dead_letters=٣%"),
        *("--http=٣", "--http=localhost:٣", "--until=٣026-11-22", "--direct_num_workers=٣"),
    ],
)
def test_digits_of_other_scripts_are_none(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They look like others, and not all that reads a flag reads them."""
    assert main(["collect", *_KAFKA, "--output=out", flag]) == 2
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith(f"error: {flag.partition('=')[0]} ")
    assert "٣" in error


@pytest.mark.parametrize(
    ("command", "flag"),
    [
        *(("collect", f"--{name}") for name in ("config", "group_id", "start", "announce")),
        *(("collect", f"--{name}") for name in ("schema", "consumer_config", "interval", "http")),
        ("demo", "--output"),
        ("status", "--watch"),
        ("status", "--bootstrap_servers"),
        ("export", "--columns"),
        ("follow", "--cursor_file"),
    ],
)
def test_a_flag_that_is_given_and_empty_is_not_taken_for_its_default(
    command: str, flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is a variable of the shell that is not set: another collection would begin, or none."""
    assert main([command, f"{flag}="]) == 2
    assert f"error: {flag} is empty; give it a value, or leave it out\n" in capsys.readouterr().err


def test_an_empty_flag_that_is_required_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    """It is told once, with its own cure."""
    assert main(["collect", *_KAFKA, "--output="]) == 2
    error = "error: --output is missing; name a directory, as collected, or gs://bucket/prefix\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize("text", ["localhost:8085", "http://[::1]:8085", "us-pubsub.example.org"])
def test_an_endpoint_is_an_address(text: str) -> None:
    """That of an emulator begins with ``http://``."""
    flags = Flags(argparse.Namespace(pubsub_endpoint=text))
    assert (flags.endpoint(), flags.errors) == (text, [])


@pytest.mark.parametrize("text", ["http://", "https://a:443", "a:99999", "a:b", "http://a:1/"])
@pytest.mark.parametrize(
    "words",
    [
        ["produce", "--topic=projects/p/topics/t"],
        ["collect", "--input_subscription=projects/p/subscriptions/one", "--output=out"],
    ],
)
def test_what_is_no_endpoint_is_told_before_it_is_asked(
    words: list[str], text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The library wrote pages."""
    assert main([*words, f"--pubsub_endpoint={text}"]) == 2
    error = "error: --pubsub_endpoint must be HOST:PORT, or http://HOST:PORT for an emulator, "
    assert capfd.readouterr().err == f"{error}as http://localhost:8085, got {text!r}\n"


def test_properties_come_from_a_file_and_from_x_which_wins(tmp_path: Path) -> None:
    """Comments and blank lines are skipped; values may hold equals signs."""
    file = tmp_path / "client.properties"
    file.write_text("# secrets\n\nsasl.password = a=b\nclient.id=one\n")
    assert properties(["client.id=two"], str(file)) == {"sasl.password": "a=b", "client.id": "two"}


@pytest.mark.parametrize("command", ["collect", "produce", "status"])
def test_a_login_among_the_addresses_of_brokers_is_refused_and_not_shown(
    command: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """No Kafka client takes it there, and an address stands in many an error."""
    path = ["PATH"] if command == "status" else ["--topics=a"]
    assert main([command, *path, "--bootstrap_servers=kafka://user:hunter2@host:9092"]) == 2

    said = capfd.readouterr().err
    assert "error: --bootstrap_servers must be HOST:PORT,... without a login (not shown)" in said
    assert "hunter2" not in said


def test_what_a_flag_says_is_not_taken_from_a_property(tmp_path: Path) -> None:
    """It would not count, and nobody would know; a file may serve other programs, too."""
    with pytest.raises(CollectionError) as caught:
        properties(["bootstrap.servers=host:9092"], None)
    assert str(caught.value) == (
        "-X bootstrap.servers is not taken; name brokers with --bootstrap_servers"
    )
    file = tmp_path / "client.properties"
    file.write_text("bootstrap.servers=host:9092\n")
    assert properties([], str(file)) == {"bootstrap.servers": "host:9092"}


@pytest.mark.parametrize(
    ("mode", "line", "is_warned_about"),
    [
        (0o644, "sasl.password=a", True),
        (0o640, "sasl.password=a", False),
        (0o644, "client.id=a", False),
    ],
)
def test_a_file_with_a_secret_that_others_can_read_is_warned_about(
    mode: int, line: str, *, is_warned_about: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """Everybody, that is: a group is chosen."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where nobody else gets
        Path(folder).chmod(0o755)
        file = Path(folder) / "client.properties"
        file.write_text(f"{line}\n")
        file.chmod(mode)
        properties([], str(file))
        Path(folder).chmod(0o700)
        properties([], str(file))

    warning = f"--consumer_config={file} holds a secret, and other users of this machine can read"
    assert [warning in text for text in caplog.messages] == [True] * is_warned_about


def test_a_line_that_is_no_property_is_named_without_its_neighbours(tmp_path: Path) -> None:
    """File and line, not what is there: it may be a password behind a colon."""
    file = tmp_path / "client.properties"
    file.write_text("client.id=one\nsasl.password: battery-staple\n=battery-staple\n")
    with pytest.raises(CollectionError) as caught:
        properties([], str(file))
    assert str(caught.value).splitlines() == [
        f"{file}:2 must be key=value, got no = in it",
        f"{file}:3 must be key=value, got one without a key",
    ]
    with pytest.raises(CollectionError, match="cannot read --consumer_config=nowhere"):
        properties([], "nowhere")


@pytest.mark.parametrize("url", ["gs://bucket/x.parquet", "gs:/bucket/x.json", "s3://b/x.json"])
@pytest.mark.parametrize(
    "words",
    [
        ["export", "collected/x", "--to=jsonl", "--output"],
        ["schema", "collected/x", "--export"],
        ["demo", "--output"],
        ["collect", "--schema"],
        ["collect", "--config"],
        ["collect", "--consumer_config"],
    ],
)
def test_a_flag_for_a_path_of_this_machine_takes_no_url(
    words: list[str],
    url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It made a folder of that name, and said that all was well."""
    monkeypatch.chdir(tmp_path)
    *words, flag = words

    assert main([*words, f"{flag}={url}"]) == 2

    message = f"{flag}={url} is a URL, and the flag takes a path of this machine only"
    assert message in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "servers",
    [
        *("localhost", "localhost:9092", "a-b.c:1,d:65535", "SASL_SSL://kafka:9092", "[::1]:9092"),
        "one:1, two:2",
    ],
)
def test_brokers_are_addresses_as_librdkafka_takes_them(servers: str) -> None:
    """A name, an IPv4 or IPv6 address, with or without a port."""
    flags = Flags(argparse.Namespace(bootstrap_servers=servers))
    assert (flags.brokers(), flags.errors) == (servers, [])


@pytest.mark.parametrize(
    "servers",
    [
        *(
            "://x",
            "a b:9092",
            "a:abc",
            "a:99999",
            "a:0",
            ",",
            "a:1,",
            "http://a/b",
            "http://a:1",
            "::1",
            "a:1 b:2",
        )
    ],
)
def test_what_is_no_broker_is_told_before_one_is_asked(servers: str) -> None:
    """Librdkafka would look for it for ten seconds, or ask another port."""
    flags = Flags(argparse.Namespace(bootstrap_servers=servers))
    flags.brokers()
    (error,) = flags.errors
    assert error.startswith("--bootstrap_servers must be HOST:PORT,..., as localhost:9092, got '")


def test_a_password_in_an_address_is_not_shown() -> None:
    """Nor is the address."""
    flags = Flags(argparse.Namespace(bootstrap_servers="user:hunter2@host:9092"))
    flags.brokers()
    assert "hunter2" not in str(flags.errors)
    assert "without a login (not shown)" in str(flags.errors)
