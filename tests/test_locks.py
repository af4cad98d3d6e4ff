"""The locks in requirements/: they hold what the requirements say, and all that lies below it."""

from __future__ import annotations

import re
import sys
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.test_architecture import in_setup, pins

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
RUNNING = f"{sys.version_info.major}.{sys.version_info.minor}"
# which lock has what a file pins; those before it in the chain are installed with it
FILES = {
    "requirements.txt": "",
    "requirements-dev.txt": "-dev",
    "requirements-training.txt": "-training",
    "requirements-torch.txt": "-torch",
}
LOCKS = sorted((ROOT / "requirements").glob("*.txt"))
HASHED = r"^\S+==.*\n(?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+"
PLATFORMS = ({"sys_platform": "linux"}, {"sys_platform": "darwin"})


def lock_of(python: str, part: str) -> Path:
    """Return a lock's path."""
    return ROOT / "requirements" / f"py{python.replace('.', '')}{part}.txt"


def locked(path: Path) -> dict[str, Requirement]:
    """Return what is installed by a lock and those that it is on top of, by name."""
    text = path.read_text(encoding="utf-8")
    found: dict[str, Requirement] = {}
    for name in re.findall(r"^-r (.+)$", text, re.MULTILINE):
        found |= locked(path.parent / name)
    for line in re.findall(r"^([^\s#-].*?) *\\$", text, re.MULTILINE):
        pin = Requirement(line)
        assert canonicalize_name(pin.name) not in found, f"{pin.name} is locked twice"
        found[canonicalize_name(pin.name)] = pin
    return found


def holds(asked: Requirement, python: str, platform: dict[str, str]) -> bool:
    """Tell whether something is asked for under a Python on a platform."""
    return asked.marker is None or asked.marker.evaluate({"python_version": python, **platform})


def exact(pin: Requirement) -> str:
    """Return the one version that a pin allows."""
    (only,) = pin.specifier
    assert only.operator == "=="
    return only.version


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("file", FILES)
def test_a_lock_holds_what_the_requirements_pin(file: str, python: str) -> None:
    """On each platform in the very version; a pin that was moved asks for `make lock`."""
    found = locked(lock_of(python, FILES[file]))
    for platform in PLATFORMS:
        for asked in pins(file):
            if holds(asked, python, platform):
                pin = found[canonicalize_name(asked.name)]
                assert exact(pin) == exact(asked), "run `make lock`"
                environment = {"python_full_version": f"{python}.0", **platform}
                assert pin.marker is None or pin.marker.evaluate(environment)


@pytest.mark.parametrize("python", PYTHONS)
def test_the_first_lock_is_enough_for_the_package_and_dataflow(python: str) -> None:
    """The Flex Template's image is made from it alone."""
    found = locked(lock_of(python, ""))
    for text in (*in_setup("REQUIREMENTS"), *in_setup("EXTRAS")["dataflow"]):
        asked = Requirement(text)
        assert exact(found[canonicalize_name(asked.name)]) in asked.specifier


@pytest.mark.parametrize("path", LOCKS, ids=lambda path: path.name)
def test_all_that_is_locked_has_hashes(path: Path) -> None:
    """Else pip refuses the whole; only SHA-256 ones."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(HASHED, text, re.MULTILINE)
    assert len(blocks) == len(re.findall(r"^[^#\s-]", text, re.MULTILINE))


@pytest.mark.skipif(RUNNING not in PYTHONS, reason=f"Python {RUNNING} has no lock")
def test_what_is_installed_asks_for_nothing_that_is_not_locked() -> None:
    """A new version of a pinned package may ask for others: then `make lock` was forgotten."""
    found = locked(lock_of(RUNNING, "-dev"))
    for name, pin in found.items():
        try:
            if version(name) != exact(pin):
                continue  # someone's own set-up
        except PackageNotFoundError:
            continue  # of another platform
        for asked in map(Requirement, requires(name) or []):
            if asked.marker is None or asked.marker.evaluate({"extra": ""}):
                below = found[canonicalize_name(asked.name)]
                assert asked.specifier.contains(exact(below), prereleases=True)


def test_each_python_is_locked_and_no_other() -> None:
    """The oldest is the one that setup.py asks for."""
    names = {path.name for path in LOCKS}
    assert names == {lock_of(each, part).name for each in PYTHONS for part in FILES.values()}
    assert f'python_requires=">={PYTHONS[0]}"' in (ROOT / "setup.py").read_text(encoding="utf-8")
