"""Staging dead letters: what the report says if that fails."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pytest

from batch_collection.formats.known import FORMATS
from batch_collection.formats.parquet import Parquet
from tests.pipelines import MAIN, run
from tests.tasks import plan, task
from transforms.decoding.decode import DEAD_LETTERS
from transforms.elements.chunk import Chunk
from transforms.write_dead_letters import WriteDeadLetters

if TYPE_CHECKING:
    from pathlib import Path


class Broken(Parquet):
    """Parquet that can't be written, or not be finished."""

    def __init__(self, *, at_the_end: bool) -> None:
        """Break now or then."""
        self._at_the_end = at_the_end

    def writer(self, sink: Any, schema: pa.Schema, compression: str) -> Any:
        """Break, or give a writer that will."""
        if not self._at_the_end:
            message = "broken"
            raise pa.ArrowTypeError(message)
        writer: Any = super().writer(sink, schema, compression)
        writer.close = self._close
        return writer

    def _close(self) -> None:
        raise RuntimeError


@pytest.mark.parametrize("at_the_end", [False, True])
@pytest.mark.parametrize("is_ended", [False, True])
def test_whatever_goes_wrong_fails_the_task(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, at_the_end: bool, is_ended: bool
) -> None:
    """One line in its report, no file, no exception; whether its end comes or the bundle's."""
    monkeypatch.setitem(FORMATS, "parquet", Broken(at_the_end=at_the_end))
    of = task(plan(tmp_path))
    letters = pa.table(
        {
            name: pa.array(
                [0 if name in {"partition", "offset"} else None], DEAD_LETTERS.field(name).type
            )
            for name in DEAD_LETTERS.names
        },
        schema=DEAD_LETTERS,
    )
    elements = [Chunk(of, "attempt", letters)]
    elements += [Chunk(of, "attempt", DEAD_LETTERS.empty_table(), last=True)] * is_ended

    (report,) = (seen.element for seen in run(WriteDeadLetters(), elements, Chunk)[MAIN])

    assert report.failure is not None
    reason = "RuntimeError" if at_the_end else "broken"
    assert report.failure[:2] == (
        "WriteError",
        f"cannot write dead letters of {tmp_path}, cycle=1: {reason}",
    )
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
