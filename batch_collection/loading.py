"""Load what a user names, or what an extra brings, when it is asked for."""

from __future__ import annotations

import gc
import importlib
import importlib.util
import os
import sys
from importlib.machinery import SourceFileLoader
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from batch_collection.errors import CollectionError

if TYPE_CHECKING:
    from collections.abc import Callable
    from importlib.machinery import ModuleSpec
    from types import ModuleType

__all__ = ["extra", "load_for_good", "load_function"]


def load_function(flag: str, name: str) -> Callable[..., Any]:
    """Import the function that ``--flag=module:function`` names.

    A module of the working directory comes first, whatever else is called like it: a package of
    ours, say, or one that is loaded already.

    Raises:
        CollectionError: there is none.
    """
    module, _, attribute = name.partition(":")
    if not (module and attribute):
        message = f"--{flag} must be MODULE:FUNCTION, got {name!r}"
        raise CollectionError(message)
    try:
        found = getattr(_module(module), attribute)
    except (ImportError, AttributeError) as error:
        message = f"cannot load --{flag}={name}: {error}"
        raise CollectionError(message) from error
    if not callable(found):
        message = f"--{flag}={name} is no function but a {type(found).__name__}"
        raise CollectionError(message)
    return found


def _module(name: str) -> ModuleType:
    """Import a module of the working directory, else one that Python finds."""
    folder = Path.cwd()
    if str(folder) not in sys.path:
        sys.path.insert(0, str(folder))
    stem = folder.joinpath(*name.split("."))
    files = (stem / "__init__.py", stem.with_name(f"{stem.name}.py"))
    file = next((str(each) for each in files if each.is_file()), None)
    if file is None or _origin(name) == os.path.realpath(file):
        return importlib.import_module(name)
    return _from_file(f"_working_directory_{name.replace('.', '_')}", file)


def _origin(name: str) -> str | None:
    """Return the real path of what Python would import for a name, or has imported."""
    try:
        spec = importlib.util.find_spec(name)
    except (ModuleNotFoundError, ValueError):  # its parent is none, or a program's
        return None
    return os.path.realpath(spec.origin) if spec is not None and spec.origin else None


def _from_file(name: str, file: str) -> ModuleType:
    """Import a file under a name of its own, once."""
    loaded = sys.modules.get(name)
    if loaded is not None and loaded.__file__ == file:
        return loaded
    loader = SourceFileLoader(name, file)
    spec = cast("ModuleSpec", importlib.util.spec_from_loader(name, loader))
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # classes look for it there
    try:
        loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


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


def load_for_good(name: str) -> ModuleType:
    """Import a module; what stays of that is never looked through for cycles.

    To look through it while Beam is imported takes a tenth of the start, and again and again while
    messages come some percent of collecting.
    """
    if name in sys.modules:
        return sys.modules[name]
    gc.disable()
    try:
        return importlib.import_module(name)
    finally:
        gc.freeze()
        gc.enable()
