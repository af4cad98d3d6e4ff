"""Lock what requirements*.txt pin, with all that lies below, by hashes: ``make lock`` runs this.

For each Python there is a chain of files, each with what the one before lacks: what the package
and Dataflow need, what tests and checks need, TensorFlow, PyTorch. They are resolved together, so
that all of them can be installed at once, on Linux and macOS. What is locked stays as it is while
the pins allow it; delete a Python's files to take the newest of everything.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# the ends of the locks' names, and what is asked for; each is installed on top of those before
PARTS = {
    "": "setup.py",
    "-dev": "requirements-dev.txt",
    "-training": "requirements-training.txt",
    "-torch": "requirements-torch.txt",
}
_HEAD = "# Made by `make lock` from requirements{0}.txt; change that one.\n"
_PLATFORMS = ("linux", "darwin")
_EITHER = re.escape("(sys_platform == 'darwin' or sys_platform == 'linux')")
# true wherever this Python's lock is used; on another platform the pins count as well
_ALWAYS = re.compile(
    rf" ; python_full_version < '3\.\d+' and {_EITHER}(?= \\)"
    rf"| and {_EITHER}(?= \\)|python_full_version < '3\.\d+' and "
)
_PACKAGE = re.compile(
    r"^(?P<pin>(?P<name>[\w.-]+)==.*\n(?:    --hash=.*\n)+)    # via (?P<via>.*)\n", re.MULTILINE
)


class Locked(NamedTuple):
    """A package: its lines in a lock, and who asks for it, packages and files."""

    lines: str
    via: frozenset[str]


def resolved(uv: str, python: str, known: str) -> dict[str, Locked]:
    """Return what all parts need under one Python, on all platforms; ``known`` is kept."""
    platforms = [f"python_version == '{python}' and sys_platform == '{n}'" for n in _PLATFORMS]
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder, "out.txt")
        out.write_text(known, encoding="utf-8")
        Path(folder, "pyproject.toml").write_text(
            f'[project]\nname = "lock"\nversion = "0"\nrequires-python = ">={python}"\n'
            f"[tool.uv]\nenvironments = {json.dumps(platforms)}\n",
            encoding="utf-8",
        )
        command = [uv, "pip", "compile", "--universal", f"--python-version={python}", "--quiet"]
        style = ["--generate-hashes", "--no-header", "--annotation-style=line"]
        asked = ["--extra=dataflow", *(str(ROOT / source) for source in PARTS.values())]
        subprocess.run(
            [*command, *style, f"--output-file={out}", *asked],
            cwd=folder,
            check=True,
            stdout=subprocess.DEVNULL,
        )
        return packages(out.read_text(encoding="utf-8"))


def packages(text: str) -> dict[str, Locked]:
    """Return what uv wrote, by name."""
    return {
        block["name"]: Locked(_ALWAYS.sub("", block["pin"]), frozenset(block["via"].split(", ")))
        for block in _PACKAGE.finditer(text)
    }


def below(source: str, locked: dict[str, Locked]) -> set[str]:
    """Return the names of what a source asks for, and of all below them."""
    found: set[str] = set()
    while True:
        more = {
            name
            for name, each in locked.items()
            if each.via & found or any(Path(via.rstrip(")")).name == source for via in each.via)
        }
        if more <= found:
            return found
        found |= more


def lock(uv: str, python: str, folder: Path) -> None:
    """Write the chain of one Python."""
    files = {part: folder / f"py{python.replace('.', '')}{part}.txt" for part in PARTS}
    old = "".join(path.read_text(encoding="utf-8") for path in files.values() if path.exists())
    locked = resolved(uv, python, re.sub(r"^-r .*\n", "", old, flags=re.MULTILINE))
    before, done = "", set[str]()
    for part, source in PARTS.items():
        names = below(source, locked) - done
        lines = "".join(locked[name].lines for name in sorted(names))
        files[part].write_text(f"{_HEAD.format(part)}{before}{lines}", encoding="utf-8")
        before = f"-r {files[part].name}\n"
        done |= names


if __name__ == "__main__":
    for each in PYTHONS:
        print(f"locking for Python {each}", flush=True)
        lock(str(Path(sys.argv[1]).absolute()), each, ROOT / "requirements")
