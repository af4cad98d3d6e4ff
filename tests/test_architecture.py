"""The rules that no linter knows: who imports whom, what files are called, what is pinned."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from graphlib import TopologicalSorter
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
ROOMS = ("batch_collection", "transforms", "pipeline")
MODULES = sorted(path for room in ROOMS for path in (ROOT / room).rglob("*.py"))
STEPS = sorted((ROOT / "transforms").glob("*.py"))
BASE = {"errors", "windows", "paths", "parallel"}
MAY_IMPORT: dict[str, set[str]] = {
    # what trainers import: each room sees those above it
    "batch_collection/counted": set(),
    "batch_collection/errors": set(),
    "batch_collection/instants": set(),
    "batch_collection/parallel": set(),
    "batch_collection/field_path": {"errors"},
    "batch_collection/given": {"errors"},
    "batch_collection/loading": {"errors"},
    "batch_collection/windows": {"instants"},
    "batch_collection/paths": {"windows"},
    "batch_collection/storage": BASE,
    "batch_collection/schema": {"errors", "given", "instants", "windows"},
    "batch_collection/formats": {"errors", "windows", "schema"},
    "batch_collection/log": {*BASE, "counted", "given", "storage", "schema", "formats"},
    "batch_collection/checkpoints": {*BASE, "storage", "log"},
    "batch_collection/publishing": {*BASE, "storage", "log", "checkpoints"},
    "batch_collection/reading": {
        *BASE,
        "field_path",
        "given",
        "storage",
        "schema",
        "formats",
        "log",
    },
    "batch_collection/training": {
        *BASE,
        "field_path",
        "given",
        "loading",
        "schema",
        "log",
        "reading",
    },
    "batch_collection/announcing": {*BASE, "storage", "log", "publishing"},
    "batch_collection/view_spec": {"errors", "windows", "log", "checkpoints", "reading"},
    "batch_collection/view_html": {"errors", "windows", "log"},
    "batch_collection/collection": {
        *BASE,
        "counted",
        "field_path",
        "given",
        "loading",
        "storage",
        "schema",
        "formats",
        "log",
        "checkpoints",
        "reading",
        "training",
        "view_html",
        "view_spec",
    },
    "batch_collection/exporting": {*BASE, "storage", "schema", "formats", "collection"},
    "batch_collection/inspection": {
        *BASE,
        "storage",
        "schema",
        "formats",
        "log",
        "checkpoints",
        "publishing",
    },
    "batch_collection/__init__": {"errors", "collection", "log", "training"},
    # the steps and what they are made of
    "transforms/process": {"batch_collection/errors", "batch_collection/log"},
    "transforms/sources": {
        "batch_collection/errors",
        "batch_collection/log",
        "batch_collection/windows",
    },
    "transforms/sources/kafka": {
        "batch_collection/errors",
        "batch_collection/log",
        "batch_collection/windows",
        "batch_collection/storage",
        "process",
        "sources",
    },
    "transforms/sources/pubsub": {
        "batch_collection/errors",
        "batch_collection/loading",
        "batch_collection/log",
        "batch_collection/paths",
        "batch_collection/storage",
        "batch_collection/windows",
        "process",
        "sources",
    },
    "transforms/elements": {
        "batch_collection/errors",
        "batch_collection/log",
        "batch_collection/schema",
        "batch_collection/windows",
        "process",
        "sources",
    },
    "transforms/decoding": {
        "batch_collection/errors",
        "batch_collection/field_path",
        "batch_collection/formats",
        "batch_collection/instants",
        "batch_collection/loading",
        "batch_collection/log",
        "batch_collection/schema",
        "batch_collection/windows",
        "elements",
        "process",
        "sources",
    },
    "transforms/cutting": {"batch_collection", "elements", "sources"},
    "transforms/writing": {
        "batch_collection",
        "process",
        "elements",
        "sources",
        "decoding",
        "cutting",
    },
    "transforms/committing": {
        "batch_collection",
        "process",
        "elements",
        "sources",
        "decoding",
        "cutting",
    },
    "transforms": {
        "batch_collection",
        "process",
        "sources",
        "sources/kafka",
        "sources/pubsub",
        "elements",
        "decoding",
        "cutting",
        "writing",
        "committing",
    },
    # the program
    "pipeline/graph": {"batch_collection", "transforms"},
    "pipeline/announcing": {"batch_collection", "transforms"},
    "pipeline/serving": {"batch_collection", "transforms", "planning"},
    "pipeline/options": {"batch_collection", "transforms", "announcing"},
    "pipeline/planning": {"batch_collection", "transforms", "graph", "options"},
    "pipeline/showing": {"batch_collection", "transforms", "planning"},
    "pipeline/running": {
        "batch_collection",
        "transforms",
        "graph",
        "announcing",
        "options",
        "planning",
        "showing",
    },
    "pipeline/commands": {
        "batch_collection",
        "transforms",
        "graph",
        "announcing",
        "options",
        "planning",
        "showing",
        "running",
        "serving",
    },
    "pipeline/__init__": set(),
    "pipeline/beam_yaml": {"batch_collection", "transforms"},
    "pipeline/cli": {"batch_collection", "options", "showing"},
    "pipeline/__main__": {"cli"},
}
"""What each room, or file that stands alone, may import of the project beside itself.

A name without its floor is on the same one; that of a floor stands for all of it.
"""
MAY_NAME: dict[str, tuple[str, ...]] = {
    "confluent_kafka": ("transforms/sources/kafka",),
    "google": ("batch_collection/storage", "transforms/sources/kafka", "transforms/sources/pubsub"),
    "grpc": ("transforms/sources/pubsub", "pipeline/options", "pipeline/running"),
    "grpc_status": ("transforms/sources/pubsub",),
    "apache_beam": (
        "transforms/elements",
        "transforms/cutting",
        "transforms/committing",
        "transforms",
        "pipeline/graph",
        "pipeline/options",
        "pipeline/running",
    ),
    "orjson": (
        "batch_collection/formats",
        "batch_collection/log",
        "transforms/decoding",
        "transforms/elements",
    ),
    "prometheus_client": ("pipeline/serving",),
    "tensorflow": ("batch_collection/collection", "batch_collection/training"),
    "torch": ("batch_collection/training",),
}
"""Which rooms may name a library that others shall not depend on."""
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


def room_of(module: str) -> str:
    """Return the room of a module; one that stands alone on its floor is a room of its own."""
    path = module.replace(".", "/")
    if path in MAY_IMPORT:  # a file that stands alone, or a room's __init__
        return path
    return path.rpartition("/")[0]


def modules_imported(path: Path) -> set[str]:
    """Return the modules of the project that a file imports, wherever in it."""
    known = {name_of(each).removesuffix(".py").replace("/", ".") for each in MODULES}
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names} & known
        elif isinstance(node, ast.ImportFrom) and node.module:
            of_room = {f"{node.module}.{alias.name}" for alias in node.names} & known
            found |= of_room or {node.module, f"{node.module}.__init__"} & known
    return found


def allowed(room: str) -> set[str]:
    """Return the rooms that a room may import, by their whole names."""
    floor = room.partition("/")[0]
    floors = {name for name in MAY_IMPORT[room] if name in ROOMS}
    rooms = {each for each in MAY_IMPORT if each.partition("/")[0] in floors}
    own = {f"{floor}/{name}" for name in MAY_IMPORT[room] if "/" not in name and name not in ROOMS}
    named = {
        name if name in MAY_IMPORT else f"{floor}/{name}" for name in MAY_IMPORT[room] - floors
    }
    return {room, *rooms, *own, *named, *floors}


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_room_imports_what_lies_below_it(path: Path) -> None:
    """The table is the map: nothing else is imported, not even for types."""
    room = room_of(name_of(path).removesuffix(".py"))

    assert {room_of(each) for each in modules_imported(path)} - allowed(room) == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_no_module_imports_a_command(path: Path) -> None:
    """Not even another command does: cli.py finds them by their names."""
    assert {
        each for each in modules_imported(path) if each.startswith("pipeline.commands.")
    } == set()


def test_the_table_has_no_circle() -> None:
    """So no import has one, among rooms."""
    order = TopologicalSorter({room: allowed(room) - {room} for room in MAY_IMPORT})

    assert set(order.static_order()) >= MAY_IMPORT.keys()


def test_no_files_import_each_other_in_a_circle() -> None:
    """Not within a room, either."""
    order = TopologicalSorter(
        {
            name_of(path).removesuffix(".py").replace("/", "."): modules_imported(path)
            for path in MODULES
        }
    )

    assert list(order.static_order())


@pytest.mark.parametrize("path", STEPS, ids=name_of)
def test_a_step_is_a_transform_and_nothing_else(path: Path) -> None:
    """What it does is in the rooms; beside it stand constants, and what wires it."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    public = {
        node.name: node
        for node in tree.body
        if isinstance(node, ast.ClassDef | ast.FunctionDef) and node.name[0] != "_"
    }
    if path.name == "__init__.py":
        assert public == {}
        return
    ((name, node),) = public.items()

    assert name == path.stem.title().replace("_", "")
    assert isinstance(node, ast.ClassDef)
    assert [ast.unparse(base) for base in node.bases] == ["beam.PTransform"]
    assert {each.partition(".")[2] for each in modules_imported(path)} & {
        other.stem for other in path.parent.glob("*.py")
    } == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_a_library_is_named_in_its_rooms(path: Path) -> None:
    """Who names Kafka's client, Cloud Storage's or Beam is known by its folder."""
    room = room_of(name_of(path).removesuffix(".py"))

    assert {
        name for name in imported(path) & MAY_NAME.keys() if room not in MAY_NAME[name]
    } == set()


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_nothing_is_printed_as_it_is(path: Path) -> None:
    """Only ``lines.py`` prints, and what a console of rich prints is ``shown(...)``."""
    if name_of(path) == "pipeline/showing/lines.py":
        return
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]

    printing = [call for call in calls if re.match(r"([\w.]+\.)?print\(", call)]

    assert [call for call in printing if ".print(shown(" not in call] == []


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_years_have_four_digits_wherever_they_are_written(path: Path) -> None:
    """``%Y`` writes 1 for the year 1 with glibc; ``isoformat`` and Arrow's ``strftime`` do not."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    specs = [ast.unparse(node) for node in nodes if isinstance(node, ast.FormattedValue)]
    calls = [ast.unparse(node) for node in nodes if isinstance(node, ast.Call)]
    written = [call for call in calls if re.match(r"(?!pc\.)[^(]*\.strftime\(", call)]

    assert [each for each in (*specs, *written) if "%Y" in each] == []


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


def test_texts_that_tell_to_install_something_name_what_an_index_has() -> None:
    """This package is on none: who took its name there would be installed."""
    asked = [in_setup("REQUIREMENTS"), *in_setup("EXTRAS").values()]
    ours = {canonicalize_name(Requirement(each).name) for part in asked for each in part}
    known = {*ours, "google-auth", "requests"} - {"batch-collection"}
    told = {
        (name_of(path), package)
        for path in MODULES
        for words in re.findall(r"pip install ([^\n\"`;,)]+)", path.read_text(encoding="utf-8"))
        for package in words.split()
    }
    assert {each for each in told if each[1] not in known} == {
        ("batch_collection/loading.py", "{name}")
    }
    for extra in (
        "duckdb",
        "pandas",
        "polars",
        "tensorflow",
        "torch",
    ):  # what stands for that name is the extra's only package
        assert [Requirement(each).name for each in in_setup("EXTRAS")[extra]] == [extra]
