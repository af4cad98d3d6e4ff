"""Lines whose cells stay under each other, within the columns that a terminal has. Pure."""

from __future__ import annotations

import unicodedata
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

__all__ = ["Column", "Columns", "Part", "cut", "flowed", "shortened", "width_of", "wrapped"]


_GAP = "  "
_DOTS = "..."


class Part(NamedTuple):
    """A piece of a line.

    Attributes:
        text: printable, of one line.
        is_alarm: it is shown in red, where there are colours.
        is_whole: it is a command, to be copied: never shortened, however narrow a terminal is.
    """

    text: str
    is_alarm: bool = False
    is_whole: bool = False


class Column(NamedTuple):
    """What stands in one place of each line.

    Attributes:
        side: where its cells are held to.
        least: how wide it is from the first line on.
        rank: columns of the lowest rank have room first; of rank 0 all have.
    """

    side: Literal["<", ">"]
    least: int
    rank: int = 0


class Columns:
    """Columns that only ever get wider, so that what is below stays below.

    The one that gives way first is ``elastic``: its cells are shortened to a third of the room.
    """

    def __init__(self, columns: Mapping[str, Column], elastic: str) -> None:
        """Begin with each as wide as its least."""
        self._columns, self._elastic = dict(columns), elastic
        self._widths = {name: column.least for name, column in columns.items()}

    def widen(self, cells: Mapping[str, str]) -> None:
        """Make room for some cells."""
        for name, text in cells.items():
            self._widths[name] = max(self._widths[name], width_of(text))

    def line(self, cells: Mapping[str, str], room: int | None) -> str:
        """Write cells, by the names of their columns, in ``room``; None: as wide as they are."""
        self.widen(cells)
        widths = self._fitted(room)
        padded = (self._padded(name, cells.get(name, ""), width) for name, width in widths.items())
        line = _GAP.join(padded).rstrip()
        return line if room is None else shortened(line, room)

    def _padded(self, name: str, text: str, width: int) -> str:
        text = shortened(text, width)
        space = " " * (width - width_of(text))
        return text + space if self._columns[name].side == "<" else space + text

    def _fitted(self, room: int | None) -> dict[str, int]:
        """Return the widths of the columns that have room."""
        widths = dict(self._widths)
        if room is None or _total(widths.values()) <= room:
            return widths
        widths[self._elastic] = min(widths[self._elastic], room // 3)
        chosen: list[str] = []
        for name in sorted(widths, key=lambda name: self._columns[name].rank):
            needed = _total(widths[each] for each in (*chosen, name))
            if needed <= room or not self._columns[name].rank:
                chosen.append(name)
        return {name: width for name, width in widths.items() if name in chosen}


def _total(widths: Iterable[int]) -> int:
    """Return how wide columns are together, with the gaps between them."""
    return sum(width + len(_GAP) for width in widths) - len(_GAP)


def width_of(text: str) -> int:
    """Return how many columns of a terminal a printable text takes."""
    if text.isascii():
        return len(text)
    return sum(map(_width, text))


def _width(letter: str) -> int:
    if unicodedata.combining(letter):
        return 0
    return 2 if unicodedata.east_asian_width(letter) in "WF" else 1


def shortened(text: str, width: int) -> str:
    """Return a text in so many columns: what has no room is left out of its middle."""
    if width_of(text) <= width:
        return text
    room = width - len(_DOTS)
    if room < 2:  # noqa: PLR2004 - a letter on each side
        return _begin(text, width)
    return _begin(text, room - room // 2) + _DOTS + _begin(text[::-1], room // 2)[::-1]


def cut(text: str, width: int) -> str:
    """Return a text in so many columns: what has no room is left out of its end."""
    if width_of(text) <= width:
        return text
    return _begin(text, width - len(_DOTS)) + _DOTS if width > len(_DOTS) else _begin(text, width)


def _begin(text: str, width: int) -> str:
    """Return as many letters as have room."""
    taken = 0
    for place, letter in enumerate(text):
        taken += _width(letter)
        if taken > width:
            return text[:place]
    return text


def flowed(parts: Sequence[Part], room: int) -> Iterator[list[Part]]:
    """Put parts in lines of so many columns; one that is longer is cut, or stands alone."""
    line: list[Part] = []
    taken = 0
    for part in parts:
        text = part.text if part.is_whole else cut(part.text, room)
        width = width_of(text)
        if line and taken + len(_GAP) + width > room:
            yield line
            line, taken = [], 0
        if line:
            line.append(Part(_GAP))
            taken += len(_GAP)
        line.append(part._replace(text=text))
        taken += width
    if line:
        yield line


def wrapped(text: str, first: int, room: int) -> list[str]:
    """Break a text at spaces into lines of so many columns, the first of ``first``.

    A word that is longer, as a path may be, stays whole: it is there to be copied.
    """
    lines, taken = [""], 0
    for word in text.split(" "):
        width, most = width_of(word), first if len(lines) == 1 else room
        if lines[-1] and taken + 1 + width > most:
            lines.append(word)
            taken = width
        else:
            lines[-1] += f" {word}" if taken else word
            taken += width + (1 if taken else 0)
    return lines
