"""docs/scale.md: its sums are those of docs/cloud-storage.md."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent / "docs"
SCALE = (DOCS / "scale.md").read_text(encoding="utf-8")
STORAGE = (DOCS / "cloud-storage.md").read_text(encoding="utf-8")
CYCLES = 24 * 60


def prices() -> tuple[float, float]:
    """Return the prices of 1,000 requests of both classes."""
    first, second = re.findall(r"\$(0\.\d+) for 1,000", STORAGE.replace("\n", " "))
    return float(first), float(second)


@pytest.mark.parametrize(
    "row", re.findall(r"(?m)^\| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| \$([\d.]+) \|$", SCALE)
)
def test_a_days_requests_and_their_price_add_up(row: tuple[str, ...]) -> None:
    """Of each number of shards; the first row is the busy one of the other page."""
    shards, first, second, price = (float(each.replace(",", "")) for each in row)
    assert first == CYCLES * (5 + 3 * shards)
    assert second == CYCLES * (2 + 2 * shards)
    cost = (first * prices()[0] + second * prices()[1]) / 1000
    assert round(cost, 2) == price
    if shards == 1:
        assert f"{row[1]} A, {row[2]} B" in STORAGE
