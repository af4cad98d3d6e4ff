"""What users name is loaded from where they are."""

from __future__ import annotations

import pickle
import re
import sys
from typing import TYPE_CHECKING

import pytest

import transforms
from batch_collection.errors import CollectionError
from batch_collection.loading import load_function
from pipeline import cli

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PROGRAM = """\
from dataclasses import dataclass
import beside_it

@dataclass
class Row:
    value: int

def rows(number):
    return Row(beside_it.NUMBER + number)
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in a directory, and leave nothing of it in this process."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "beside_it.py").write_text("NUMBER = 40\n")
    known = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - known:
        del sys.modules[name]


@pytest.mark.parametrize(
    "name", ["transforms", "pipeline", "batch_collection", "queue", "mine", "transforms.write_it"]
)
@pytest.mark.parametrize("is_package", [False, True])
def test_a_module_of_the_working_directory_comes_first(
    name: str, *, is_package: bool, folder: Path
) -> None:
    """Whatever is called like it; it imports its neighbours, and can pickle its classes."""
    path = folder.joinpath(*name.split("."))
    file = path / "__init__.py" if is_package else path.with_suffix(".py")
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(PROGRAM)

    rows = load_function("process", f"{name}:rows")

    assert rows(2).value == 42
    assert pickle.loads(pickle.dumps(rows(2))) == rows(2)  # noqa: S301 - our own
    assert load_function("process", f"{name}:rows") is rows
    assert sys.modules["transforms"] is transforms


def test_a_module_that_python_finds_there_is_imported_as_others_do(folder: Path) -> None:
    """So that there is one of it, however it is named."""
    (folder / "mine_too.py").write_text("def one(): return 1\n")
    (folder / "others.py").write_text("from mine_too import one\ndef get(): return one\n")

    assert load_function("process", "others:get")() is load_function("process", "mine_too:one")


def test_another_directory_has_modules_of_its_own(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name is that of a file, not of what was loaded before."""
    for number in (1, 2):
        (folder / str(number)).mkdir()
        (folder / str(number) / "transforms.py").write_text(f"def get(): return {number}\n")
        monkeypatch.chdir(folder / str(number))
        assert load_function("process", "transforms:get")() == number


def test_a_file_that_fails_is_told_and_tried_again(folder: Path) -> None:
    """As when it is mended meanwhile."""
    file = folder / "transforms.py"
    file.write_text("import nothing_like_it\n")
    expected = "cannot load --process=transforms:get: No module named 'nothing_like_it'"
    with pytest.raises(CollectionError, match=re.escape(expected)):
        load_function("process", "transforms:get")

    file.write_text("def get(): return 'mended'\n")
    assert load_function("process", "transforms:get")() == "mended"


def test_no_directory_is_needed() -> None:
    """What is installed is found, too, and so is what is ours."""
    assert load_function("process", "pipeline.cli:main") is cli.main
