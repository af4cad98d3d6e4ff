"""Values that users give: those that can't be meant are refused at once, in one line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from operator import index
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "count_of",
    "mapping",
    "names",
    "parts_of",
    "public_names",
    "torn_yaml",
    "whole_number",
]


def whole_number(option: str, given: Any) -> int:
    """Return an integer, one of numpy's as Python's own.

    Raises:
        CollectionError: it is none: ``True`` and ``10.0`` are not.
    """
    try:
        if not isinstance(given, bool):
            return index(given)
    except TypeError:
        pass
    message = f"{option} must be a whole number, got {given!r}"
    raise CollectionError(message)


def count_of(option: str, given: Any) -> int:
    """Return a whole number of at least 0.

    Raises:
        CollectionError: it is none.
    """
    number = whole_number(option, given)
    if number < 0:
        message = f"{option} must be at least 0, got {number}"
        raise CollectionError(message)
    return number


def parts_of(state: Any, parts: Sequence[str], what: str) -> list[Any]:
    """Return parts of a saved state by their names; ``what`` it should be.

    Raises:
        CollectionError: it is something else.
    """
    if not isinstance(state, Mapping):
        message = f"not {what}, which is a mapping: {state!r:.80}"
        raise CollectionError(message)
    for name in parts:
        if name not in state:
            message = f"not {what}: it has no {name!r}"
            raise CollectionError(message)
    return [state[name] for name in parts]


def names(option: str, given: Any) -> Sequence[str]:
    """Return a list of names.

    Raises:
        CollectionError: it is none, or one name alone, whose letters it would be.
    """
    if isinstance(given, Iterable) and not isinstance(given, str):
        listed = list(given)
        if all(isinstance(name, str) for name in listed):
            return listed
    message = f"{option} must be a list of names, as ['value'], got {given!r}"
    raise CollectionError(message)


def mapping(option: str, given: Any, example: str) -> Mapping[str, Any]:
    """Return a mapping by names.

    Raises:
        CollectionError: it is none.
    """
    if isinstance(given, Mapping) and all(isinstance(name, str) for name in given):
        return given
    message = f"{option} must be a mapping by names, as {example}, got {given!r}"
    raise CollectionError(message)


def public_names(thing: object) -> list[str]:
    """Return what ``dir()`` is to list: what users may call, in the order of the alphabet."""
    return sorted(name for name in object.__dir__(thing) if not name.startswith("_"))


def torn_yaml(text: str, error: Exception) -> tuple[int, int, str]:
    """Return what is wrong with a YAML text: line and column, from 1, and words that quote none."""
    mark = getattr(error, "problem_mark", None)
    problem = str(getattr(error, "problem", None) or getattr(error, "reason", "too deep"))
    if mark is not None:
        return mark.line + 1, mark.column + 1, problem
    before = text[: getattr(error, "position", 0)]  # what no YAML text may hold is told so
    return before.count("\n") + 1, len(before) - before.rfind("\n"), problem
