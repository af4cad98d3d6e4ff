"""Engines, as long as they are measured."""

from __future__ import annotations

import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.services.flink import FlinkServer, flink_jars
from tests.services.prism import PrismServer, prism_binary

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["DIRECT", "ENGINES", "FLINK", "PRISM", "started"]

DIRECT, PRISM, FLINK = ENGINES = ("DirectRunner", "Prism", "Flink")
"""Flink is the one of the job server: a cluster in one process of a gigabyte."""

_SHARDS = "--shards=2"  # as many as cores


@contextmanager
def started(engine: str) -> Iterator[tuple[str, ...]]:
    """Give the flags that collect on an engine; it runs as long as the block does.

    Raises:
        UnavailableError: it can't be had here; the text says why.
    """
    if engine == DIRECT:
        yield ()
        return
    with tempfile.TemporaryDirectory() as folder:
        server = _server(engine, Path(folder))
        try:
            yield (*server.flags, _SHARDS, *(["--parallelism=2"] if engine == FLINK else []))
        finally:
            server.kill()


def _server(engine: str, folder: Path) -> PrismServer | FlinkServer:
    if engine == PRISM:
        return PrismServer(prism_binary(say=print), folder)
    return FlinkServer(flink_jars(print), folder)
