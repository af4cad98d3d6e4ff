"""The results as Markdown.

    python -m bench.readers.table [--write]

With ``--write`` it is put into docs/training.md, in the place of what is there.
"""

from __future__ import annotations

import json
import sys
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.readers.known import READERS

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["PAGE", "RESULTS", "main", "markdown", "within"]

RESULTS = Path(__file__).parents[1] / "readers.json"
PAGE = Path(__file__).parents[2] / "docs" / "training.md"
_BEGIN = "<!-- python -m bench.readers.table --write: from here -->\n\n"
_END = "\n\n<!-- to here -->"
_AHEAD = 1.05  # what differs by less is the same

Turn = dict[str, Any]


def markdown(found: Mapping[str, Any]) -> str:
    """Return a table for each kind of batches, and what is to be said of it.

    Figures that are ahead of ours, for the same batches and order, are bold.
    """
    turns = sorted(found["turns"], key=lambda turn: list(READERS).index(turn["reader"]))
    by_kind = groupby(turns, key=lambda turn: READERS[turn["reader"]].gives)
    tables = [_table(gives, list(some)) for gives, some in by_kind]
    return "\n\n".join([_heading(found), *tables, *_notes(found)])


def _heading(found: Mapping[str, Any]) -> str:
    machine = found["machine"]
    versions = ", ".join(f"{name} {each}" for name, each in machine["packages"].items())
    return (
        f"Thousand rows a second, of {found['rows']:,} rows of 4 columns, 2 of which are read "
        f"({found['measured_at'][:10]}, {machine['cpus']} cores, "
        f"a load of {machine['load']} when it began, {machine['system']}, "
        f"Python {machine['python']}, {versions}):"
    )


def _table(gives: str, turns: Sequence[Turn]) -> str:
    sizes = sorted({turn["size"] for turn in turns})
    ways = [(shuffled, size) for shuffled in (False, True) for size in sizes]
    heads = [f"{size:,}{' shuffled' if shuffled else ''}" for shuffled, size in ways]
    lines = [
        f"| {gives}, in batches of | {' | '.join(heads)} | ms to the first | MB |",
        f"|---{'|---:' * (len(heads) + 2)}|",
    ]
    best = _ours(turns)
    for (name, workers), some in groupby(turns, key=lambda turn: (turn["reader"], turn["workers"])):
        by_way = {(turn["shuffled"], turn["size"]): turn for turn in some}
        cells = [_cell(by_way.get(way), best.get(way, 0)) for way in ways]
        title = f"{READERS[name].title}{f', {workers} workers' if workers else ''}"
        memory = [_memory(turn) for turn in by_way.values()]
        cells += [_first(by_way, sizes[-1]), max(memory)[1]]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _ours(turns: Sequence[Turn]) -> dict[tuple[bool, int], float]:
    """Return the best of ours for each order and size."""
    best: dict[tuple[bool, int], float] = {}
    for turn in turns:
        if READERS[turn["reader"]].ours:
            way = turn["shuffled"], turn["size"]
            best[way] = max(best.get(way, 0), turn["rows_per_second"])
    return best


def _is_ahead(turn: Turn, ours: float) -> bool:
    return not READERS[turn["reader"]].ours and turn["rows_per_second"] > _AHEAD * ours > 0


def _cell(turn: Turn | None, ours: float) -> str:
    if turn is None:
        return ""
    thousands = turn["rows_per_second"] / 1e3
    text = f"{thousands:,.0f}" if thousands >= 10 else f"{thousands:.1f}"  # noqa: PLR2004 - digits
    return f"**{text}**" if _is_ahead(turn, ours) else text


def _first(by_way: Mapping[tuple[bool, int], Turn], size: int) -> str:
    """Return how long the first batch takes, plain and shuffled."""
    turns = [by_way[shuffled, size] for shuffled in (False, True) if (shuffled, size) in by_way]
    return " / ".join(f"{turn['first_seconds'] * 1e3:,.0f}" for turn in turns)


def _memory(turn: Turn) -> tuple[float, str]:
    """Return the most that was resident, and its text: of the loop, and of each worker."""
    peak, each = turn["peak_bytes"] / 1e6, turn["worker_peak_bytes"] / 1e6
    workers = turn["workers"]
    return peak + workers * each, f"{peak:,.0f}" + (f" + {workers} x {each:,.0f}" * bool(workers))


def _notes(found: Mapping[str, Any]) -> Iterator[str]:
    ahead = {
        turn["reader"]
        for gives in {READERS[turn["reader"]].gives for turn in found["turns"]}
        for turns in [[t for t in found["turns"] if READERS[t["reader"]].gives == gives]]
        for turn in turns
        if _is_ahead(turn, _ours(turns).get((turn["shuffled"], turn["size"]), 0))
    }
    readers = [reader for name, reader in READERS.items() if name in ahead]
    notes = [f"- {reader.title}: {reader.note or 'not explained yet'}" for reader in readers]
    if notes:
        yield "What is ahead of ours somewhere (bold), and why:"
        yield "\n".join(notes)
    if found["left_out"]:
        yield f"Left out: {'; '.join(found['left_out'].values())}."


def within(page: str, table: str) -> str:
    """Return a page with a table in the place of the one that it has."""
    before, begin, rest = page.partition(_BEGIN)
    _, end, after = rest.partition(_END)
    assert begin, f"{PAGE.name} has no line {_BEGIN!r}"
    assert end, f"{PAGE.name} has no line {_END!r}"
    return f"{before}{begin}{table}{end}{after}"


def main(arguments: Sequence[str]) -> None:
    """Print what was measured, or put it into the page."""
    table = markdown(json.loads(RESULTS.read_text(encoding="utf-8")))
    if "--write" in arguments:
        PAGE.write_text(within(PAGE.read_text(encoding="utf-8"), table), encoding="utf-8")
    else:
        print(table)


if __name__ == "__main__":
    main(sys.argv[1:])
