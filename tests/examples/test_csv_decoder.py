"""The decoder of docs/decoders.md, as a user has it."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import batch_collection
from pipeline.cli import main
from tests.collecting import Sending, Stream, dead_letters_of

if TYPE_CHECKING:
    import pytest

    from transforms.sources.kafka.embedded import EmbeddedBroker

ROOT = Path(__file__).parents[2]


def test_the_page_shows_the_example() -> None:
    """From its imports on."""
    page = (ROOT / "docs" / "decoders.md").read_text(encoding="utf-8")
    (shown,) = re.findall(r"(?ms)^```python\n(.*?)^```$", page)
    example = (ROOT / "examples" / "csv_decoder.py").read_text(encoding="utf-8")
    assert example.endswith("\n\n" + shown)


def test_lines_become_rows_and_what_is_none_a_dead_letter(
    embedded: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone, whatever is beside it."""
    monkeypatch.chdir(ROOT / "examples")
    monkeypatch.setattr(sys, "path", list(sys.path))
    stream = Stream(embedded)
    lines = [b"a,1", b"b,2.5", b"c,warm", b"", b"d,3\nd,4", b'"e, f",5']
    stream.send(*map(Sending, lines))
    words = [f"--bootstrap_servers={embedded.bootstrap_servers}", f"--topics={stream.name}"]
    decoder = "--input_format=csv_decoder:decode"
    assert main(["preview", *words, decoder]) == 1
    assert main([*words, decoder, f"--output={tmp_path}", "--once", "--flush"]) == 0
    rows = batch_collection.open(tmp_path / stream.name).table(["device", "value", "_offset"])
    found = {row["_offset"]: (row["device"], row["value"]) for row in rows.to_pylist()}
    assert found == {0: ("a", 1.0), 1: ("b", 2.5), 5: ("e, f", 5.0)}
    letters = dead_letters_of(tmp_path / stream.name)
    assert sorted(offset for _, offset in letters) == [2, 3, 4]
    sys.modules.pop("csv_decoder", None)
