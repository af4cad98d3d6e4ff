"""Load what a user names, or what an extra brings, when it is asked for."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["extra", "load_function"]


def load_function(flag: str, name: str) -> Callable[..., Any]:
    """Import the function that ``--flag=module:function`` names; the current folder is searched.

    Raises:
        CollectionError: there is none.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        message = f"--{flag} must be MODULE:FUNCTION, got {name!r}"
        raise CollectionError(message)
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        found = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        message = f"cannot load --{flag}={name}: {error}"
        raise CollectionError(message) from error
    if not callable(found):
        message = f"--{flag}={name} is no function but a {type(found).__name__}"
        raise CollectionError(message)
    return found


def extra(module: str, name: str | None = None) -> Any:
    """Import ``module``, which needs the package ``name`` (the module's own, if not given).

    Raises:
        CollectionError: it isn't installed; says how to install it.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        name = name or module
        message = f"{module} cannot be imported ({error}); install it with: pip install {name}"
        raise CollectionError(message) from error
