"""This project's programs, run by a measurement as processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["python"]

_ROOT = Path(__file__).parent.parent


def python(
    *arguments: str, variables: Mapping[str, str] = os.environ, seconds: float | None = None
) -> str:
    """Run Python in the project, with bytecode, as it has installed; return what it printed.

    Args:
        arguments: What Python is told.
        variables: The environment.
        seconds: How long it may take; None: as long as it does.

    Raises:
        SystemExit: it failed, or took longer.
    """
    called = " ".join(arguments)
    try:
        done = subprocess.run(  # noqa: S603 - this project's programs
            [sys.executable, *arguments],
            cwd=_ROOT,
            env={key: variables[key] for key in variables if key != "PYTHONDONTWRITEBYTECODE"},
            capture_output=True,
            text=True,
            check=False,
            timeout=seconds,
        )
    except subprocess.TimeoutExpired as error:
        sys.exit(f"{called} took longer than {error.timeout:g}s")
    if done.returncode:
        sys.exit(f"{called} failed:\n{done.stdout}{done.stderr}")
    return done.stdout
