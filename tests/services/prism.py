"""Prism, Beam's portable engine, for tests: one server, which lives no longer than the tests.

It is taken from ``--prism_location``, PATH, or where Go puts binaries; else Go builds it once into
the user's cache directory.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.made import Made, UnavailableError, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["PRISM", "PrismServer", "accepts", "prism_binary"]

VERSION = f"v{version('apache-beam')}"
_MODULE = f"github.com/apache/beam/sdks/v2/go/cmd/prism@{VERSION}"
_START_SECONDS = 30
# Its standard input ends with the tests, whatever way they end, and then Prism is killed.
_WARDEN = '"$@" & prism=$!; read -r _; kill -KILL $prism 2>/dev/null; wait $prism'


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


class PrismServer:
    """A running Prism; jobs are submitted to ``endpoint``."""

    def __init__(self, binary: Path, folder: Path) -> None:
        """Start it and wait until it answers."""
        self.binary = binary
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        self.endpoint = f"localhost:{port}"
        command = [str(binary), f"--job_port={port}", "--serve_http=false"]
        with (folder / "prism.log").open("ab") as log:
            self._warden = subprocess.Popen(
                ["/bin/sh", "-c", _WARDEN, "warden", *command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + _START_SECONDS
        while not accepts(port):
            if time.monotonic() > deadline:
                self.kill()
                message = f"Prism did not start: {(folder / 'prism.log').read_text()[-1000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._warden.stdin is not None and not self._warden.stdin.closed:
            self._warden.stdin.close()
        self._warden.wait()


def accepts(port: int) -> bool:
    """Tell whether somebody listens on this machine's port."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True
