"""What is answered over HTTP: to probes, to Prometheus, to a browser."""

from __future__ import annotations

import http.client
import json
import re
import socket
from datetime import timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from batch_collection.errors import CollectionError
from batch_collection.paths import entry_path
from batch_collection.storage.local import LocalStorage
from batch_collection.windows import utc_now
from pipeline.serving.health import Trouble
from pipeline.serving.metrics import RunMetrics
from pipeline.serving.server import Served, serving
from pipeline.serving.views import CollectionView, logged
from tests.builders import Collector, at, dead_letter, message
from transforms.process.events import Away, CycleCommitted

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


class Answer(NamedTuple):
    """What came."""

    code: int
    headers: Mapping[str, str]
    text: str


def ask(url: str, path: str, method: str = "GET", **headers: str) -> Answer:
    """Ask once."""
    connection = http.client.HTTPConnection(url.split("/")[2], timeout=10)
    connection.request(method, path, headers=headers)
    answer = connection.getresponse()
    found = Answer(answer.status, dict(answer.headers), answer.read().decode())
    connection.close()
    return found


@pytest.fixture
def view(tmp_path: Path) -> CollectionView:
    """Give the view of a small collection."""
    storage = LocalStorage(str(tmp_path / "sensor"))
    collector = Collector(storage)
    collector.collect(message(0), message(1), dead_letter(2), boundary="10:31:00")
    collector.collect(message(3, "10:32:10"), message(4, "10:30:10"), boundary="10:32:00")
    return CollectionView("sensor", storage, lambda _: collector.newest, lambda: 12)


def samples(text: str) -> dict[str, float]:
    """Parse metrics as Prometheus does; those without a topic by their names alone."""
    return {
        " ".join([each.name, *each.labels.values()]): each.value
        for family in text_string_to_metric_families(text)
        for each in family.samples
    }


def test_metrics_are_those_of_the_log(view: CollectionView) -> None:
    """By Prometheus' own parser; each has a help and a type."""
    with serving("127.0.0.1", 0, Served(lambda: [view])) as url:
        found = ask(url, "/metrics")
    values = samples(found.text)
    assert found.code == 200
    assert found.headers["Content-Type"].startswith("text/plain; version=")
    expected = {
        "messages_total": 5,
        "rows_total": 3,
        "late_rows_total": 1,
        "files_total": 2,
        "dead_letters_total": 1,
        "closed_windows_total": 1,
        "carry_rows": 1,
        "lag_messages": 12,
        "cycle": 2,
        "closed_through_seconds": at("10:32:00").timestamp(),
        "log_readable": 1,
    }
    assert {name: values[f"batch_collection_{name} sensor"] for name in expected} == expected
    assert values["batch_collection_ready"] == 1
    assert values["process_resident_memory_bytes"] > 1_000_000
    names = set(re.findall(r"(?m)^# TYPE (batch_collection_\w+)", found.text))
    assert names == set(re.findall(r"(?m)^# HELP (batch_collection_\w+) \S", found.text))


def test_open_metrics_are_given_to_who_asks(view: CollectionView) -> None:
    """As Prometheus does."""
    accept = "application/openmetrics-text; version=1.0.0"
    with serving("127.0.0.1", 0, Served(lambda: [view])) as url:
        found = ask(url, "/metrics", Accept=accept)
    assert found.headers["Content-Type"].startswith("application/openmetrics-text")
    assert found.text.endswith("# EOF\n")


def test_a_run_counts_its_cycles_and_how_long_windows_took(view: CollectionView) -> None:
    """From its own events; what a command has committed is no cycle."""
    served = Served(lambda: [view])
    metrics = RunMetrics(served.registry)
    collector = Collector(view.storage)
    collector.newest = view._look(None)  # noqa: SLF001 - whoever collects has it
    entry = collector.collect(message(5, "10:33:00"), boundary="10:34:00")
    metrics(CycleCommitted("/data/sensor", entry, left=0, took=timedelta(seconds=2)))
    metrics(Away("sensor", "no answer", is_of_source=True))
    with serving("127.0.0.1", 0, served) as url:
        values = samples(ask(url, "/metrics").text)
    assert values["batch_collection_cycle_seconds_count sensor"] == 1
    assert values["batch_collection_cycle_seconds_sum sensor"] == 2
    assert values["batch_collection_window_visible_seconds_count sensor"] == 1
    waited = values["batch_collection_window_visible_seconds_sum sensor"]
    assert waited == pytest.approx((utc_now() - at("10:34:00")).total_seconds(), abs=60)
    assert values["batch_collection_retries_total sensor"] == 1


def test_it_is_ready_unless_there_is_a_reason(view: CollectionView) -> None:
    """``/ping`` does not care."""
    reasons: list[str] = []
    with serving("127.0.0.1", 0, Served(lambda: [view], lambda: reasons)) as url:
        assert ask(url, "/ready")[::2] == (200, "ok\n")
        reasons += ["sensor: no answer", "another"]
        assert ask(url, "/ready")[::2] == (503, "sensor: no answer\nanother\n")
        assert ask(url, "/ping")[::2] == (200, "ok\n")
        assert samples(ask(url, "/metrics").text)["batch_collection_ready"] == 0


def test_a_log_that_can_not_be_read_keeps_its_counts_and_hides_no_other(
    view: CollectionView, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is in a metric, in the log, and on the page."""
    storage = LocalStorage(str(tmp_path / "broken"))
    collector = Collector(storage)
    collector.collect(message(0), boundary="10:31:00")
    broken = logged("broken", storage)
    with serving("127.0.0.1", 0, Served(lambda: [broken, view])) as url:
        ask(url, "/metrics")
        collector.collect(message(1), boundary="10:32:00")
        storage.replace(entry_path(2), b"{")
        values = samples(ask(url, "/metrics").text)
        shown = json.loads(ask(url, "/status.json").text)
    assert values["batch_collection_log_readable broken"] == 0
    assert values["batch_collection_rows_total broken"] == 1
    assert values["batch_collection_rows_total sensor"] == 3
    assert "cannot look at" in caplog.text
    assert [each["name"] for each in shown["collections"]] == ["broken", "sensor"]
    assert entry_path(2) in shown["collections"][0]["error"]


class _Links(HTMLParser):
    """Collects what a page would fetch."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, _tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note it."""
        self.found += [value or "" for name, value in attrs if name in {"src", "href"}]


def test_the_page_fetches_nothing_from_elsewhere(view: CollectionView) -> None:
    """Its links are answered; its policy lets a browser load nothing else."""
    troubles = [Trouble(at("10:30:00"), "sensor: <b>no answer")]
    with serving("127.0.0.1", 0, Served(lambda: [view], troubles=lambda: troubles)) as url:
        page = ask(url, "/?a=b")
        links = _Links()
        links.feed(page.text)
        assert links.found
        for link in links.found:
            assert ask(url, f"/{link}").code == 200
        shown = json.loads(ask(url, "/status.json").text)
    assert page.headers["Content-Type"] == "text/html; charset=utf-8"
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
    assert "http" not in page.text.replace("http://www.w3.org/2000/svg", "")
    assert "innerHTML" not in page.text  # what messages hold is text, and no markup
    assert shown["troubles"] == [{"at": "2026-11-22T10:30:00Z", "text": "sensor: <b>no answer"}]
    assert shown["collections"][0]["status"]["totals"]["rows"] == 3


def test_other_questions_are_answered(view: CollectionView) -> None:
    """HEAD as GET without its body; a path that is none names those that are; no POST."""
    with serving("127.0.0.1", 0, Served(lambda: [view])) as url:
        assert ask(url, "/ready", "HEAD")[::2] == (200, "")
        missing = ask(url, "/../etc/passwd")
        assert missing[::2] == (404, "there are: /ping /ready /metrics /status.json /\n")
        assert ask(url, "/ping", "POST").code == 501


def test_an_address_that_is_taken_is_an_error() -> None:
    """Or that is none, in one line."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        told = f"cannot listen at --http=127.0.0.1:{port}: Address already in use"
        with pytest.raises(CollectionError, match=told), serving("127.0.0.1", port, Served(list)):
            pytest.fail("it listens")
    with (
        pytest.raises(CollectionError, match=r"cannot listen at --http=nowhere\.invalid:80"),
        serving("nowhere.invalid", 80, Served(list)),
    ):
        pytest.fail("it listens")
