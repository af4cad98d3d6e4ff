"""How users name a field that lies within others: ``place.x``, or ``"meta.ts".x``."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

__all__ = ["plain_path", "quoted_path", "split_path"]

_NAME = re.compile(r'"((?:[^"]|"")*)"(?=\.|\Z)|([^".][^.]*|)(?=\.|\Z)', re.DOTALL)


def split_path(text: str, is_there: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the names that lead to a field: a column's, then those of fields of structs.

    If ``is_there`` says that a column is named ``text``, dots and all, it is that column. Else dots
    lead into structs, and double quotes around a name keep its dots: ``"meta.ts".x`` is field ``x``
    of column ``meta.ts``; a double quote within them is written twice.

    Raises:
        CollectionError: a double quote that begins a name is not closed at its end.
    """
    if is_there(text):
        return (text,)
    names, place = [], 0
    while place <= len(text):
        found = _NAME.match(text, place)
        if found is None:
            message = (
                f"cannot read the field name {text!r}: a name that begins with a double quote "
                'ends with one, as in "meta.ts".x; write quotes within it twice'
            )
            raise CollectionError(message)
        quoted, bare = found.groups()
        names.append(bare if quoted is None else quoted.replace('""', '"'))
        place = found.end() + 1
    return tuple(names)


def quoted_path(names: Iterable[str]) -> str:
    """Return a text by which ``split_path`` leads to a field, whatever columns there are."""
    return ".".join('"' + name.replace('"', '""') + '"' for name in names)


def plain_path(names: Sequence[str], columns: Iterable[str]) -> str:
    """Return such a text with no more quotes than it takes where there are these columns."""
    text = ".".join(names)
    has_doubt = any(not name or "." in name for name in names) or text in columns
    if '"' in text or (len(names) > 1 and has_doubt):
        return quoted_path(names)
    return text
