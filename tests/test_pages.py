"""Pages of docs/ are true: error texts are real, the tutorial runs, tables are not behind."""

from __future__ import annotations

import ast
import re
import shlex
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import batch_collection
from pipeline import cli
from tests.examples.test_deployments import parsed
from tests.guarantees import PAGE, page_with_table

if TYPE_CHECKING:
    from collections.abc import Iterator

    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parent.parent
ROOMS = ("batch_collection", "transforms", "pipeline")
TROUBLES = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
TUTORIAL = (ROOT / "docs" / "tutorial.md").read_text(encoding="utf-8")
GLOSSARY = (ROOT / "docs" / "glossary.md").read_text(encoding="utf-8")
ENDING = {"produce": ["--every=1ms", "--count=40"], "collect": ["--once", "--flush"]}
_ANY = "\N{WHITE SQUARE}"
"""What differs in a text: the value of a field of an f-string."""


@cache
def texts() -> list[str]:
    """Return all texts in the code, with a mark where values are put in."""
    found = []
    for path in (path for room in ROOMS for path in (ROOT / room).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                parts = (
                    str(each.value) if isinstance(each, ast.Constant) else _ANY
                    for each in node.values
                )
                found.append("".join(parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
    return found


def is_said(text: str) -> bool:
    """Tell whether some text in the code has all parts of a quoted one, in their order.

    What the program puts together of two texts may be quoted whole: then each part is in one.
    """
    parts = [part.strip() for part in text.split("...") if re.search(r"\w", part)]
    pattern = re.compile(".*".join(map(re.escape, parts)), re.DOTALL)
    if any(pattern.search(each) for each in texts()):
        return True
    bare = [part.strip(" ;:,").removeprefix("not ") for part in parts]
    return all(any(part in each for each in texts()) for part in bare)


@pytest.mark.parametrize("text", re.findall(r"(?m)^### `(.+)`$", TROUBLES))
def test_an_error_that_is_explained_is_one_that_is_said(text: str) -> None:
    """Word for word but for what differs."""
    assert is_said(text)


def test_a_text_that_nobody_says_would_be_found() -> None:
    """Else the test above could not fail."""
    assert not is_said("no topic=... at the moon")
    assert len(re.findall(r"(?m)^### ", TROUBLES)) >= 20


def test_the_tutorial_runs_as_it_stands(
    embedded: EmbeddedBroker,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Commands and programs in their order, in an empty directory; other tests have a "sensor"."""
    embedded.create_topic("tutorial")  # it makes none for others
    monkeypatch.chdir(tmp_path)
    ran, page = [], TUTORIAL.replace("sensor", "tutorial")
    for kind, block in re.findall(r"(?ms)^```(sh|python)\n(.*?)^```$", page):
        if kind == "python":
            exec(block, {"__name__": "tutorial"})  # noqa: S102 - the page's own
            continue
        for line in block.splitlines():
            here = line.replace("localhost:9092", embedded.bootstrap_servers)
            command, _, file = here.partition(" > ")
            words = shlex.split(command)[1:]
            capsys.readouterr()
            assert cli.main([*words, *ENDING.get(words[0], [])]) == 0, line
            if file:
                Path(file).write_text(capsys.readouterr().out, encoding="utf-8")
            ran.append(words[0])
            assert words[0] != "produce" or "--create_topics" in words  # nobody else has made it
    assert len(ran) >= 7
    assert {"produce", "preview", "validate", "collect", "status", "audit", "follow"} <= set(ran)
    assert Path("collect.yaml").exists()


def shown_commands() -> Iterator[list[str]]:
    """Yield the words behind batch-collection in each line of the pages that a reader may copy."""
    for path in (*(ROOT / "docs").glob("*.md"), ROOT / "README.md"):
        for block in re.findall(r"(?ms)^```\w*\n(.*?)^```$", path.read_text(encoding="utf-8")):
            for line in re.findall(
                r"(?m)^(?:\$ )?batch-collection +(.*)", block.replace("\\\n", "")
            ):
                if " ... " not in line:  # it leaves flags out
                    yield shlex.split(re.split(r" {3,}| > | && | &$", line)[0])


def test_flags_of_commands_that_pages_show_are_there() -> None:
    """Also of those that no test can run, as they need a Kafka or a project of the reader's."""
    checked = set()
    for words in shown_commands():
        if words[0] in {"help", "version"}:
            continue
        named = words if words[0] in cli.COMMANDS else ["collect", *words]
        if not any(word.startswith("--runner=") for word in words):  # those have flags of Beam's
            parsed([word for word in named if not word.startswith("--config=")])
            checked.add(named[0])
    assert checked >= {"collect", "follow", "preview", "produce", "serve", "demo", "announce"}


def test_the_glossary_is_in_order_and_explains_what_is_used() -> None:
    """Each of its words is in another page, too."""
    words = re.findall(r"(?m)^\*\*(.+?)\*\*: ", GLOSSARY)
    pages = [path for path in (ROOT / "docs").glob("*.md") if path.name != "glossary.md"]
    used = "\n".join(path.read_text(encoding="utf-8") for path in pages).lower()
    assert words == sorted(words)
    assert [word for word in words if word.lower() not in used] == []
    assert {"Cycle", "Window", "Pane", "Carry", "Boundary", "Entry", "Dead letter"} <= set(words)


def test_the_table_of_guarantees_is_not_behind() -> None:
    """Else run ``python -m tests.guarantees``."""
    page = PAGE.read_text(encoding="utf-8")
    assert page_with_table(page) == page
    rows = re.findall(r"(?m)^\| .+ \| `test_", page)
    assert len(rows) >= 20


def test_a_row_says_what_its_tests_say() -> None:
    """Whatever stood there before; a test that is gone is an error."""
    name = "test_a_row_says_what_its_tests_say"
    shown = "Whatever stood there before; a test that is gone is an error."
    assert page_with_table(f"| x | `{name}`: old |") == f"| x | `{name}`: {shown} |"
    with pytest.raises(KeyError):
        page_with_table("| x | `test_that_is_gone`: old |")


BANNED = re.compile(
    r"\b(mend(s|ed|ing)?|tak(e|es|en|ing) (\w+ )?away|stands|(is|are) told|by now)\b", re.IGNORECASE
)
"""Words that are not plain where users read them."""


def _said_to_users(path: Path) -> list[str]:
    """Return the texts of a module but for its docstrings."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    docs = {
        id(node.value)
        for node in ast.walk(tree)
        if isinstance(node, ast.Expr)  # a docstring: a value that nobody uses
    }
    return [
        node.value
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs
    ]


def test_what_users_read_is_in_plain_words() -> None:
    """Errors, notes, helps and pages: fix, delete, is there; names in code may be older."""
    found = [
        f"{path.relative_to(ROOT)}: {text}"
        for room in ROOMS
        for path in (ROOT / room).rglob("*.py")
        for text in _said_to_users(path)
        if " " in text and BANNED.search(text)
    ]
    pages = [*(ROOT / "docs").glob("*.md"), ROOT / "README.md"]
    found += [
        f"{path.name}: {line.strip()}"
        for path in pages
        for line in path.read_text(encoding="utf-8").splitlines()
        if "`test_" not in line and BANNED.search(re.sub(r"`[^`]*`", "", line))
    ]
    assert found == []


def test_help_in_python_is_in_plain_words() -> None:
    """Docstrings of what ``import batch_collection`` gives, and of its calls."""
    public = [getattr(batch_collection, name) for name in batch_collection.__all__]
    calls = [getattr(each, name) for each in public if isinstance(each, type) for name in dir(each)]
    docs = {str(each.__doc__) for each in [*public, *calls] if each.__doc__}
    assert [doc for doc in docs if BANNED.search(doc)] == []
