"""docs/operating.md: metrics and paths are those that there are."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from prometheus_client.exposition import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from batch_collection.storage.local import LocalStorage
from pipeline.serving.metrics import RunMetrics
from pipeline.serving.server import Served
from pipeline.serving.views import CollectionView
from tests.builders import Collector, message
from transforms.process.events import Away, CycleCommitted

if TYPE_CHECKING:
    import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "operating.md").read_text(encoding="utf-8")
SUFFIXES = {"counter": "_total"}


def exposed(root: Path) -> dict[str, str]:
    """Return the names and types of all metrics of a run that has done everything."""
    collector = Collector(LocalStorage(str(root / "sensor")))
    collector.collect(message(0), boundary="10:31:00")
    entry = collector.newest
    assert entry is not None
    view = CollectionView("sensor", collector.storage, lambda _: entry, lambda: 1)
    served = Served(lambda: [view])
    metrics = RunMetrics(served.registry)
    metrics(CycleCommitted("/data/sensor", entry, left=0, took=timedelta(seconds=1)))
    metrics(Away("sensor", "no answer", is_of_source=True))
    text = generate_latest(served.registry).decode()
    families = text_string_to_metric_families(text)
    return {
        each.name + SUFFIXES.get(each.type, ""): each.type
        for each in families
        if each.name.startswith("batch_collection_") and not each.name.endswith("_created")
    }


def test_the_table_has_each_metric_and_no_other(tmp_path: Path) -> None:
    """With its type; alerts name metrics that there are."""
    rows = re.findall(r"(?m)^\| `(\w+)` \| (counter|gauge|histogram) \|", PAGE)
    shown = {f"batch_collection_{name}": kind for name, kind in rows}
    there = exposed(tmp_path)
    assert shown == there
    alerts = next(each for each in blocks() if each.startswith("# alerts"))
    assert set(re.findall(r"batch_collection_\w+", alerts)) <= there.keys()


def blocks() -> list[str]:
    """Return the page's blocks of YAML."""
    return re.findall(r"(?ms)^```yaml\n(.*?)^```$", PAGE)


def test_examples_are_yaml() -> None:
    """Whole ones."""
    scrape, alerts = map(yaml.safe_load, blocks())
    assert scrape["rule_files"] == ["alerts.yaml"]
    assert all({"alert", "expr"} <= rule.keys() for rule in alerts["groups"][0]["rules"])


def test_the_picture_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    """And the page that it shows is what is installed."""
    monkeypatch.chdir(Path(__file__).parent.parent)
    (picture,) = re.findall(r"\((images/[^)]*)\)", PAGE)
    assert Path("docs", picture).read_bytes().startswith(b"\x89PNG")
    assert Path("pipeline", "serving", "page.html").exists()
