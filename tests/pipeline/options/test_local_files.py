"""Files and folders that flags name: what can't be read or written is one line, with the flag."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from batch_collection.errors import CollectionError
from pipeline.cli import main
from pipeline.options.flags import properties
from pipeline.options.local_files import obstacle, read_text

KAFKA = ("--bootstrap_servers=localhost:9092", "--topics=a")
READING = {
    "--schema": ["collect", *KAFKA, "--output=out"],
    "--config": ["collect"],
    "--consumer_config": ["collect", *KAFKA, "--output=out"],
    "--announce_secret_file": ["collect", *KAFKA, "--output=out", "--announce=https://a.b/c"],
    "--secret_file": ["announce", "collected", "--to=https://a.b/c"],
}
"""A command for each flag that names a file to read."""
NAMING = {
    **READING,
    "--output": ["collect", *KAFKA],
    "--export": ["schema", "collected"],
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("flag", READING)
@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing", "No such file or directory"),
        ("folder", "Is a directory"),
        ("file/below", "Not a directory"),
        ("link", "Too many levels of symbolic links"),
        ("utf16", "it is no UTF-8 from byte 0 on; save it as UTF-8"),
        ("/dev/zero", "it is larger than 16 MiB; name another file"),
    ],
)
def test_what_can_not_be_read_is_told_with_its_flag(
    flag: str, name: str, reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """In one line, before anything begins."""
    Path("folder").mkdir()
    Path("file").touch()
    Path("link").symlink_to("link")
    Path("utf16").write_bytes("a: b".encode("utf-16"))

    assert main([*READING[flag], f"{flag}={name}"]) == 2

    assert capsys.readouterr() == ("", f"error: cannot read {flag}={name}: {reason}\n")


@pytest.mark.parametrize("flag", NAMING)
def test_the_folder_of_a_user_whom_nobody_knows_is_no_traceback(
    flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Python has no home for it."""
    reason = "no such user as ~nobody-here; give the whole path"

    assert main([*NAMING[flag], f"{flag}=~nobody-here/x.json"]) == 2

    assert f"error: {flag}=~nobody-here/x.json: {reason}\n" in capsys.readouterr().err
    assert main(["status", "~nobody-here/x.json"]) == 2
    assert capsys.readouterr().err == f"error: {reason}\n"


def test_a_text_may_begin_with_the_mark_of_windows() -> None:
    """The first property had a name that no client knows."""
    Path("marked").write_bytes(b"\xef\xbb\xbfa=b\r\n")

    assert properties([], "marked") == {"a": "b"}


def test_a_text_may_come_from_a_pipe() -> None:
    """As ``<(...)`` of a shell is one, for what is kept in a vault."""
    end, begin = os.pipe()
    os.write(begin, b"a=b\n")
    os.close(begin)

    assert read_text(f"/dev/fd/{end}", "--x") == "a=b\n"
    os.close(end)


def test_a_schema_that_is_none_is_told_with_file_line_and_column(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """And with what is expected there."""
    Path("types.json").write_text('{"a": "double",\n "b": }')

    assert main([*READING["--schema"], "--schema=types.json"]) == 2

    assert capsys.readouterr().err == (
        "error: --schema=types.json: no JSON in line 2, column 7: expecting value; "
        'write types by columns, as {"value": "double"}, or YAML in a file named .yaml\n'
    )


def test_a_folder_that_is_there_or_can_be_made_has_no_obstacle(tmp_path: Path) -> None:
    """A link that leads nowhere is no folder, and none can be made of it."""
    Path("link").symlink_to("missing")

    assert obstacle(tmp_path) is None
    assert obstacle(tmp_path / "a/b/c") is None
    assert obstacle(tmp_path / "link/a") == f"{tmp_path}/link is no directory"


def test_a_mistake_of_a_url_is_raised() -> None:
    """It would be a folder of that name."""
    with pytest.raises(CollectionError, match=r"^--x=gs://a is a URL"):
        read_text("gs://a", "--x")
