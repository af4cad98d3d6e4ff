"""What tests need is made once, before them, and what can't be made is skipped with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.services.made import Made, UnavailableError, run
from tests.services.needed import fixtures_of

ROOT = Path(__file__).parent.parent
A_GO_THAT_FAILS = """#!/bin/sh
echo again >> "$XDG_CACHE_HOME/tries"
echo "no network" >&2
exit 1
"""


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give these tests a cache of their own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache"


def something(tries: list[Path], *, fails: bool = False, name: str = "it-1") -> Made:
    """Return something that is made of one file, or can't be."""

    def make(folder: Path) -> Path:
        tries.append(folder)
        (folder / "it").write_text("made")
        if fails:
            run(["/bin/sh", "-c", "echo no network >&2; exit 1"], folder)
        return folder / "it"

    return Made(name, "it", "a second", (), make)


@pytest.mark.usefixtures("cache")
def test_it_is_made_once_and_said_once() -> None:
    """Afterwards it is there at once; the folder it was made in is gone."""
    tries: list[Path] = []
    said: list[str] = []
    made = something(tries)

    assert made.get(said.append).read_text() == "made"
    assert made.get(said.append).read_text() == "made"

    assert said == ["building it, once: a second"]
    assert len(tries) == 1
    assert not tries[0].exists()


@pytest.mark.usefixtures("cache")
def test_of_two_at_once_one_makes_it() -> None:
    """The other one waits until it is there."""
    began, go_on = threading.Event(), threading.Event()
    tries: list[Path] = []

    def make(folder: Path) -> Path:
        tries.append(folder)
        (folder / "it").write_text("made")
        began.set()
        assert go_on.wait(60)
        return folder / "it"

    made = Made("it-1", "it", "a second", (), make)
    found: list[Path] = []
    threads = [threading.Thread(target=lambda: found.append(made.get())) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert began.wait(60)
    go_on.set()
    for thread in threads:
        thread.join()

    assert found == [made.path, made.path]
    assert len(tries) == 1


@pytest.mark.usefixtures("cache")
def test_what_could_not_be_made_says_why_and_is_not_tried_by_each_test() -> None:
    """Until somebody wants it tried again; nothing half made is left."""
    tries: list[Path] = []
    made = something(tries, fails=True)

    with pytest.raises(UnavailableError, match=r"^no it: /bin/sh failed: no network$"):
        made.get()
    with pytest.raises(UnavailableError, match=r"no network; `make test` or .* tries again$"):
        made.get()
    assert len(tries) == 1
    assert not made.path.exists()

    made.forget_failure()
    with pytest.raises(UnavailableError, match=r"failed: no network$"):
        made.get()
    assert len(tries) == 2


@pytest.mark.usefixtures("cache")
def test_a_program_that_is_missing_is_named() -> None:
    """Nothing is tried then, and once it is installed all is well."""
    made = Made("it-1", "it", "a second", ("no-such-program",), lambda folder: folder)

    with pytest.raises(UnavailableError, match=r"^no it: no-such-program is not installed$"):
        made.get()


def test_what_no_run_has_used_for_long_is_removed(cache: Path) -> None:
    """Such as an older version, when a newer one is made."""
    old, used = something([], name="it-1"), something([], name="it-2")
    old.get()
    used.get()
    for each in (old, used):
        os.utime(each.path, (0, time.time() - 365 * 24 * 3600))
    used.get()

    something([], name="it-3").get()

    names = {path.name for path in (cache / "batch-collection-tests").iterdir()}
    assert {"it-2", "it-3"} <= names
    assert "it-1" not in names


def test_a_build_that_fails_is_tried_once_and_its_tests_are_skipped_with_the_reason(
    cache: Path, tmp_path: Path
) -> None:
    """It is tried when the tests are chosen, however many of them there are."""
    cache.mkdir()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "go").write_text(A_GO_THAT_FAILS)
    (programs / "go").chmod(0o755)
    chosen = ["tests/batch_collection/storage/test_contract.py", "-k", "newest", "-m", "not slow"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-rs", "-p", "no:cacheprovider", *chosen],
        cwd=ROOT,
        env={**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout
    lines = done.stdout.splitlines()
    assert "building newest fake Cloud Storage, once: about a minute" in lines
    reason = "no newest fake Cloud Storage: go failed: no network"
    assert f"{reason}; what needs it is skipped" in lines
    assert any(line.startswith("SKIPPED") and reason in line for line in lines)
    assert "passed" not in lines[-1]
    assert (cache / "tries").read_text() == "again\n"


@pytest.mark.parametrize("new_uri", ["newest"], indirect=True)
def test_tests_of_one_service_share_its_process(
    request: pytest.FixtureRequest, new_uri: object
) -> None:
    """A service that a parameter chooses counts as well."""
    del new_uri
    assert "newest_gcs" in fixtures_of(request.node)
