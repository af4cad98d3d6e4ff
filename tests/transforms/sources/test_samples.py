"""Sample messages."""

from __future__ import annotations

import json
from random import Random

from transforms.sources.samples import sample_message


def test_a_message_is_a_json_array_of_records_stamped_by_the_clock() -> None:
    """Each record has the clock's seconds, as they were then, and a value from 0 to 100."""
    seconds = iter([1.5, 2.25, 3.125])

    message = json.loads(sample_message(3, lambda: next(seconds), Random(1)))

    assert [record["timestamp"] for record in message] == [1.5, 2.25, 3.125]
    assert all(0 <= record["value"] <= 100 for record in message)
    assert len({record["value"] for record in message}) == 3
    assert all(record.keys() == {"timestamp", "value"} for record in message)
