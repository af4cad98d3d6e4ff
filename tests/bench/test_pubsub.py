"""That the measurement of subscriptions runs and measures what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.pubsub import backlog, pulled

if TYPE_CHECKING:
    from tests.services.pubsub import PubSubServer


@pytest.mark.slow
def test_ours_and_a_loop_collect_from_a_real_server(pstest: PubSubServer) -> None:
    """The loop takes all, ours ends with nine tenths, and is audited."""
    assert pulled("holding", pstest, 1_000).messages == 1_000
    assert 900 <= pulled("ours", pstest, 1_000).messages <= 1_000


@pytest.mark.slow
def test_a_backlog_of_two_hours_is_collected_window_by_window() -> None:
    """Five times what may be held waits, a minute out of order: a file a window, no late rows."""
    found = backlog(10_000, "--max_leased=2000")
    assert found.rows == 10_000
    assert found.late == 0
    assert 120 <= found.windows <= 122
    assert found.files == found.windows
