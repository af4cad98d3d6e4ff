"""Help: the commands, and each of them."""

from __future__ import annotations

import re
import shlex

import pytest

from batch_collection import __version__
from pipeline.cli import COMMANDS, _parser, main
from pipeline.options.command_parser import CommandParser


def helped(command: str, capsys: pytest.CaptureFixture[str]) -> str:
    """Return a command's help."""
    assert main(["help", command]) == 0
    return capsys.readouterr().out


def test_without_words_it_says_what_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    """A line for each command and two examples; a script that lost its flags has failed."""
    assert main([]) == 2
    said = capsys.readouterr().err
    for name, command in COMMANDS.items():
        assert re.search(rf"(?m)^  {name} +{re.escape(command.says)}$", said)
    assert said.count("\n  batch-collection ") == 2
    assert main(["help"]) == 0
    assert capsys.readouterr().out == said
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("command", COMMANDS)
def test_a_help_begins_with_what_a_command_does_and_an_example(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """``COMMAND --help`` says the same as ``help COMMAND``."""
    said = helped(command, capsys)
    says, example = COMMANDS[command]
    head = f"{says}\n\nexample:\n  batch-collection {example}\n\nusage: batch-collection {command} "
    assert said.startswith(head)
    with pytest.raises(SystemExit):
        main([command, "--help"])
    assert capsys.readouterr().out == said


@pytest.mark.parametrize("command", COMMANDS)
def test_an_example_is_no_mistake(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its flags are of the command, and good; nothing is run."""
    ran: list[object] = []

    def ending(*asked: object) -> int:
        ran.append(asked)
        return 0

    words = shlex.split(COMMANDS[command].example.partition(" > ")[0])
    module = pytest.importorskip(f"pipeline.commands.{command.replace('-', '_')}")
    monkeypatch.setattr(module, "NEEDS", "json", raising=False)
    monkeypatch.setattr(module, "starting", lambda _: "", raising=False)
    for name in ("run", "about"):
        if hasattr(module, name):
            monkeypatch.setattr(module, name, ending)
    assert words[0] == command
    assert main(words) == 0
    assert len(ran) == 1


@pytest.mark.parametrize("command", COMMANDS)
def test_what_must_be_given_is_in_the_usage(
    command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever a command misses when it is given nothing but its words."""
    usage = re.search(r"usage: (.*)", helped(command, capsys))
    assert usage is not None
    words = ["PATH"] * len(re.findall(r" (PATH|ROOT)", usage[1]))
    missing: set[str] = set()
    if "=" in usage[1]:  # else it would run
        assert main([command, *words]) == 2
        missing = set(re.findall(r"(--\w+) is missing", capsys.readouterr().err))
    assert set(re.findall(r"--\w+", usage[1])) == missing


def test_large_defaults_can_be_read(capsys: pytest.CaptureFixture[str]) -> None:
    """And be given as they are shown."""
    said = " ".join(helped("collect", capsys).split())
    assert "so many messages wait (default: 1,000,000)" in said
    assert not re.search(r"default: \d{5}", said)


@pytest.mark.parametrize(
    ("word", "meant"),
    [
        ("statsu", "; did you mean status?"),
        ("ls", "; did you mean list?"),
        ("dead", "; did you mean dead-letters?"),
        ("ex", "; did you mean export or expire?"),
        ("orders", ""),
        ("", ""),
    ],
)
def test_a_word_that_is_no_command_is_told_with_the_nearest(
    word: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Called, or asked about; a line is short, and names what lists all of them."""
    for words in ([word], ["help", word]):
        assert main(words) == 2
        told = f"error: unknown command {word!r}{meant}; batch-collection --help lists them\n"
        assert capsys.readouterr().err == told


@pytest.mark.parametrize("command", COMMANDS)
def test_no_flag_takes_the_word_behind_it_unless_it_needs_one(command: str) -> None:
    """What takes several words, or one or none, would take the path, too."""
    parser = _parser(command)
    for action in parser.actions:
        if action.option_strings:
            assert action.nargs in {None, 0} or (action.nargs == "?" and action.const)


def test_properties_of_the_client_are_said_in_one_way() -> None:
    """Whoever takes them; of a file collect says more, as engines read it."""
    says = {
        flag: {
            str(action.help).partition(";")[0].removesuffix(" (default: none)")
            for command in COMMANDS
            for action in _parser(command).actions
            if flag in action.option_strings
        }
        for flag in ("-X", "--consumer_config")
    }
    assert says == {
        "-X": {"one librdkafka property (security.protocol, sasl.mechanism, ...)"},
        "--consumer_config": {"file of librdkafka properties, key=value lines"},
    }


def test_the_version_is_a_command_and_a_flag(capsys: pytest.CaptureFixture[str]) -> None:
    """Of all commands."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out == f"batch-collection {__version__}\n"
    for words in (["--version"], ["status", "--version"]):
        with pytest.raises(SystemExit):
            main(words)
        assert capsys.readouterr().out == f"batch-collection {__version__}\n"


def test_a_usage_names_words_and_required_flags_only() -> None:
    """What is required for some values of another flag is not required."""
    parser = CommandParser("x", "do it", "x a")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("other", metavar="OTHER", nargs="?")
    parser.add_argument("--a", metavar="A", help="first (required)")
    parser.add_argument("--b", metavar="B", help="second (required for --a=1)")
    parser.add_argument("--c", metavar="C", help="third (required, but for --a=2)")
    assert parser.format_usage() == "usage: batch-collection x PATH --a=A --c=C [FLAGS]\n"
