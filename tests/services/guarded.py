"""Servers that listen on a port of this machine, and live no longer than the tests."""

from __future__ import annotations

import socket
import subprocess
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

__all__ = ["WITH_STACKS", "Guarded", "accepts", "free_port"]

WITH_STACKS = {"PYTHONFAULTHANDLER": "1"}
"""With it SIGABRT ends a Python that tells on standard error where each of its threads is."""

# Its standard input ends with the tests, whatever way they end, and then the server is killed, and
# what that has started.
_WARDEN = '"$@" & server=$!; read -r _; kill -KILL $server 2>/dev/null; wait $server; kill -KILL 0'


class Guarded:
    """A running server; whoever starts it knows what it speaks. What it says is in ``log``."""

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        port: int,
        log: Path,
        seconds: int,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        """Start it and wait until somebody listens on its port.

        Args:
            name: what it is, for errors.
            command: what starts it on ``port``.
            port: where it is to listen.
            log: where its output goes.
            seconds: for how long to wait.
            environment: its variables; None: those of this process.
        """
        self.log = log
        with log.open("ab") as output:
            self._warden = subprocess.Popen(
                ["/bin/sh", "-c", _WARDEN, "warden", *command],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                start_new_session=True,
                env=environment,
            )
        deadline = time.monotonic() + seconds
        while not accepts(port):
            if time.monotonic() > deadline:
                self.kill()
                message = f"{name} did not start: {log.read_text()[-1000:]}"
                raise RuntimeError(message)
            time.sleep(0.05)

    def kill(self) -> None:
        """Kill it, and wait until it is gone."""
        if self._warden.stdin is not None and not self._warden.stdin.closed:
            self._warden.stdin.close()
        self._warden.wait()


def free_port() -> int:
    """Return a port that nobody listens on just now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def accepts(port: int) -> bool:
    """Tell whether somebody listens on this machine's port."""
    try:
        socket.create_connection(("localhost", port), timeout=1).close()
    except OSError:
        return False
    return True
