"""Messages made to exhaust the collector: memory and time stay in proportion to their size."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.campaign.bombs import BOMBS
from tests.collecting import ROOT
from tests.decoding import FIRST_OFFSET
from transforms.decoding.contract import MAX_SCHEMA_TEXT

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.slow

SHORT = ("a million keys, the last one twice", "long names", "a million rows")
BYTES_A_BYTE = 50
SPARED = 150 << 20


@pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peak memory is asked of Linux"
)
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[] if n in SHORT else [pytest.mark.faults]) for n in BOMBS]
)
def test_a_bomb_takes_memory_and_time_in_proportion(tell: Callable[[str], None], name: str) -> None:
    """A row, or a dead letter with a short reason; neighbours are rows, the schema stays small."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.campaign.bombs", name],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    took = json.loads(done.stdout)
    tell(
        f"{took['bytes'] / 1e6:.1f} MB in {took['messages'] - 2} messages: "
        f"{took['memory'] / 1e6:.0f} MB more, {took['seconds']:.1f} s, "
        f"{took['dead_letters']} dead letters"
    )

    assert took["memory"] < SPARED + BYTES_A_BYTE * took["bytes"]
    assert took["seconds"] < 60
    assert took["neighbours"] == [FIRST_OFFSET, FIRST_OFFSET + took["messages"] - 1]
    assert took["longest_reason"] < 1000
    assert took["schema"] <= MAX_SCHEMA_TEXT
