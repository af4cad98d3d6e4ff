"""What the page on training shows is what comes out."""

from __future__ import annotations

import doctest
import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pyarrow as pa

from tests.tables import TableCollector

if TYPE_CHECKING:
    import pytest

PAGE = Path(__file__).parent.parent / "docs" / "training.md"


def readings(first: int, count: int) -> pa.Table:
    """Return readings of fifty devices."""
    numbers = range(first, first + count)
    return pa.table(
        {
            "device": [f"device-{number % 50}" for number in numbers],
            "value": [number / 10 for number in numbers],
            "_offset": pa.array(numbers, pa.int64()),
        }
    )


def collected(root: Path) -> None:
    """Leave the collection of the page."""
    files = [(0, readings(0, 400)), (1, readings(400, 300)), (2, readings(700, 300))]
    TableCollector.at(root, row_group=100).collect(*files, closed=2)


def sections(page: Path, *, with_torch: bool) -> list[str]:
    """Return the sections of a page whose examples need PyTorch, or the others."""
    found = re.split(r"(?m)^(?=## )", page.read_text(encoding="utf-8").replace("```", ""))
    return [each for each in found if (">>> import torch" in each) == with_torch]


def test_the_page_on_training_runs_as_it_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every prompt of it, one after the other."""
    collected(tmp_path / "collected" / "readings")
    monkeypatch.chdir(tmp_path)
    parser, runner = doctest.DocTestParser(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    code = "".join(sections(PAGE, with_torch=False))

    found = runner.run(parser.get_doctest(code, {"timedelta": timedelta}, PAGE.name, str(PAGE), 0))

    assert found.attempted >= 15
    assert found.failed == 0
