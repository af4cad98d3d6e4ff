"""YAML in which no name stands twice: PyYAML would take the last one and say nothing."""

from __future__ import annotations

from typing import Any

import yaml

from batch_collection.given import torn_yaml

__all__ = ["load"]


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Refuses a name that a mapping has twice."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 - PyYAML's
        known = set[str]()
        for key in (key for key, _ in node.value if isinstance(key, yaml.ScalarNode)):
            if key.value in known:
                problem = f"{key.value} is given twice"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            known.add(key.value)
        return super().construct_mapping(node, deep)


def load(text: str) -> Any:
    """Return what a YAML text says.

    Raises:
        ValueError: it can't be read; says in which line and column.
        RecursionError: it is nested too deep.
    """
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - it is a SafeLoader
    except yaml.YAMLError as error:
        line, column, problem = torn_yaml(text, error)
        message = f"no YAML in line {line}, column {column}: {problem}"
        raise ValueError(message) from error
