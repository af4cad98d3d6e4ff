"""docs/announcing.md: what it shows is so."""

from __future__ import annotations

import ast
import json
import re
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from batch_collection.paths import manifest_path
from batch_collection.storage.local import LocalStorage
from pipeline import cli
from pipeline.announcing.contract import Announcement
from pipeline.announcing.webhook import parsed_secret, signed
from pipeline.commands import announce, wait
from pipeline.options.flags import Parser
from tests.builders import Collector, at, message

if TYPE_CHECKING:
    from collections.abc import Callable

PAGE = (Path(__file__).parent.parent / "docs" / "announcing.md").read_text(encoding="utf-8")
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"  # noqa: S105 - an example


def blocks(kind: str) -> list[str]:
    """Return the page's blocks of a language."""
    return re.findall(rf"(?ms)^```{kind}\n(.*?)^```$", PAGE)


def shape(value: Any) -> Any:
    """Return names and types."""
    if isinstance(value, dict):
        return {name: shape(each) for name, each in value.items()}
    return type(value)


def test_the_event_is_what_is_announced(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Field by field, of a late pane; all that names a window agrees."""
    collector = Collector(LocalStorage(str(tmp_path / "sensor")))
    collector.collect(message(0), boundary="10:31:00")
    collector.collect(message(1, "10:30:10"), boundary="10:36:00")
    assert cli.main(["announce", str(tmp_path / "sensor"), "--to=command:cat", "--once"]) == 0
    events = [json.loads(line) for line in capfd.readouterr().out.splitlines() if line[0] == "{"]
    (shown,) = map(json.loads, blocks("json"))
    assert shape(shown) == shape(events[1])
    assert list(shown) == list(events[1])
    for each in (shown, events[1]):
        assert each["subject"] == manifest_path(at("10:30:00"), each["data"]["revision"])
        assert f"windows/{each['id'].partition('-')[2]}.json" == each["subject"]
    assert shown["data"] == events[1]["data"] | {"rows": 1003, "cycle": 3}


@pytest.mark.parametrize(("name", "command"), [("announce", announce), ("wait", wait)])
def test_commands_have_flags_that_are_there(name: str, command: Any) -> None:
    """Those of the schedulers, too."""
    text = "".join([*blocks("sh"), *blocks("python")]).replace("$(date -u", "(date -u")
    parser = Parser()
    command.configure(parser)
    called = re.findall(rf"batch-collection {name} ([^\n&]*)", "".join(blocks("sh")))
    assert called
    for words in called:
        _, unknown, errors = parser.read(shlex.split(words))
        assert (unknown, errors) == ([], []), words
    flags = set(re.findall(r"--[a-z_]+", text)) - {"--incremental"}
    known = Parser()
    announce.configure(known)
    both = {*known.flags(), *parser.flags(), "--window", "--closed_through", "--timeout"}
    assert flags - both == set()


def test_programs_are_python() -> None:
    """Those for libraries that are not here as well."""
    for program in blocks("python"):
        ast.parse(program)


def test_the_receiver_tells_what_is_genuine() -> None:
    """Ours and fresh, and nothing else."""
    names: dict[str, Callable[..., bool]] = {}
    exec(blocks("python")[0], names)  # noqa: S102 - the page's own
    body, now = Announcement("an-id", {"id": "an-id"}).body, int(time.time())
    headers = signed("an-id", now, body, parsed_secret(SECRET))
    is_genuine = names["is_genuine"]
    assert is_genuine(headers, body, SECRET)
    assert not is_genuine(headers, body + b" ", SECRET)
    old = signed("an-id", now - 1_000, body, parsed_secret(SECRET))
    assert not is_genuine(old, body, SECRET)
