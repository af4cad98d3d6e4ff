"""A topic collected to its end by one process, from its start to its exit."""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from bench.child import python
from bench.collecting import check
from bench.measured import Taken

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = ["collected"]


def collected(servers: str, topic: str, messages: int, flags: Sequence[str]) -> Taken:
    """Collect a topic, and see that each message is a row once and the audit agrees.

    Workers are in the process that is measured; an engine's own CPU and memory are not counted.
    """
    with tempfile.TemporaryDirectory() as folder:
        where = (f"--bootstrap_servers={servers}", f"--topics={topic}", f"--output={folder}")
        command = (sys.executable, "-m", "pipeline", *where, "--once", *flags)
        said = python("-m", "bench.measured", *command)
        check(list(Path(folder, topic, "data").rglob("*.parquet")), messages)
        python("-m", "pipeline", "audit", f"{folder}/{topic}")
    return Taken(**json.loads(said.splitlines()[-1]))
