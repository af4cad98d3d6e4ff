"""Running one transform on some elements, and seeing what comes out."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any, NamedTuple

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.testing.test_pipeline import TestPipeline

if TYPE_CHECKING:
    from collections.abc import Iterable

__all__ = ["Seen", "run"]

MAIN = "main"


class Seen(NamedTuple):
    """An element that came out, and the start of its window in seconds (None: the global one)."""

    element: Any
    window_start: float | None


# the runner works in this process, so what a DoFn of this module keeps can be looked at afterwards
_kept: dict[str, list[Seen]] = defaultdict(list)


def run(
    transform: beam.PTransform, elements: Iterable[Any], hint: Any = Any
) -> dict[str, list[Seen]]:
    """Apply a transform on the DirectRunner's batch runner; give what came out by tag."""
    _kept.clear()
    with TestPipeline(runner="FnApiRunner", options=PipelineOptions([])) as pipeline:
        created = beam.Create(list(elements), reshuffle=False).with_output_types(hint)
        out = pipeline | "Elements" >> created | "Tested" >> transform
        tags = {MAIN: out}
        if not isinstance(out, beam.pvalue.PCollection):
            tags = {MAIN: out[out._main_tag], **{tag: out[tag] for tag in out._tags}}  # noqa: SLF001
        for tag, collection in tags.items():
            _ = collection | f"Keep {tag}" >> beam.ParDo(_KeepFn(tag))
    return dict(_kept)


class _KeepFn(beam.DoFn):
    def __init__(self, tag: str) -> None:
        self._tag = tag

    def process(self, element: Any, window: Any = beam.DoFn.WindowParam) -> None:
        start = getattr(window, "start", None)
        _kept[self._tag].append(Seen(element, None if start is None else float(start)))
