"""``expire``: what it prints, and its exit codes."""

from __future__ import annotations

import json
import os
import re
import sys
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import batch_collection
from batch_collection.log.expiry import first_cycle, newest_expiry
from batch_collection.publishing.expire import expire
from batch_collection.storage.local import LocalStorage
from pipeline.cli import main
from pipeline.commands import expire as expire_command
from pipeline.commands.expire import configure, run
from pipeline.options.flags import Parser
from tests.builders import Collector, at, dead_letter, message

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batch_collection.storage.contract import Storage


def filled(storage: Storage) -> Collector:
    """Collect three closed windows of a row each, and a dead letter."""
    collector = Collector(storage)
    for minute in (30, 31, 32):
        collector.collect(message(minute, f"10:{minute}:10"), boundary=f"10:{minute + 1}:00")
    collector.collect(dead_letter(33), boundary="10:34:00")
    return collector


@pytest.fixture
def collector(storage: Storage) -> Collector:
    """Return the same, on each storage."""
    return filled(storage)


def test_it_says_what_would_go_and_what_went(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before it is done, after it, and a second time."""
    words = ["expire", collector.storage.uri, "--before=2026-11-22T10:32:30Z"]
    counts = r"2026-11-22 10:32:00 UTC: 2 windows, 2 files \(.* kB\), 2 rows, 0 dead letters"
    assert main([*words, "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert re.fullmatch(
        rf"would expire windows before {counts}\n"
        r"3 entries would be folded into expired/0000000000\.json, 2 left\n",
        said,
    )
    assert newest_expiry(collector.storage) is None
    assert main(words) == 0
    done = capsys.readouterr().out
    assert re.fullmatch(
        rf"expired windows before {counts}\n"
        r"3 entries folded into expired/0000000000\.json, 2 left\n",
        done,
    )
    assert main(words) == 0
    assert capsys.readouterr().out == "nothing to expire before 2026-11-22 10:32:00 UTC\n"
    assert first_cycle(collector.storage) == 3


def test_what_went_is_printed_as_json(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before, after, and where nothing is left to go; one object each time."""
    words = ["expire", collector.storage.uri, "--before=2026-11-22T10:32:30Z", "--json"]
    found = []
    for more in (["--dry_run"], [], []):
        assert main([*words, *more]) == 0
        found.append(json.loads(capsys.readouterr().out))
    size = found[0].pop("bytes")
    assert size > 0
    assert found[0] == {
        "before": "2026-11-22T10:32:00Z",
        "windows": 2,
        "files": 2,
        "rows": 2,
        "dead_letters": 0,
        "entries": 3,
        "entries_left": 2,
        "stub": "expired/0000000000.json",
        "dry_run": True,
    }
    assert found[1] == {**found[0], "bytes": size, "dry_run": False}
    assert (found[2]["windows"], found[2]["stub"]) == (0, None)


def test_status_and_audit_say_what_is_expired(
    collector: Collector, capsys: pytest.CaptureFixture[str]
) -> None:
    """Status beside its totals, the audit behind its verdict."""
    expire(collector.storage, at("10:32:00"), at("11:00:00"))
    assert main(["status", collector.storage.uri]) == 0
    expected = (
        r"  expired +2 in 2 files, .* kB, of windows before 2026-11-22 10:32:00 UTC; "
        r"3 entries, 0 dead letters"
    )
    assert re.search(expected, capsys.readouterr().out)
    assert main(["audit", collector.storage.uri]) == 0
    out = capsys.readouterr().out
    assert out.endswith("every offset in one place; expired: 3 entries, 2 files, 2 rows\n")


def test_a_duration_counts_back_from_now_as_far_as_windows_are_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A collector may have stopped for longer; what is open stays, what is gone is no error."""
    filled(LocalStorage(str(tmp_path)))
    parser = Parser()
    configure(parser)
    options = expire_command.check(parser.parse_args([str(tmp_path), "--before=1d12h"]))
    assert (options.now - options.before, options.is_exact) == (timedelta(hours=36), False)

    assert run(options._replace(before=at("23:00:00"))) == 0
    assert "expired windows before 2026-11-22 10:33:00 UTC: 3 win" in capsys.readouterr().out
    assert run(options._replace(before=at("10:31:30"))) == 0
    assert capsys.readouterr().out == "nothing to expire before 2026-11-22 10:31:00 UTC\n"


@pytest.mark.parametrize(
    ("flags", "expected"),
    [
        ([], "--before is missing; give an instant, or a duration back from now"),
        (
            ["--before=soon"],
            "--before must be an instant or a duration, got 'soon'; write it as 2026-11-22T10:30:0",
        ),
        (["--before=2026-11-22T10:34:00Z"], "before=2026-11-22T10:34:00Z is too late: windows up"),
        (
            ["--before=9999999d"],
            "--before is too long a duration: '9999999d'; write at most 1000y",
        ),
        (
            ["--before=999999999999y"],
            "--before is too long a duration: '999999999999y'; write at most 1000y",
        ),
    ],
)
def test_a_wrong_instant_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], flags: list[str], expected: str
) -> None:
    """And exit code 2; nothing is changed."""
    filled(LocalStorage(str(tmp_path)))
    before = sorted(tmp_path.rglob("*"))

    assert main(["expire", str(tmp_path), *flags]) == 2
    out, error = capsys.readouterr()
    assert error.startswith(f"error: {expected}")
    assert (out, error.count("\n")) == ("", 1)
    assert sorted(tmp_path.rglob("*")) == before


def test_follow_says_what_was_expired_before_it_was_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line and exit code 2, until it is told to go on."""
    storage = LocalStorage(str(tmp_path))
    filled(storage)
    words = ["follow", str(tmp_path), "--cursor=a", "--once"]
    next(batch_collection.open(storage).follow("a"))  # it has begun, and done nothing
    expire(storage, at("10:32:00"), at("11:00:00"))

    assert main(words) == 2
    told = f"error: cursor {tmp_path}/cursors/a.json has not read all of"
    assert capsys.readouterr().err.startswith(told)
    assert main([*words, "--on-expired=skip"]) == 0
    assert capsys.readouterr().out.startswith("0000000003-0000  2026-11-22 10:32:00")
    assert main([*words, "--on-expired=no"]) == 2


def test_no_collection_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is made of it."""
    assert main(["expire", str(tmp_path / "x"), "--before=30d"]) == 2
    assert capsys.readouterr().err.startswith(f"error: no collection in {tmp_path / 'x'}")
    assert not (tmp_path / "x").exists()


def test_a_collection_that_cannot_be_written_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file where the stubs should lie stands for a directory that others own."""
    filled(LocalStorage(str(tmp_path)))
    Path(tmp_path, "expired").write_bytes(b"")
    before = sorted(tmp_path.rglob("*"))

    assert main(["expire", str(tmp_path), "--before=2026-11-22T10:32:00Z"]) == 2
    assert capsys.readouterr().err.startswith("error: cannot write expired/0000000000.json: ")
    assert sorted(tmp_path.rglob("*")) == before


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], object]]:
    """Return what lets standard input and error be a terminal on which an answer was typed."""
    ours, theirs = os.openpty()
    with os.fdopen(theirs, encoding="utf-8") as terminal, os.fdopen(ours, "wb", 0) as keys:

        def typed(text: str) -> None:
            monkeypatch.setattr(sys, "stdin", terminal)
            monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
            keys.write(text.encode())

        yield typed


@pytest.mark.parametrize(
    ("typed", "code"),
    [("y\n", 0), ("YES\n", 0), ("n\n", 1), ("\n", 1), ("yesterday\n", 1), ("\x04", 1)],
)
def test_a_terminal_is_asked_first(
    tmp_path: Path,
    answer: Callable[[str], object],
    capsys: pytest.CaptureFixture[str],
    typed: str,
    code: int,
) -> None:
    """What would go is shown; only a yes takes it away."""
    storage = filled(LocalStorage(str(tmp_path))).storage
    answer(typed)
    assert main(["expire", str(tmp_path), "--before=2026-11-22T10:32:00Z"]) == code
    out, err = capsys.readouterr()
    assert err.startswith("would expire windows before 2026-11-22 10:32:00 UTC: 2 windows, 2 files")
    if code == 0:
        assert newest_expiry(storage) is not None
        assert out.startswith("expired windows before ")
    else:
        assert newest_expiry(storage) is None
        assert out == ""
        assert err.endswith("delete them for good? [y/N] nothing was deleted\n")


@pytest.mark.parametrize("flag", ["--yes", "--dry_run", "--before=1y"])
def test_nobody_is_asked_without_need(
    tmp_path: Path,
    answer: Callable[[str], object],
    capsys: pytest.CaptureFixture[str],
    flag: str,
) -> None:
    """Who has said yes already, or takes nothing away."""
    filled(LocalStorage(str(tmp_path)))
    answer("n\n")
    assert main(["expire", str(tmp_path), "--before=2026-11-22T10:32:00Z", flag]) == 0
    assert "delete them" not in capsys.readouterr().err
