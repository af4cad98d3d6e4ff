"""``serve``, and ``collect --http``: real processes, asked from outside."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING

import pytest

from batch_collection.errors import CollectionError
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from pipeline.options.collect import check, configure
from pipeline.options.flags import Parser
from tests.builders import Collector, message
from tests.collecting import CollectorProcess, Stream, sending

if TYPE_CHECKING:
    from pathlib import Path

    from transforms.sources.kafka.embedded import EmbeddedBroker


def get(url: str) -> tuple[int, str]:
    """Ask once."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:  # noqa: S310 - our own
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_collections_are_served_until_a_signal_comes(tmp_path: Path) -> None:
    """All that lie in a directory."""
    for name in ("a", "b"):
        collector = Collector(LocalStorage(str(tmp_path / name)))
        collector.collect(message(0), boundary="10:31:00")
    words = [sys.executable, "-m", "pipeline", "serve", str(tmp_path), "--http=0"]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True) as serving:
        assert serving.stderr is not None
        line = serving.stderr.readline()
        found = re.fullmatch(rf"serving {tmp_path} at (http://127\.0\.0\.1:\d+/)\n", line)
        assert found is not None, line
        assert get(f"{found[1]}ready") == (200, "ok\n")
        shown = json.loads(get(f"{found[1]}status.json")[1])
        assert [each["name"] for each in shown["collections"]] == ["a", "b"]
        serving.send_signal(signal.SIGTERM)
        assert serving.wait(20) == 0


def test_a_file_is_not_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No collection will ever be in it; a directory may be made later."""
    path = tmp_path / "file"
    path.touch()
    assert main(["serve", str(path), "--http=0"]) == 2
    told = f"error: {path} is no directory; give a collection, or the directory that collections "
    assert capsys.readouterr().err == f"{told}lie in\n"


def test_a_collector_serves_how_it_goes(embedded: EmbeddedBroker, tmp_path: Path) -> None:
    """What it commits is in its metrics at once; its exit takes no longer."""
    stream = Stream(embedded)
    stream.send(*(sending(value=number) for number in range(50)))
    flags = ("--http=0", "--interval=1s", "--grace=0s")
    with CollectorProcess([stream], tmp_path, *flags) as collecting:
        url = collecting.wait_for("serving how it goes at ").split()[-1]
        deadline = time.monotonic() + 30
        rows = f'batch_collection_rows_total{{topic="{stream.name}"}} 50.0'
        while rows not in (text := get(f"{url}metrics")[1]):
            assert time.monotonic() < deadline, text
            time.sleep(0.1)
        assert get(f"{url}ready") == (200, "ok\n")
        assert "batch_collection_cycle_seconds_count" in text
        assert json.loads(get(f"{url}status.json")[1])["collections"][0]["lag"] == 0
        collecting.send(signal.SIGTERM)
        assert collecting.end() == 0


@pytest.mark.parametrize("text", [" ", "a", "host:", "host:123456", "70000", "a:b:1", "http://h:1"])
def test_an_address_is_checked(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is served."""
    assert main(["serve", "collected", f"--http={text}"]) == 2
    told = f"error: --http must be HOST:PORT or a port, as 127.0.0.1:8080, got {text!r}\n"
    assert capsys.readouterr().err == told


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("8080", ("127.0.0.1", 8080)),
        (":8080", ("127.0.0.1", 8080)),
        ("0.0.0.0:80", ("0.0.0.0", 80)),  # noqa: S104 - asked for
        ("[::1]:80", ("::1", 80)),
        ("name.example:80", ("name.example", 80)),
    ],
)
def test_a_port_alone_is_of_this_machine(text: str, address: tuple[str, int]) -> None:
    """Who wants others to ask says so."""
    parser = Parser()
    configure(parser)
    words = ["--bootstrap_servers=a:1", "--topics=a", "--output=o", f"--http={text}"]
    args, _, _ = parser.read(words)
    assert check(args).http == address
    args, _, _ = parser.read([*words, "--runner=PrismRunner"])
    with pytest.raises(CollectionError, match="run batch-collection serve --http=HOST:PORT beside"):
        check(args)
