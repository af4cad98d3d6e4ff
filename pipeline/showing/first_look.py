"""What a user looks at first in a collection: its tree, a query, the reading library."""

from __future__ import annotations

import contextlib
import importlib.util
import io
from typing import TYPE_CHECKING, NamedTuple

from batch_collection.counted import counted
from batch_collection.paths import CARRY, DATA, DEAD_LETTERS, IDS, LOG, STAGING, WINDOWS
from pipeline.showing.wording import humanised_bytes

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

__all__ = ["Shown", "query", "reading", "tree"]


_MOST_FILES = 10  # of data/, one line each
_MEANINGS = {
    CARRY: "rows that wait for the end of their window",
    DATA: "the data set: one Parquet file a batch",
    DEAD_LETTERS: "messages of which no row could be made",
    IDS: "messages that may come again, by their ids",
    LOG: "one entry a cycle: what was read, and where it is",
    STAGING: "not committed yet",
    WINDOWS: "one manifest a closed window",
}
_READING = """\
import batch_collection
for window in batch_collection.open({root!r}).windows():
    print(f"{{window.start:%H:%M:%S}}  {{window.rows:,}} rows  {{len(window.batches)}} files")"""
_PYARROW = """\
import pyarrow.dataset
rows = pyarrow.dataset.dataset({data!r}).to_table()
print(rows.group_by([]).aggregate([([], "count_all"), ("value", "mean")]).to_pylist())"""
_DUCKDB = """\
SELECT count(*) AS rows, min(value) AS least, max(value) AS most, round(avg(value), 2) AS mean
FROM '{data}/**/*.parquet'"""


class Shown(NamedTuple):
    """A program or a query as it stands, who runs it, and what came out; line by line."""

    tool: str
    text: list[str]
    result: list[str]


def tree(root: Path) -> list[str]:
    """Return a collection's folders, and the files of ``data/``, with their sizes."""
    lines = [f"{root}/"]
    for folder in sorted(each for each in root.iterdir() if each.is_dir()):
        files = sorted(each for each in folder.rglob("*") if each.is_file())
        if not files:
            continue
        count = counted(len(files), "file")
        name, meaning = f"{folder.name}/", _MEANINGS.get(folder.name, "")
        lines.append(f"  {name:<14}{count:>9}  {_size(files):>8}   {meaning}".rstrip())
        lines += _batches(folder, files) if folder.name == DATA else []
    return lines


def _batches(folder: Path, files: Sequence[Path]) -> Iterator[str]:
    above = None
    for file in files[:_MOST_FILES]:
        if file.parent != above:
            above = file.parent
            yield f"    {above.relative_to(folder)}/"
        yield f"      {file.name}  {_size([file]):>8}"
    if len(files) > _MOST_FILES:
        yield f"      ... and {len(files) - _MOST_FILES} more"


def _size(files: Sequence[Path]) -> str:
    return humanised_bytes(sum(file.stat().st_size for file in files))


def query(data: Path) -> Shown:
    """Count the rows of a data set with the reader that is installed."""
    if importlib.util.find_spec("duckdb") is None:
        text = _PYARROW.format(data=str(data))
        return Shown("pyarrow", text.split("\n"), _output_of(text))
    text = _DUCKDB.format(data=str(data).replace("'", "''"))
    return Shown("DuckDB", text.split("\n"), _answer(text))


def reading(root: Path) -> Shown:
    """Read a collection with this project's library."""
    text = _READING.format(root=str(root))
    return Shown("batch_collection", text.split("\n"), _output_of(text))


def _answer(text: str) -> list[str]:
    import duckdb  # noqa: PLC0415 - an extra, seldom there

    with duckdb.connect() as connection:
        found = connection.execute(text)
        names = [column[0] for column in found.description or ()]
        rows = [[f"{cell:,}" for cell in row] for row in found.fetchall()]
    widths = [max(map(len, column)) for column in zip(names, *rows, strict=True)]
    return [
        "  ".join(f"{cell:>{width}}" for cell, width in zip(line, widths, strict=True))
        for line in (names, *rows)
    ]


def _output_of(text: str) -> list[str]:
    """Run a shown program, so that what is shown is what runs."""
    output = io.StringIO()
    with contextlib.redirect_stdout(output):
        exec(text, {})  # noqa: S102 - our own text, above
    return output.getvalue().rstrip("\n").split("\n")
