"""Writes the table of docs/guarantees.md from docstrings: ``python -m tests.guarantees``."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["PAGE", "page_with_table"]

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "guarantees.md"
_ROW = re.compile(r"(?m)^\| (.+?) \| (`test_\w+`.*) \|$")
_NAME = re.compile(r"`(test_\w+)`")


class _Test(NamedTuple):
    """A test: where it is, and what it says that it shows."""

    file: str
    shows: str


@cache
def _tests() -> dict[str, list[_Test]]:
    found: dict[str, list[_Test]] = {}
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                shows = " ".join((ast.get_docstring(node) or "").split())
                found.setdefault(node.name, []).append(_Test(path.stem, shows))
    return found


def page_with_table(page: str) -> str:
    """Return a page whose rows say anew what the tests show that they name.

    Raises:
        KeyError: there is no such test.
    """
    return _ROW.sub(lambda row: f"| {row[1]} | {_held_by(_NAME.findall(row[2]))} |", page)


def _held_by(names: list[str]) -> str:
    texts = (f"`{name}`: {_shown(name)}" for name in names)
    return "<br>".join(text.replace("|", "\\|") for text in texts)


def _shown(name: str) -> str:
    return " ".join(test.shows for test in _tests()[name])


if __name__ == "__main__":
    PAGE.write_text(page_with_table(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
