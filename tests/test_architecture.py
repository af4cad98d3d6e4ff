"""The rules that no linter knows: who imports whom, what files are called, what is pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
ROOMS = ("batch_collection", "transforms", "pipeline")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
FORBIDDEN: dict[str, set[str]] = {
    "batch_collection": {"transforms", "pipeline", "apache_beam", "confluent_kafka"},
    "transforms": {"pipeline"},
    "pipeline": set(),
}
FRAMEWORKS = {"tensorflow": "requirements-training.txt", "torch": "requirements-torch.txt"}
VAGUE = re.compile(r"(^|_)(utils?|helpers?|managers?|common|misc)(_|$)")


def name_of(path: Path) -> str:
    """Return a file's path as it stands in the project."""
    return path.relative_to(ROOT).as_posix()


def imported(path: Path) -> set[str]:
    """Return the top-level names that a module imports, wherever in it."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name_of(path)}:{node.lineno}: write imports in full"
            names.add((node.module or "").partition(".")[0])
    return names


def assigned(tree: ast.Module, name: str) -> ast.expr | None:
    """Return what a module assigns to a name."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == name:
            return node.value
    return None


def in_setup(name: str) -> Any:
    """Return a constant of setup.py."""
    found = assigned(ast.parse((ROOT / "setup.py").read_text(encoding="utf-8")), name)
    assert found is not None
    return ast.literal_eval(found)


def pins(name: str) -> list[Requirement]:
    """Return the requirements of a file, without those it includes."""
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and line[0] not in "#-"]


def assert_within(found: list[Requirement], asked: list[str]) -> None:
    """See that exact versions of the very packages asked for lie within what is asked."""
    bounds = {canonicalize_name(each.name): each.specifier for each in map(Requirement, asked)}
    assert {canonicalize_name(pin.name) for pin in found} == bounds.keys()
    for pin in found:
        (exact,) = pin.specifier
        assert exact.operator == "==", f"{pin} is no pin"
        assert exact.version in bounds[canonicalize_name(pin.name)], f"{pin} is out of bounds"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_go_one_way(path: Path) -> None:
    """The last room, batch_collection, knows neither the others nor Beam nor Kafka."""
    room = path.relative_to(ROOT).parts[0]

    assert imported(path) & FORBIDDEN[room] == set()


def test_reading_a_collection_loads_neither_beam_nor_kafka() -> None:
    """A trainer's process stays small: not even another import brings them in."""
    code = (
        "import sys, batch_collection; "
        "print([name for name in ('apache_beam', 'confluent_kafka') if name in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_every_module_says_what_it_is_and_what_it_offers(path: Path) -> None:
    """A docstring, and a sorted ``__all__``: constants, classes, functions."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "it has no docstring"
    if path.name == "__main__.py" or (path.name == "__init__.py" and len(tree.body) == 1):
        return

    listed = assigned(tree, "__all__")

    assert listed is not None, "it has no __all__"
    names = ast.literal_eval(listed)
    kinds = [(not name.isupper(), not name[0].isupper(), name) for name in names]
    assert kinds == sorted(kinds)


def test_no_file_has_a_name_that_says_nothing() -> None:
    """A file is named after its one idea."""
    folders = [ROOT / name for name in (*ROOMS, "tests")]
    paths = [path for folder in folders for path in folder.rglob("*")] + list(ROOT.glob("*.py"))

    assert [name_of(path) for path in paths if VAGUE.search(path.stem)] == []


def test_pins_are_what_the_package_asks_for() -> None:
    """Each direct dependency is pinned within its bounds, and nothing else is."""
    assert_within(pins("requirements.txt"), in_setup("REQUIREMENTS"))


def test_pins_for_development_are_what_the_extras_ask_for() -> None:
    """The same for what tests and checks need."""
    extras = {name: each for name, each in in_setup("EXTRAS").items() if name not in FRAMEWORKS}
    every = [each for extra in extras.values() for each in extra]
    own = [each for each in every if not each.startswith("batch-collection[")]

    assert_within(pins("requirements-dev.txt"), own)


@pytest.mark.parametrize(("extra", "file"), FRAMEWORKS.items())
def test_frameworks_are_pinned_apart(extra: str, file: str) -> None:
    """They are large; tests take TensorFlow's build for CPUs, which has another name."""
    (asked,) = in_setup("EXTRAS")[extra]

    assert_within(pins(file), [asked.replace("tensorflow", "tensorflow-cpu")])
