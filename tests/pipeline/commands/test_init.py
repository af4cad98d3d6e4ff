"""``init``: the file that it prints is good, and says the same as no flags, or those given."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from pipeline.cli import main
from pipeline.options.collect import check, configure
from pipeline.options.config_file import read_config_file
from pipeline.options.flags import Parser

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from pipeline.options.collect import CollectOptions


@pytest.fixture
def printed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Callable[..., Path]:
    """Return what writes the file that is printed with some flags."""

    def write(*flags: str) -> Path:
        assert main(["init", *flags]) == 0
        path = tmp_path / "collect.yaml"
        path.write_text(capsys.readouterr().out)
        return path

    return write


def options_of(*words: str) -> CollectOptions:
    """Return what flags mean."""
    parser = Parser()
    configure(parser)
    args, unknown, errors = parser.read(words)
    assert (unknown, errors) == ([], [])
    return check(args)


def options_in(path: Path) -> CollectOptions:
    """Return what a file means."""
    parser = Parser()
    configure(parser)
    return options_of(*read_config_file(str(path), parser).words)


def test_without_flags_it_is_a_collector_of_this_machine(
    printed: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """With all defaults."""
    monkeypatch.chdir(tmp_path)
    found = options_in(printed())
    assert found == options_of(
        "--bootstrap_servers=localhost:9092", "--topics=batch-topic", "--output=collected"
    )


def test_every_flag_is_in_it_and_means_its_default(printed: Callable[..., Path]) -> None:
    """Also if the # before it is removed."""
    text = printed().read_text()
    parser = Parser()
    configure(parser)
    flags = {flag.removeprefix("--") for flag in parser.flags() if flag.startswith("--")}
    lines = [line.removeprefix("#") for line in text.splitlines() if not line.startswith("# ")]
    found: dict[str, Any] = yaml.load("\n".join(lines), Loader=yaml.BaseLoader)  # noqa: S506 - as written
    assert found.keys() == flags - {"help", "config", "streaming"} | {"X"}
    defaults = vars(parser.read([])[0])
    for name, value in found.items():
        if name not in {"X", "bootstrap_servers", "topics", "output"}:
            default = defaults[name]
            assert value == ("false" if default is False else default or ""), name
    assert max(map(len, text.splitlines())) <= 100


def test_what_is_given_stands_in_it(printed: Callable[..., Path]) -> None:
    """Whatever is in its value."""
    flags = [
        "--bootstrap_servers=a:1,b:2",
        "--topics=010,on",
        '--timestamp=field:"meta.ts".x',
        "--interval=10s",
        "--output=/tmp/a b: #c",
        "--once",
        "-Xsasl.username=x: y",
    ]
    assert options_in(printed(*flags)) == options_of(*flags)


def test_a_subscription_has_no_brokers_beside_it(printed: Callable[..., Path]) -> None:
    """Nor a topic of Kafka's."""
    name = "--input_subscription=projects/p-1/subscriptions/orders"
    found = options_in(printed(name))
    assert replace(found, output="") == replace(options_of(name, "--output=collected"), output="")
