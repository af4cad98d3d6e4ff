"""Prism, Beam's portable engine, for tests: one server, which lives no longer than the tests.

It is taken from ``--prism_location``, PATH, or where Go puts binaries; else Go builds it once into
the user's cache directory.
"""

from __future__ import annotations

import os
import shutil
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.guarded import Guarded, free_port
from tests.services.made import Made, UnavailableError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PRISM", "PrismServer", "prism_binary"]

VERSION = f"v{version('apache-beam')}"
_MODULE = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{VERSION}"
_START_SECONDS = 30


def prism_binary(location: str | None = None, say: Callable[[str], None] | None = None) -> Path:
    """Return Prism's binary; ``say`` is told when it is to be built.

    Raises:
        UnavailableError: it is nowhere, and can't be built.
    """
    for path in (*([Path(location)] if location else ()), *_places()):
        if path.is_file():
            return path
    if location:
        message = f"no Prism: --prism_location={location} is no file"
        raise UnavailableError(message)
    return PRISM.get(say) / "prism"


def _places() -> Iterator[Path]:
    if found := shutil.which("prism"):
        yield Path(found)
    if folder := os.environ.get("GOBIN"):
        yield Path(folder, "prism")
    yield Path(os.environ.get("GOPATH") or Path.home() / "go", "bin", "prism")


def _install(folder: Path) -> Path:
    run(
        ["go", "install", _MODULE],
        folder,
        {**os.environ, "GOBIN": str(folder / "bin"), "GOFLAGS": ""},
    )
    return folder / "bin"


PRISM = Made(f"go-prism-{VERSION}", "Prism", "about 2 minutes", ("go",), _install)


class PrismServer(Guarded):
    """A running Prism; jobs are submitted to ``endpoint``, with ``flags``."""

    def __init__(self, binary: Path, folder: Path) -> None:
        """Start it and wait until it answers."""
        self.binary = binary
        port = free_port()
        self.endpoint = f"localhost:{port}"
        self.flags = ("--runner=PrismRunner", f"--job_endpoint={self.endpoint}")
        command = [str(binary), f"--job_port={port}", "--serve_http=false"]
        super().__init__("Prism", command, port, folder / "prism.log", _START_SECONDS)
