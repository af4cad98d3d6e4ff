"""Packages that only some readers need: imported when they are asked for."""

from __future__ import annotations

import importlib
from typing import Any

from batch_collection.errors import CollectionError

__all__ = ["extra"]


def extra(module: str, name: str | None = None) -> Any:
    """Import ``module`` of the extra ``name`` (the module's own, if not given).

    Raises:
        CollectionError: it isn't installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = name or module
        message = (
            f"{module} cannot be imported ({error}); "
            f"install it with: pip install 'batch-collection[{name}]'"
        )
        raise CollectionError(message) from error
