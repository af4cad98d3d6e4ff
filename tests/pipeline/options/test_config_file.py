"""The file of ``--config``: as written, known by file and line, shared by commands."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest

from batch_collection.errors import CollectionError
from pipeline.cli import main
from pipeline.commands import produce, redrive, status
from pipeline.options import collect
from pipeline.options.config_file import placed, read_config_file
from pipeline.options.flags import Parser


def parser_of(module: Any = collect) -> Parser:
    """Return the parser of a command."""
    parser = Parser()
    module.configure(parser)
    return parser


@pytest.fixture
def words_of(tmp_path: Path) -> Any:
    """Return what turns a file's text into words of a command line."""

    def words(text: str) -> list[str]:
        file = tmp_path / "collect.yaml"
        file.write_text(text)
        return read_config_file(str(file), parser_of()).words

    return words


@pytest.fixture
def errors_of(tmp_path: Path) -> Any:
    """Return what tells the errors of a file; FILE stands for its name."""

    def errors(text: str) -> list[str]:
        file = tmp_path / "collect.yaml"
        file.write_text(text)
        with pytest.raises(CollectionError) as caught:
            read_config_file(str(file), parser_of())
        return [line.replace(str(file), "FILE") for line in caught.value.lines]

    return errors


def test_a_file_is_flags_with_variables_of_the_environment(
    words_of: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Lists are joined, true is a bare flag, X is a mapping; what has no value is not there."""
    monkeypatch.setenv("SECRET", "s3cret")
    monkeypatch.setenv("ONCE", "true")

    assert words_of(
        "topics: [a, b]\nbatch-size: 10\nonce: ${ONCE}\nflush: false\nschema:\n"
        "group_id: ''\nX:\n  sasl.password: ${SECRET}\nupdate: true\nproject: p\n"
    ) == [
        "--topics=a,b",
        "--batch_size=10",
        "--once",
        "--group_id=",
        "-Xsasl.password=s3cret",
        "--update",
        "--project=p",
    ]


@pytest.mark.parametrize(
    ("text", "words"), [("true", ["--watch"]), ("false", []), ("10s", ["--watch=10s"])]
)
def test_a_flag_whose_value_may_be_left_out_takes_both(
    text: str, words: list[str], tmp_path: Path
) -> None:
    """As on a command line."""
    file = tmp_path / "collect.yaml"
    file.write_text(f"watch: {text}\n")
    assert read_config_file(str(file), parser_of(status)).words == words


@pytest.mark.parametrize(
    "text", ["010", "on", "0x1F", "null", "1e3", "2026-11-22", "1_000", "~", "yes", "1:30", ".5"]
)
def test_a_text_is_taken_as_it_is_written(text: str, words_of: Any) -> None:
    """Whatever YAML makes of it elsewhere: 8, true, 31, nothing."""
    assert words_of(f"topics: [{text}, b]\n") == [f"--topics={text},b"]
    assert words_of(f"output: {text}\nX: {{a: {text}}}\n") == [f"--output={text}", f"-Xa={text}"]


def test_properties_may_be_a_list(words_of: Any) -> None:
    """Or one alone, as on a command line."""
    assert words_of("X: [a=1, b=2]\n") == ["-Xa=1", "-Xb=2"]
    assert words_of("-X: a=1\n") == ["-Xa=1"]


@pytest.mark.parametrize(
    ("text", "errors"),
    [
        ("topics: a\ntopics: b\n", ["FILE:2: --topics is given twice, first in line 1; "]),
        ("batch_size: 1\nbatch-size: 2\n", ["FILE:2: --batch_size is given twice, first in line"]),
        ("X:\n  a: 1\n  a: 2\n", ["FILE:3: a is given twice; leave one out"]),
        ("once: maybe\n", ["FILE:1: --once must be true or false, got 'maybe'"]),
        ("topics: {a: b}\n", ["FILE:1: --topics takes a word, or a list of words, not a mapping"]),
        ("topics: [[a]]\n", ["FILE:1: --topics takes a word, or a list of words, not a list"]),
        ("X:\n  a: [b]\n", ["FILE:2: a must be one word"]),
        ("[a]: b\n", ["FILE:1: a flag's name must be a word, not a list"]),
        ("config: b\n", ["FILE:1: --config names a file on the command line only; leave it out"]),
        ("a: ${NO_1}\nX: {b: '${NO_2}'}\n", ["FILE:1: ${NO_1} is not set", "FILE:2: ${NO_2} is"]),
        ("", ["--config=FILE must hold FLAG: VALUE lines; it is empty"]),
        ("# nothing\n", ["--config=FILE must hold FLAG: VALUE lines; it is empty"]),
        ("- a\n", ["--config=FILE must hold FLAG: VALUE lines; it is a list"]),
        ("a\n", ["--config=FILE must hold FLAG: VALUE lines; it is a word"]),
        ("a: b\n\tc: d\n", ["FILE:2: no YAML: found character '\\t'"]),
        ("a: [\n", ["FILE:2: no YAML: "]),
        ("a: b\nc: \x00\n", ["FILE:2: no YAML: special characters are not allowed"]),
        ("a: 1\n---\nb: 2\n", ["FILE:2: no YAML: but found another document"]),
        ('topics: a\noutput: "a\\0b"\n', ["FILE:2: a value holds a NUL, \\0; leave it out"]),
    ],
)
def test_what_is_wrong_with_a_file_is_told_by_its_lines(
    text: str, errors: list[str], errors_of: Any
) -> None:
    """All of it together."""
    found = errors_of(text)

    assert len(found) == len(errors)
    assert [line[: len(error)] for line, error in zip(found, errors, strict=True)] == errors


def test_what_is_no_yaml_is_not_quoted(errors_of: Any) -> None:
    """The line may hold a password."""
    assert "hunter2" not in "".join(errors_of("X:\n  sasl.password: 'hunter2\n  a: b\n"))


@pytest.mark.parametrize("text", ["", "- a\n", "\ta: b\n", "topics: ${NOT_SET_ANYWHERE}\n", None])
def test_a_file_that_can_not_be_used_is_the_only_mistake(
    text: str | None, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """What it would have given is not called missing."""
    file = tmp_path / "collect.yaml"
    if text is not None:
        file.write_text(text)

    assert main(["collect", f"--config={file}"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert str(file) in line


def test_a_mistake_in_a_file_is_told_with_its_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """A typo, and a wrong value; not what the command line says instead."""
    file = tmp_path / "collect.yaml"
    file.write_text("topics: a\ninteval: 5s\noutput: b\ngrace: soon\nshards: many\nX: [a]\n")
    words = ["--bootstrap_servers=a:1", "--shards=few"]

    assert main(["collect", f"--config={file}", *words]) == 2
    assert capfd.readouterr().err.splitlines() == [
        f"error: {file}:2: unknown flag --inteval; did you mean --interval?",
        f"error: {file}:6: -X must be key=value, got no = in it",
        f"error: {file}:4: --grace is not a duration: 'soon'; write it as 10s, 1m, 1h30m or 250ms",
        "error: --shards must be a whole number of at least 1, got 'few'",
    ]


def test_a_place_is_that_of_the_first_flag_named() -> None:
    """The others are what it should go with."""
    places = {"--flush": "FILE:1", "--once": "FILE:2", "-X": "FILE:3"}

    assert placed("--flush goes with --once", places) == "FILE:1: --flush goes with --once"
    assert placed("-X must be key=value", places) == "FILE:3: -X must be key=value"
    assert placed("--topics is missing, not --flush", places) == "--topics is missing, not --flush"
    assert placed("unexpected 'word'", places) == "unexpected 'word'"


@pytest.mark.parametrize(
    ("module", "expected"),
    [
        (produce, ["--bootstrap_servers=a:1", "--topics=b", "-Xclient.id=c"]),
        (status, ["--bootstrap_servers=a:1", "-Xclient.id=c"]),
        (redrive, ["--numbers=double"]),
    ],
)
def test_a_file_of_collect_serves_other_commands(
    module: Any, expected: list[str], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """They take the flags that they have, and know a typo all the same."""
    file = tmp_path / "collect.yaml"
    text = (
        "bootstrap_servers: a:1\ntopics: b\ninterval: 5s\nnumbers: double\nnum_workers: 3\n"
        "output: ${NOT_SET_ANYWHERE}\nX: {client.id: c}\n"
    )
    file.write_text(text)
    others = {*parser_of().flags(), "--num_workers"}

    assert read_config_file(str(file), parser_of(module), others).words == expected

    file.write_text(text + "inteval: 5s\n")
    assert main([module.__name__.rpartition(".")[2], "PATH", f"--config={file}"]) == 2
    assert f"error: {file}:8: unknown flag --inteval" in capfd.readouterr().err


@pytest.mark.parametrize(("value", "is_warned_about"), [("a", True), ("${HOME}", False)])
def test_a_secret_in_a_file_that_others_can_read_is_warned_about(
    value: str, *, is_warned_about: bool, caplog: pytest.LogCaptureFixture
) -> None:
    """One of the environment is not in it."""
    with tempfile.TemporaryDirectory() as folder:  # tmp_path lies where nobody else gets
        Path(folder).chmod(0o755)
        file = Path(folder) / "collect.yaml"
        file.write_text(f"X:\n  sasl.password: {value}\n")
        file.chmod(0o644)
        read_config_file(str(file), parser_of())

    warning = f"--config={file} holds a secret, and other users of this machine can read it"
    assert [warning in text for text in caplog.messages] == [True] * is_warned_about
